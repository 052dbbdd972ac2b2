# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera: one image, its depth and intrinsics, and the moment it was taken.

Knows nothing about ROS or the model; everything else speaks of cameras through this file.

Frame:  camera optical frame, x right, y down, z forward (REP 103).
Pixels: (u, v) = (column, row); the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import FrameError


@dataclass(frozen=True, kw_only=True, slots=True)
class Intrinsics:
    """Intrinsics of a rectified pinhole image.

    Attributes:
        K: (3, 3) float64, pixels, `[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`.
        width: image width, pixels.
        height: image height, pixels.
    """

    K: npt.NDArray[np.float64]
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.K.shape != (3, 3):
            raise FrameError(f"camera matrix K has shape {self.K.shape}, expected (3, 3)")
        if not (np.all(np.isfinite(self.K)) and self.K[0, 0] > 0 and self.K[1, 1] > 0):
            raise FrameError(
                f"camera matrix K is {self.K.tolist()}, expected finite numbers with positive "
                "focal lengths fx, fy in pixels: calibrate the camera or fix its camera_info"
            )

    def resized(self, *, width: int, height: int) -> Intrinsics:
        """Intrinsics of the same view after the image is resized."""
        sx, sy = width / self.width, height / self.height
        # Pixel centres are integers, so scaling happens about the image corner (-0.5, -0.5).
        scale = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
        return Intrinsics(K=scale @ self.K, width=width, height=height)

    def project(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Pixels (N, 2) of camera points (N, 3) metres; points at z <= 0 become NaN."""
        points = np.atleast_2d(points)
        z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
        u = self.K[0, 0] * points[:, 0] / z + self.K[0, 2]
        v = self.K[1, 1] * points[:, 1] / z + self.K[1, 2]
        return np.stack([u, v], axis=1)

    def deproject(
        self, u: npt.NDArray[np.float64], v: npt.NDArray[np.float64], z: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Camera points (N, 3) metres of pixels `u`, `v` (N,) at depth `z` (N,) metres."""
        x = (u - self.K[0, 2]) / self.K[0, 0] * z
        y = (v - self.K[1, 2]) / self.K[1, 1] * z
        return np.stack([x, y, z], axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One moment of one camera.

    Attributes:
        image: (h, w, 3) uint8, RGB.
        stamp_ns: when the light fell in, nanoseconds since the epoch of the camera's clock.
        frame_id: name of the camera optical frame.
        intrinsics: of `image`; None when the camera is uncalibrated (then nothing becomes 3D).
        depth_m: (h, w) float32, metres along z, aligned to `image`; NaN where unknown; None
            when there is no depth.
    """

    image: npt.NDArray[np.uint8]
    stamp_ns: int
    frame_id: str
    intrinsics: Intrinsics | None = None
    depth_m: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise FrameError(
                f"image is {self.image.dtype} {self.image.shape}, expected uint8 (h, w, 3) RGB"
            )
        h, w = self.image.shape[:2]
        if h == 0 or w == 0:
            raise FrameError(f"image is {w} x {h} pixels, expected at least 1 x 1")
        if self.intrinsics is not None and (self.intrinsics.width, self.intrinsics.height) != (
            w,
            h,
        ):
            raise FrameError(
                f"intrinsics are of a {self.intrinsics.width} x {self.intrinsics.height} image, "
                f"this one is {w} x {h}; resize them with Intrinsics.resized"
            )
        if self.depth_m is not None and self.depth_m.shape != (h, w):
            raise FrameError(
                f"depth has shape {self.depth_m.shape}, expected ({h}, {w}) as of the image: "
                "depth registered to it (depth_image_proc register)"
            )
