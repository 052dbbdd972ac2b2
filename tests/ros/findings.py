# SPDX-License-Identifier: Apache-2.0
"""Findings of the demo made by hand: a robot one metre from what it looks at, numbers to check."""

from __future__ import annotations

import numpy as np

from qwen3vl_ros.ros.demo_findings import Finding, Sighting, Truth
from qwen3vl_ros.scene.camera import Intrinsics
from qwen3vl_ros.scene.detections import Detection2D
from qwen3vl_ros.scene.geometry import Array, OrientedBox, transform_from_rotation

TRUE_XYXY_PX = (100.0, 100.0, 200.0, 200.0)
# Axes of a camera that looks straight along x of the robot: z forward, x right, y down.
R_BASE_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def yaw(degrees: float) -> Array:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def box(
    x: float, y: float, *, size: tuple[float, float, float] = (0.2, 0.2, 0.2), turned: float = 0.0
) -> OrientedBox:
    """A box that stands on the floor of the robot's frame."""
    T = transform_from_rotation(yaw(turned), np.array([x, y, size[2] / 2]))
    return OrientedBox(T_frame_box=T, size_m=np.array(size))


def sighting(*, robot_x: float = 0.0, pitch_down: float = 30.0) -> Sighting:
    """640x480, seen from 0.5 m above the floor by a robot that stands at x in the map."""
    c, s = np.cos(np.radians(pitch_down)), np.sin(np.radians(pitch_down))
    about_x = np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])
    return Sighting(
        stamp_ns=1_000_000_000,
        image=np.full((480, 640, 3), 128, np.uint8),
        intrinsics=Intrinsics(
            K=np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), width=640, height=480
        ),
        T_map_base=transform_from_rotation(np.eye(3), np.array([robot_x, 0, 0])),
        T_base_camera=transform_from_rotation(R_BASE_CAMERA @ about_x.T, np.array([0, 0, 0.5])),
    )


def finding(
    name: str = "red box",
    *,
    true: OrientedBox | None = None,
    found: OrientedBox | None = None,
    xyxy_px: tuple[float, float, float, float] | None = None,
    robot_x: float = 0.0,
    remark: str = "",
) -> Finding:
    """One question and its answer; `xyxy_px` is the 2D box found, None for nothing."""
    return Finding(
        name=name,
        truth=None if true is None else Truth(xyxy_px=np.array(TRUE_XYXY_PX), box=true),
        sighting=sighting(robot_x=robot_x),
        found_2d=None
        if xyxy_px is None
        else Detection2D(label=name, xyxy_px=np.array(xyxy_px), score=0.9),
        found_3d=found,
        others=0,
        pictures=1,
        answer_s=0.25,
        remark=remark,
    )
