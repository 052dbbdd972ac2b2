# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CameraInfo into pinhole intrinsics, and a distorted picture into a pinhole one.

The core knows pinhole cameras only. A distorted image and the depth registered to it are
rectified here to a pinhole camera of the same K, and boxes found in the rectified picture are led
back to pixels of the picture as it came. What lies beyond the border of that pinhole view (the
rim of a fisheye image) is not looked at.

Pixels: centres are integers, so binning and scaling shift the principal point by half pixels;
image_geometry leaves that term out (a difference below half a pixel). Boxes are measured from the
picture's corner: one from 3 to 8 holds the pixels 3 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo

from ..errors import FrameError
from ..scene.camera import Intrinsics

# Lengths of D that each model may have (REP 104; OpenCV takes these for the rational model).
D_LENGTHS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
# Points per side of a box that are led through the lens, where straight edges become curves.
POINTS_PER_SIDE = 9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rectification:
    """A lens, and the pinhole camera of the same K that we look through instead.

    Attributes:
        intrinsics: of both pictures.
        D: distortion coefficients, as many as the model has.
        fisheye: True for the equidistant model.
        map_u: (h, w) float32, column in the raw picture of each rectified pixel.
        map_v: (h, w) float32, row likewise.
    """

    intrinsics: Intrinsics
    D: npt.NDArray[np.float64]
    fisheye: bool
    map_u: npt.NDArray[np.float32]
    map_v: npt.NDArray[np.float32]

    def rectified_image(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8; black where the lens did not look."""
        rectified: npt.NDArray[np.uint8] = cv2.remap(
            image, self.map_u, self.map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        return rectified

    def rectified_depth(self, depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(h, w) float32 metres along z; NaN where the lens did not look. Never mixes depths."""
        rectified: npt.NDArray[np.float32] = cv2.remap(
            depth_m,
            self.map_u,
            self.map_v,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(float("nan"),),
        )
        return rectified

    def raw_uv_px(self, uv_px: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, 2) pixels of the raw picture of (N, 2) pixels of the rectified one."""
        K = self.intrinsics.K
        rays = self.intrinsics.deproject(uv_px[:, 0], uv_px[:, 1], np.ones(len(uv_px)))
        zero = np.zeros(3)
        if self.fisheye:
            raw, _ = cv2.fisheye.projectPoints(rays[None], zero, zero, K, self.D)
        else:
            raw, _ = cv2.projectPoints(rays[None], zero, zero, K, self.D)
        return np.asarray(raw, np.float64).reshape(-1, 2)

    def raw_xyxy_px(self, xyxy_px: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(4,) the upright box in the raw picture around a box of the rectified one, clipped."""
        # Boxes are measured from the picture's corner, points from the first pixel's centre.
        left, top, right, bottom = xyxy_px - 0.5
        along = np.linspace(0, 1, POINTS_PER_SIDE)
        u, v = left + (right - left) * along, top + (bottom - top) * along
        border = np.concatenate(
            [
                np.stack([u, np.full_like(u, top)], axis=1),
                np.stack([u, np.full_like(u, bottom)], axis=1),
                np.stack([np.full_like(v, left), v], axis=1),
                np.stack([np.full_like(v, right), v], axis=1),
            ]
        )
        size = (self.intrinsics.width, self.intrinsics.height)
        raw = np.clip(self.raw_uv_px(border) + 0.5, 0, size)
        return np.concatenate([raw.min(axis=0), raw.max(axis=0)])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibration:
    """Intrinsics of the picture we look at, and how to make it when the lens distorts."""

    intrinsics: Intrinsics
    rectification: Rectification | None = None


def calibration_from_info(
    info: CameraInfo, *, width: int, height: int, image_is_rectified: bool
) -> Calibration:
    """Calibration of a `width` x `height` image whose camera_info this is.

    Region of interest and binning are applied; a picture that is otherwise smaller or larger is
    taken as the same view at another scale when its aspect is the same.

    Raises:
        FrameError: uncalibrated (K of zeros), of another view, or of an unknown lens.
    """
    if image_is_rectified:
        K = np.array(info.p, float).reshape(3, 4)[:, :3]
    else:
        K = np.array(info.k, float).reshape(3, 3)
    if not K[0, 0] > 0:
        raise FrameError(
            f"camera_info has {'P' if image_is_rectified else 'K'}[0] = {K[0, 0]:g}: the camera "
            "is not calibrated, so nothing can be placed in 3D; calibrate it or load its "
            "calibration in the driver"
        )
    intrinsics = _in_image(info, K, width=width, height=height)
    lens_distorts = not image_is_rectified and any(info.d)
    if not lens_distorts:
        return Calibration(intrinsics=intrinsics)
    return Calibration(intrinsics=intrinsics, rectification=_rectification(info, intrinsics))


def _in_image(
    info: CameraInfo, K: npt.NDArray[np.float64], *, width: int, height: int
) -> Intrinsics:
    if not (info.width and info.height):
        raise FrameError(
            f"camera_info says its calibration is of a {info.width} x {info.height} image; "
            "expected the size of the image"
        )
    view_width, view_height = info.width, info.height
    # All zeros means the full picture (CameraInfo.msg).
    if info.roi.width and info.roi.height:
        K = K.copy()
        K[0, 2] -= info.roi.x_offset
        K[1, 2] -= info.roi.y_offset
        view_width, view_height = info.roi.width, info.roi.height
    intrinsics = Intrinsics(K=K, width=view_width, height=view_height)
    # Binning 0 means 1 (CameraInfo.msg).
    binned_width = view_width // max(info.binning_x, 1)
    binned_height = view_height // max(info.binning_y, 1)
    scale_u, scale_v = width / max(binned_width, 1), height / max(binned_height, 1)
    # One pixel of rounding is no other view.
    if abs(scale_u - scale_v) * max(binned_width, binned_height) > 1:
        raise FrameError(
            f"image is {width} x {height} pixels, camera_info is of {binned_width} x "
            f"{binned_height} (binning and region applied): not the same view; publish the "
            "camera_info that belongs to this image"
        )
    return intrinsics.resized(width=width, height=height)


def _rectification(info: CameraInfo, intrinsics: Intrinsics) -> Rectification:
    lengths = D_LENGTHS.get(info.distortion_model)
    if lengths is None:
        raise FrameError(
            f"camera_info has distortion model '{info.distortion_model[:64]}', expected one of "
            f"{', '.join(D_LENGTHS)}; subscribe to a rectified image and set image_is_rectified"
        )
    if len(info.d) not in lengths or not np.all(np.isfinite(info.d)):
        raise FrameError(
            f"camera_info has D of {len(info.d)} numbers for '{info.distortion_model}', expected "
            f"{' or '.join(map(str, lengths))} finite ones"
        )
    D, K = np.array(info.d, float), intrinsics.K
    size = (intrinsics.width, intrinsics.height)
    fisheye = info.distortion_model == "equidistant"
    # OpenCV's general functions know nothing of the equidistant model; cv2.fisheye is for it.
    rectify_map = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    map_u, map_v = rectify_map(K, D, np.eye(3), K, size, cv2.CV_32FC1)
    return Rectification(intrinsics=intrinsics, D=D, fisheye=fisheye, map_u=map_u, map_v=map_v)
