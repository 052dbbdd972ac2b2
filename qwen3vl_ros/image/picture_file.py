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
    is_file = path.is_file()  # OpenCV would log of its own that it is not
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR) if is_file else None
    if pixels is None:
        raise FrameError(f"cannot read a picture, expected a PNG or JPEG file: {path}")
    return rgb_from_bgr(pixels)


def rgb_from_bgr(bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8, as OpenCV holds colours and as we do."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
