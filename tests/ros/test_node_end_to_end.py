# SPDX-License-Identifier: Apache-2.0
"""The node as a user first meets it: the default engine, a rendered scene, boxes in base_link.

How right the tiny engine is, is `test_tiny_checkpoint.py`'s question. Here: what goes out is what
the core says of the same picture, in the robot's frame, and nothing is lost or turned on the way.
"""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.ros.asked_model import load_perception
from qwen3vl_ros.ros.parameters import NodeParameters, engine_directory
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import Query, Task
from qwen3vl_ros.scene.geometry import (
    transform_box,
    transform_from_quaternion,
    transform_from_rotation,
)
from qwen3vl_ros.synthetic.dataset import HELD_OUT_SEED, scene_from_seed
from tests.ros.graph import CAMERA, depth_message, image_message

WIDTH, HEIGHT = 640, 480
TRANSLATION = (0.2, -0.1, 0.9)
QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def scene():
    return scene_from_seed(HELD_OUT_SEED, width=WIDTH, height=HEIGHT)


def calibration_message(intrinsics) -> CameraInfo:
    return CameraInfo(
        width=WIDTH,
        height=HEIGHT,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=intrinsics.K.ravel().tolist(),
    )


def test_what_goes_out_is_what_the_core_says_in_the_frame_asked_for(world, scene):
    _, view, rendered = scene
    asked = rendered.truth[0].solid.name
    perception = Perception.load(engine_directory(NodeParameters()), threads=1)
    frame = Frame(
        image=rendered.image,
        stamp_ns=1,
        frame_id=CAMERA,
        intrinsics=view.intrinsics,
        depth_m=rendered.depth_m,
    )
    expected = perception.ground(frame, Query(task=Task.REFER, text=asked))
    assert expected.detections_2d, "the tiny engine answers about what is in the picture"

    world.start(
        load=load_perception,
        threads=1,
        task="refer",
        text=asked,
        categories=None,
        target_frame="base_link",
        tf_timeout_s=5.0,
    )
    world.with_depth()
    world.send_transform("base_link", CAMERA, TRANSLATION)
    stamp_ns = world.send(
        image_message(rendered.image),
        depth=depth_message(rendered.depth_m),
        camera_info=calibration_message(view.intrinsics),
    )
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.OK
    assert status.answer_text == expected.answer_text
    assert status.lift_s > 0

    (flat,) = world.at("~/detections_2d", stamp_ns)
    assert flat.header.frame_id == CAMERA
    for message, detection in zip(flat.detections, expected.detections_2d, strict=True):
        left, top, right, bottom = detection.xyxy_px
        center, size = message.bbox.center.position, (message.bbox.size_x, message.bbox.size_y)
        np.testing.assert_allclose([center.x, center.y], [(left + right) / 2, (top + bottom) / 2])
        np.testing.assert_allclose(size, [right - left, bottom - top])
        assert message.results[0].hypothesis.class_id == detection.label
        assert message.results[0].hypothesis.score == detection.score

    (solid,) = world.at("~/detections_3d", stamp_ns)
    assert solid.header.frame_id == "base_link"
    T_base_camera = transform_from_rotation(QUARTER_TURN, np.array(TRANSLATION))
    for message, detection in zip(solid.detections, expected.detections_3d, strict=True):
        box = transform_box(T_base_camera, detection.box)
        position, q = message.bbox.center.position, message.bbox.center.orientation
        got = transform_from_quaternion(
            np.array([q.x, q.y, q.z, q.w]), np.array([position.x, position.y, position.z])
        )
        np.testing.assert_allclose(got, box.T_frame_box, atol=1e-9)
        size = message.bbox.size
        np.testing.assert_allclose([size.x, size.y, size.z], detection.box.size_m)
