# SPDX-License-Identifier: Apache-2.0
"""Pictures and videos on disk become frames and clips.

Knows file formats by what OpenCV reads. Stamps of a video file are its own presentation times; of
a folder of pictures they are the files' names, if those are nanoseconds (as tools that unpack bags
name them), else a rate that the caller knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import FrameError
from ..image.picture_file import pixels_of_file, rgb_from_bgr
from ..scene.camera import Frame, Intrinsics
from ..scene.clip import Clip
from .command import PICTURE_SUFFIXES

FRAME_ID = "camera"  # files name no frame
# Qwen3-VL looks at a video twice a second, 4 to 768 times (its preprocessor config). Twice as many
# frames are kept, for it to choose from; all of a long video would not fit into memory.
LOOKS_PER_SECOND = 2.0
LEAST_LOOKS, MOST_LOOKS = 4, 768
_LEAST_STAMP_NS = 10**15  # eleven days after the epoch: smaller numbers only count pictures


def frame_from_file(path: Path, *, focal_px: float | None = None) -> Frame:
    """A picture; with a focal length it has a principal point in its middle, too.

    Raises:
        FrameError: it cannot be read.
    """
    image = pixels_of_file(path)
    return Frame(
        image=image,
        stamp_ns=0,
        frame_id=FRAME_ID,
        intrinsics=None if focal_px is None else centred(image, focal_px, focal_px),
    )


def centred(image: npt.NDArray[np.uint8], fx: float, fy: float) -> Intrinsics:
    """Intrinsics of a picture (h, w, 3) whose principal point is its middle."""
    height, width = image.shape[:2]
    K = np.array([[fx, 0, (width - 1) / 2], [0, fy, (height - 1) / 2], [0, 0, 1]])
    return Intrinsics(K=K, width=width, height=height)


def clip_from_path(path: Path, *, fps: float | None) -> Clip:
    """A video file, or a folder of pictures in the order of their names.

    Args:
        path: of either.
        fps: pictures a second of a folder whose names are no stamps; a file knows its own.

    Raises:
        FrameError: nothing can be read, or a folder's times are not known or no times.
    """
    if not path.exists():
        raise FrameError(
            f"the video does not exist, expected a video file or a folder of pictures: {path}"
        )
    frames = _frames_of_folder(path, fps) if path.is_dir() else _frames_of_file(path)
    return Clip(frames=tuple(frames))


def _frames_of_folder(folder: Path, fps: float | None) -> Iterator[Frame]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise FrameError(
            f"the folder holds no picture, expected {', '.join(PICTURE_SUFFIXES)}: {folder}"
        )
    names = [int(file.stem) if file.stem.isdecimal() else 0 for file in files]
    if min(names) >= _LEAST_STAMP_NS:
        stamped = sorted(zip(names, files, strict=True))
    elif fps is not None:
        if not 0 < fps < math.inf:
            raise FrameError(f"--fps is {fps:g}, expected a positive number of pictures a second")
        stamped = [(round(i * 1e9 / fps), file) for i, file in enumerate(files)]
    else:
        raise FrameError(
            f"the pictures are not named by stamps in nanoseconds (the first is "
            f"'{files[0].name}'), so their times are not known; say --fps: {folder}"
        )
    step_s = _step_s((stamped[-1][0] - stamped[0][0]) * 1e-9)
    next_ns = stamped[0][0]
    for stamp_ns, file in stamped:
        if stamp_ns >= next_ns:
            next_ns = stamp_ns + round(step_s * 1e9)
            yield Frame(image=pixels_of_file(file), stamp_ns=stamp_ns, frame_id=FRAME_ID)


def _frames_of_file(path: Path) -> Iterator[Frame]:
    video = cv2.VideoCapture(str(path)) if path.is_file() else None
    if video is None or not video.isOpened():
        raise FrameError(
            f"cannot read a video, expected a file that OpenCV reads or a folder of pictures: "
            f"{path}"
        )
    count = max(video.get(cv2.CAP_PROP_FRAME_COUNT), 0.0)
    rate = video.get(cv2.CAP_PROP_FPS)
    step_s = _step_s(count / rate if rate > 0 else 0.0)
    next_s, last_ns = 0.0, -1
    try:
        while True:
            is_there, pixels = video.read()
            if not is_there:
                break
            stamp_ns = round(video.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if stamp_ns <= last_ns or stamp_ns * 1e-9 < next_s:
                continue
            last_ns, next_s = stamp_ns, stamp_ns * 1e-9 + step_s
            yield Frame(image=rgb_from_bgr(pixels), stamp_ns=stamp_ns, frame_id=FRAME_ID)
    finally:
        video.release()
    if last_ns < 0:
        raise FrameError(f"the video holds no frame that OpenCV can decode: {path}")


def _step_s(duration_s: float) -> float:
    """Seconds between frames that are kept; 0 keeps every one."""
    looks = min(max(duration_s * LOOKS_PER_SECOND, LEAST_LOOKS), MOST_LOOKS)
    return duration_s / (2 * looks)
