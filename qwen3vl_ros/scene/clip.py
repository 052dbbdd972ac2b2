# SPDX-License-Identifier: Apache-2.0
"""Several moments of one camera in a row.

Knows neither where the frames come from (a buffer of the node, a file) nor what a model makes of
them. Stamps are the camera's own and may be uneven.

Time: seconds from the first frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import FrameError
from .camera import Frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """Frames of one camera, in the order of their stamps.

    Attributes:
        frames: at least one, all of one size and camera, each later than the one before.
    """

    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise FrameError("the clip holds no frame, expected at least one")
        first = self.frames[0]
        for number, (before, frame) in enumerate(pairwise(self.frames), start=2):
            if frame.image.shape != first.image.shape:
                raise FrameError(
                    f"frame {number} of the clip is {_size(frame)} pixels, expected "
                    f"{_size(first)} as of the first; resize it, or begin another clip where the "
                    "size changes"
                )
            if frame.frame_id != first.frame_id:
                raise FrameError(
                    f"frame {number} of the clip is of the camera '{frame.frame_id}', expected "
                    f"'{first.frame_id}' as of the first; make one clip of each camera"
                )
            if frame.stamp_ns <= before.stamp_ns:
                raise FrameError(
                    f"frame {number} of the clip has the stamp {frame.stamp_ns} ns, expected one "
                    f"after {before.stamp_ns} ns of the frame before it; put the frames in the "
                    "order of their stamps and leave out repeated ones"
                )

    @property
    def stamp_ns(self) -> int:
        """Of the first frame."""
        return self.frames[0].stamp_ns

    @property
    def frame_id(self) -> str:
        """Of the camera."""
        return self.frames[0].frame_id

    @property
    def width(self) -> int:
        """Of every frame, pixels."""
        return int(self.frames[0].image.shape[1])

    @property
    def height(self) -> int:
        """Of every frame, pixels."""
        return int(self.frames[0].image.shape[0])

    @property
    def times_s(self) -> tuple[float, ...]:
        """Of every frame, seconds from the first."""
        return tuple((frame.stamp_ns - self.stamp_ns) / 1e9 for frame in self.frames)

    @property
    def duration_s(self) -> float:
        """From the first frame to the last; 0 of a single one."""
        return (self.frames[-1].stamp_ns - self.stamp_ns) / 1e9


def evenly(frames: Sequence[Frame], count: int) -> tuple[Frame, ...]:
    """`count` different frames, nearest to evenly spaced times, the first and last among them.

    Args:
        frames: at least `count`, in the order of their stamps.
        count: at least 2.
    """
    stamps = np.array([frame.stamp_ns for frame in frames], np.int64)
    wanted = np.linspace(0, float(stamps[-1] - stamps[0]), count)
    chosen: list[int] = []
    for place, time_ns in enumerate(wanted):
        # One is left for each that is still to come, whatever the gaps between stamps.
        first, last = (chosen[-1] + 1 if chosen else 0), len(frames) - (count - place)
        after_ns = stamps[first : last + 1] - stamps[0]
        chosen.append(first + int(np.argmin(np.abs(after_ns - time_ns))))
    return tuple(frames[i] for i in chosen)


def _size(frame: Frame) -> str:
    height, width = frame.image.shape[:2]
    return f"{width} x {height}"
