# SPDX-License-Identifier: Apache-2.0
"""A picture on disk becomes a frame, as a camera of that focal length would have taken it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..image.picture_file import pixels_of_file
from ..scene.camera import Frame, Intrinsics

FRAME_ID = "camera"  # files name no frame


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
