# SPDX-License-Identifier: Apache-2.0
"""A picture on disk becomes pixels; knows file formats by what OpenCV reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import FrameError


def pixels_of_file(path: Path) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB, turned as its EXIF data say.

    Raises:
        FrameError: it cannot be read.
    """
    # OpenCV would log of its own that it is no file.
    if not path.exists():
        raise FrameError(f"the picture does not exist, expected a PNG or JPEG file: {path}")
    if path.is_dir():
        raise FrameError(f"the picture is a folder, expected a PNG or JPEG file: {path}")
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise FrameError(
            f"the file cannot be read as a picture, expected a whole PNG or JPEG file that this "
            f"user may read: {path}"
        )
    return rgb_from_bgr(pixels)


def rgb_from_bgr(bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8, as OpenCV holds colours and as we do."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
