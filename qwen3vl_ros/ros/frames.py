# SPDX-License-Identifier: Apache-2.0
"""A moment of ROS messages into a `Frame` of the core.

Knows no model and no transforms. A picture that cannot be read is an error; depth or calibration
that cannot be used costs the third dimension only, and is said in a note.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo

from ..errors import FrameError
from ..scene.camera import Frame
from .calibration import Calibration, Rectification, calibration_from_info
from .camera_pairing import Moment, stamp_ns
from .images import depth_from_image, rgb_from_image


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A frame to look at, and how its pixels relate to those of the message it came from.

    Attributes:
        frame: rectified; its boxes are in rectified pixels.
        rectification: None when the message's pixels are the frame's.
        depth_fault: why there is no depth, one sentence; "" when there is, or nobody sends any.
        calibration_fault: why there are no intrinsics, one sentence; "" when there are.
        calibration_note: what is odd about a calibration that is used; "" when nothing is.
    """

    frame: Frame
    rectification: Rectification | None = None
    depth_fault: str = ""
    calibration_fault: str = ""
    calibration_note: str = ""


class FrameReader:
    """Reads moments of one camera; keeps its last calibration, whose lens maps take time to make.

    Owned by the worker thread.
    """

    def __init__(self) -> None:
        self._info: CameraInfo | None = None
        self._size_and_kind: tuple[int, int, bool] = (0, 0, False)
        self._calibration: Calibration | None = None

    def read(self, moment: Moment, *, image_is_rectified: bool) -> View:
        """The view of a moment.

        Raises:
            FrameError: the picture itself cannot be read.
        """
        image = rgb_from_image(moment.image)
        height, width = image.shape[:2]
        calibration, calibration_fault = self._calibration_of(
            moment.camera_info, width=width, height=height, image_is_rectified=image_is_rectified
        )
        depth_m, depth_fault = _depth_of(moment, width=width, height=height)
        rectification = calibration.rectification if calibration else None
        if rectification is not None:
            image = rectification.rectified_image(image)
            depth_m = rectification.rectified_depth(depth_m) if depth_m is not None else None
        return View(
            frame=Frame(
                image=image,
                stamp_ns=stamp_ns(moment.image),
                frame_id=moment.image.header.frame_id,
                intrinsics=calibration.intrinsics if calibration else None,
                depth_m=depth_m,
            ),
            rectification=rectification,
            depth_fault=depth_fault,
            calibration_fault=calibration_fault,
            calibration_note=_calibration_note(moment),
        )

    def _calibration_of(
        self, info: CameraInfo | None, *, width: int, height: int, image_is_rectified: bool
    ) -> tuple[Calibration | None, str]:
        if info is None:
            return None, (
                "no camera_info has come: nothing can be placed in 3D; is the topic 'camera_info' "
                "published and remapped?"
            )
        size_and_kind = (width, height, image_is_rectified)
        if self._calibration is None or not (
            size_and_kind == self._size_and_kind and _same_camera(info, self._info)
        ):
            self._calibration = None
            try:
                self._calibration = calibration_from_info(
                    info, width=width, height=height, image_is_rectified=image_is_rectified
                )
            except FrameError as exc:
                return None, str(exc)
            self._info, self._size_and_kind = info, size_and_kind
        return self._calibration, ""


def _depth_of(
    moment: Moment, *, width: int, height: int
) -> tuple[npt.NDArray[np.float32] | None, str]:
    if moment.depth is None:
        if moment.depth_expected:
            return None, _no_depth_near(moment)
        return None, ""
    if moment.depth.header.frame_id != moment.image.header.frame_id:
        return None, (
            f"depth is in frame '{moment.depth.header.frame_id}', the image in "
            f"'{moment.image.header.frame_id}'; expected depth registered to the image "
            "(depth_image_proc register, or the camera's aligned depth topic)"
        )
    try:
        depth_m = depth_from_image(moment.depth)
    except FrameError as exc:
        return None, str(exc)
    if depth_m.shape != (height, width):
        return None, (
            f"depth is {depth_m.shape[1]} x {depth_m.shape[0]} pixels, the image {width} x "
            f"{height}; expected depth registered to the image"
        )
    if np.isnan(depth_m).all():
        return None, (
            "depth is unknown in every pixel (zeros or NaN): is the depth camera covered, too "
            "near, or its projector off?"
        )
    return depth_m, ""


def _no_depth_near(moment: Moment) -> str:
    off_s = moment.nearest_depth_off_s
    if off_s is None:
        return "no depth image is held, though someone publishes 'depth': does it arrive at all?"
    return (
        f"the nearest depth image is {off_s:.3f} s from the image, more than depth_slop_s: "
        "synchronise the two, or raise depth_slop_s"
    )


def _calibration_note(moment: Moment) -> str:
    info, image = moment.camera_info, moment.image
    if info is None or info.header.frame_id == image.header.frame_id:
        return ""
    return (
        f"camera_info is in frame '{info.header.frame_id}', the image in "
        f"'{image.header.frame_id}'; used the image's"
    )


def _same_camera(a: CameraInfo, b: CameraInfo | None) -> bool:
    return b is not None and all(
        (
            (a.width, a.height, a.binning_x, a.binning_y)
            == (b.width, b.height, b.binning_x, b.binning_y),
            a.distortion_model == b.distortion_model,
            a.roi == b.roi,
            np.array_equal(a.k, b.k),
            np.array_equal(a.p, b.p),
            np.array_equal(a.d, b.d),
        )
    )
