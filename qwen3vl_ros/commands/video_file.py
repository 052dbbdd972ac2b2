# SPDX-License-Identifier: Apache-2.0
"""A video on disk becomes a clip: the frames that a model looks at, and no others in memory.

Knows video formats by what OpenCV reads. Stamps of a video file are its own presentation times; of
a folder of pictures they are the files' names, if those are nanoseconds (as tools that unpack bags
name them), else a rate that the caller knows.

A file is gone through twice: once for the times of its frames, which no header tells reliably,
then for the pictures of those that were chosen. An hour is looked at 768 times, which at 1920 x
1080 are 4.8 GB: frames that would take more than `KEPT_BYTES` together are kept smaller. What is
left of them is many times what a model is shown of so many (25 million pixels of all together).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import FrameError
from ..image.picture_file import pixels_of_file, rgb_from_bgr
from ..image.video import sampled_indices
from ..image.video_config import Looks
from ..scene.answers import Response, TimedBox
from ..scene.camera import Frame
from ..scene.clip import Clip
from ..scene.detections import Task
from .command import PICTURE_SUFFIXES
from .views import FRAME_ID

KEPT_BYTES = 512 * 10**6
_LEAST_STAMP_NS = 10**15  # eleven days after the epoch: smaller numbers only count pictures

_Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFile:
    """A clip, and how large it is on disk.

    Attributes:
        clip: its frames may be smaller than those on disk.
        scale_uv: pixels on disk for one of the clip's, by column and row.
    """

    clip: Clip
    scale_uv: tuple[float, float]

    def in_its_pixels(self, response: Response) -> Response:
        """An answer about the clip, with its boxes in the pixels on disk."""
        if response.query.task is not Task.TRACK:
            return response
        scale = np.array([*self.scale_uv, *self.scale_uv])
        boxes = cast("tuple[TimedBox, ...]", response.value)
        return replace(
            response, value=tuple(replace(box, xyxy_px=box.xyxy_px * scale) for box in boxes)
        )


def video_from_path(path: Path, *, fps: float | None, looks: Looks) -> VideoFile:
    """What a model looks at of a video file, or of a folder of pictures in order of their names.

    Args:
        path: of either.
        fps: pictures a second of a folder whose names are no stamps; a file knows its own.
        looks: how often the model looks.

    Raises:
        FrameError: nothing can be read, or a folder's times are not known or no times.
    """
    if not path.exists():
        raise FrameError(
            f"the video does not exist, expected a video file or a folder of pictures: {path}"
        )
    if path.is_dir():
        stamped = _stamped_pictures(path, fps)
        chosen = sampled_indices([stamp_ns for stamp_ns, _ in stamped], looks)
        images: Iterator[_Image] = (pixels_of_file(stamped[i][1]) for i in chosen)
        return _kept([stamped[i][0] for i in chosen], images)
    times = _times_of_file(path)
    chosen = sampled_indices([stamp_ns for stamp_ns, _ in times], looks)
    images = _images_of_file(path, [times[i][1] for i in chosen])
    return _kept([times[i][0] for i in chosen], images)


def _kept(stamps_ns: Sequence[int], images: Iterator[_Image]) -> VideoFile:
    """Frames of these stamps and images (h, w, 3), together within `KEPT_BYTES`."""
    frames: list[Frame] = []
    size, smaller = (0, 0), (0, 0)
    for stamp_ns, image in zip(stamps_ns, images, strict=True):
        if not frames:
            size = image.shape[:2]
            share = math.sqrt(KEPT_BYTES / (image.nbytes * len(stamps_ns)))
            smaller = (max(1, int(size[0] * share)), max(1, int(size[1] * share)))
        # One of another size is left for the clip to name.
        if image.shape[:2] == size and smaller < size:
            image = np.asarray(
                cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA), np.uint8
            )
        frames.append(Frame(image=image, stamp_ns=stamp_ns, frame_id=FRAME_ID))
    height, width = frames[0].image.shape[:2]
    return VideoFile(clip=Clip(frames=tuple(frames)), scale_uv=(size[1] / width, size[0] / height))


def _stamped_pictures(folder: Path, fps: float | None) -> list[tuple[int, Path]]:
    """Stamp and file of every picture, in order."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise FrameError(
            f"the folder holds no picture, expected {', '.join(PICTURE_SUFFIXES)}: {folder}"
        )
    names = [int(file.stem) if file.stem.isdecimal() else 0 for file in files]
    if min(names) >= _LEAST_STAMP_NS:
        return sorted(zip(names, files, strict=True))
    if fps is None:
        raise FrameError(
            f"the pictures are not named by stamps in nanoseconds (the first is "
            f"'{files[0].name}'), so their times are not known; say --fps: {folder}"
        )
    if not 0 < fps < math.inf:
        raise FrameError(f"--fps is {fps:g}, expected a positive number of pictures a second")
    return [(round(i * 1e9 / fps), file) for i, file in enumerate(files)]


def _times_of_file(path: Path) -> list[tuple[int, int]]:
    """Stamp and number of every frame that is later than the one before."""
    times: list[tuple[int, int]] = []
    for number, video in _grabbed(path):
        stamp_ns = round(video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if stamp_ns > (times[-1][0] if times else -1):
            times.append((stamp_ns, number))
    if not times:
        raise FrameError(f"the video holds no frame that OpenCV can decode: {path}")
    return times


def _images_of_file(path: Path, numbers: Sequence[int]) -> Iterator[_Image]:
    """The frames of these numbers, which rise, one at a time."""
    wanted = iter(numbers)
    next_one = next(wanted, None)
    for number, video in _grabbed(path):
        if number == next_one:
            is_there, pixels = video.retrieve()
            if not is_there:
                raise FrameError(f"frame {number} of the video cannot be decoded: {path}")
            yield rgb_from_bgr(pixels)
            next_one = next(wanted, None)
            if next_one is None:
                return


def _grabbed(path: Path) -> Iterator[tuple[int, cv2.VideoCapture]]:
    """The video at each of its frames in turn, with the frame's number."""
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise FrameError(
                f"cannot read a video, expected a file that OpenCV reads or a folder of pictures: "
                f"{path}"
            )
        number = 0
        while video.grab():
            yield number, video
            number += 1
    finally:
        video.release()
