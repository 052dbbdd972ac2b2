# SPDX-License-Identifier: Apache-2.0
"""One rendered view as the messages a robot would publish of that moment.

Knows no topics and no clock: messages are made once, and stamped each time they go out.

Truth: every solid of which at least one pixel shows. `class_id` is its name, `id` its number in
the scene, and `score` the share of its outline that shows (1: nothing hides it).
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from ..scene.camera import Intrinsics
from ..scene.detections import BoxSource, Detection2D, Detection3D
from ..scene.geometry import Array, quaternion_from_rotation
from ..synthetic.patrol import Patrol
from ..synthetic.rendering import Rendered
from .messages import detections_2d_message, detections_3d_message

DEPTH_ENCODINGS = ("32FC1", "16UC1")
LARGEST_DEPTH_MM = 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Names of the frames: map → base → camera optical."""

    map: str
    base: str
    camera: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticMoment:
    """The messages of one view. They share their camera header, and are stamped together."""

    image: Image
    depth: Image
    camera_info: CameraInfo
    truth_3d: Detection3DArray
    truth_2d: Detection2DArray
    transforms: TFMessage

    def set_stamp(self, stamp: Time) -> None:
        """Stamps all of them."""
        # One Header object stands in the camera's messages and in every detection.
        self.image.header.stamp = stamp
        for transform in self.transforms.transforms:
            transform.header.stamp = stamp


def moment_of_render(
    patrol: Patrol, index: int, rendered: Rendered, frames: Frames, *, encoding: str
) -> SyntheticMoment:
    """The messages of a rendered pose, not yet stamped.

    Args:
        index: of the pose in the patrol.
        encoding: of depth, one of `DEPTH_ENCODINGS`.
    """
    header = Header(frame_id=frames.camera)
    seen = [(i, truth) for i, truth in enumerate(rendered.truth) if truth.visible_px]
    truth_2d = detections_2d_message(
        [
            Detection2D(label=truth.solid.name, xyxy_px=truth.xyxy_px, score=truth.visibility)
            for _, truth in seen
        ],
        header=header,
    )
    truth_3d = detections_3d_message(
        [
            Detection3D(
                label=truth.solid.name,
                box=truth.box,
                score=truth.visibility,
                source=BoxSource.MODEL,  # the message does not say
            )
            for _, truth in seen
        ],
        header=header,
    )
    for detection, (i, _) in zip(
        [*truth_2d.detections, *truth_3d.detections], [*seen, *seen], strict=True
    ):
        detection.id = str(i)
    return SyntheticMoment(
        image=_image(rendered.image, "rgb8", header),
        depth=_image(depth_samples(rendered.depth_m, encoding), encoding, header),
        camera_info=_camera_info(patrol.intrinsics, header),
        truth_3d=truth_3d,
        truth_2d=truth_2d,
        transforms=TFMessage(
            transforms=[
                _transform(patrol.T_map_base[index], parent=frames.map, child=frames.base),
                _transform(patrol.T_base_camera[index], parent=frames.base, child=frames.camera),
            ]
        ),
    )


def depth_samples(
    depth_m: npt.NDArray[np.float32], encoding: str
) -> npt.NDArray[np.float32] | npt.NDArray[np.uint16]:
    """Depth (h, w) in metres as an encoding holds it (REP 118): 16UC1 is millimetres, 0 unknown.

    What is too far for 16 bits is unknown too.
    """
    if encoding == "32FC1":
        return depth_m
    depth_mm = np.rint(depth_m * 1000.0)
    known = depth_mm <= LARGEST_DEPTH_MM  # False for NaN
    return np.where(known, depth_mm, 0).astype(np.uint16)


def _image(samples: npt.NDArray[Any], encoding: str, header: Header) -> Image:
    message = Image(
        header=header,
        height=samples.shape[0],
        width=samples.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=samples[0].nbytes,
    )
    little = samples.astype(samples.dtype.newbyteorder("<"), copy=False)
    # An array is taken over as it is; a list or a memoryview would be checked item by item.
    message.data = array.array("B", little.tobytes())
    return message


def _camera_info(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    K = intrinsics.K
    return CameraInfo(
        header=header,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=K.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.c_[K, np.zeros(3)].ravel().tolist(),
    )


def _transform(T_parent_child: Array, *, parent: str, child: str) -> TransformStamped:
    x, y, z = map(float, T_parent_child[:3, 3])
    qx, qy, qz, qw = map(float, quaternion_from_rotation(T_parent_child[:3, :3]))
    return TransformStamped(
        header=Header(frame_id=parent),
        child_frame_id=child,
        transform=Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        ),
    )
