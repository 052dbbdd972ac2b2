# SPDX-License-Identifier: Apache-2.0
"""What the tasks beyond the spatial ones find: text, counts, moments, boxes in time, zooms, steps.

Frozen values, nothing computed. Knows neither the model's answer formats (`language/answers.py`)
nor any message type.

Pixels: of the original image, (u, v) = (column, row), as `xyxy_px` = left, top, right, bottom.
Time:   seconds from the first frame of the video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .tools import ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSpan:
    """A piece of text in a picture: `text` as read, `xyxy_px` (4,) float64, pixels."""

    text: str
    xyxy_px: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How many, and which: `uv_px` (N, 2) float64, pixels, a point on each."""

    uv_px: npt.NDArray[np.float64]

    @property
    def number(self) -> int:
        """How many; 0 means "looked, and saw none"."""
        return len(self.uv_px)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When something happens.

    Attributes:
        start_s: seconds from the first frame of the video.
        end_s: likewise; never before `start_s`, equal to it for an instant.
        label: what happens, as the model put it; empty where the question said it.
    """

    start_s: float
    end_s: float
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedBox:
    """Something in one frame of a video.

    Attributes:
        time_s: of the frame, as the model put it: seconds from the first frame.
        xyxy_px: (4,) float64, pixels.
        label: what the model called it; may be empty, the question said what it is.
    """

    time_s: float
    xyxy_px: npt.NDArray[np.float64]
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Zoom:
    """A wish to see part of a picture larger.

    Attributes:
        picture: index, from 0, among the pictures that the user sent; crops do not count.
        xyxy_px: (4,) float64, pixels of that picture, whole, however often it was zoomed into.
        label: what the model hopes to see there.
    """

    picture: int
    xyxy_px: npt.NDArray[np.float64]
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One turn of a model that may call tools.

    Attributes:
        words: what it says, untrusted; without calls, its answer. May be empty beside calls.
        calls: what it asks to have done, in order, untrusted.
    """

    words: str
    calls: tuple[ToolCall, ...] = ()
