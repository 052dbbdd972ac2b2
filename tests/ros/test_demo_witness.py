# SPDX-License-Identifier: Apache-2.0
"""What the demo hears about one picture becomes one finding, or waits for what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vision_msgs.msg import Detection2DArray, Detection3DArray

from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.ros.demo import absent_thing
from qwen3vl_ros.ros.demo_witness import Heard, finding_from_heard, plain_things
from qwen3vl_ros.ros.messages import detections_2d_message, detections_3d_message, header
from qwen3vl_ros.scene.detections import BoxSource, Detection2D, Detection3D
from qwen3vl_ros.scene.geometry import OrientedBox, transform_from_rotation
from qwen3vl_ros.synthetic.questions import NAMES
from tests.ros.graph import camera_info_message, image_message

AT = header(stamp_ns=1, frame_id="camera")
# The camera stands 1 m above the robot's origin, and has its axes.
T_BASE_CAMERA = transform_from_rotation(np.eye(3), np.array([0.0, 0, 1.0]))


def flat(label: str, *xyxy_px: float, score: float = 1.0) -> Detection2D:
    return Detection2D(label=label, xyxy_px=np.array(xyxy_px), score=score)


def solid(label: str, x: float, score: float = 1.0) -> Detection3D:
    box = OrientedBox(
        T_frame_box=transform_from_rotation(np.eye(3), np.array([x, 0.0, 0.0])),
        size_m=np.array([0.1, 0.2, 0.3]),
    )
    return Detection3D(label=label, box=box, score=score, source=BoxSource.DEPTH)


def in_picture(*detections: Detection2D) -> Detection2DArray:
    return detections_2d_message(detections, header=AT)


def in_space(*detections: Detection3D) -> Detection3DArray:
    return detections_3d_message(detections, header=AT)


def heard(**parts: object) -> Heard:
    """All that is heard of a picture with a red box and a half hidden blue ball."""
    whole = Heard(
        image=image_message(),
        camera_info=camera_info_message(),
        truth_2d=in_picture(
            flat("red box", 0, 0, 60, 40, score=1.0), flat("blue ball", 0, 0, 64, 48, score=0.5)
        ),
        truth_3d=in_space(solid("red box", 2.0), solid("blue ball", 3.0)),
        detections_2d=in_picture(
            flat("red box", 0, 0, 10, 10, score=0.3), flat("red box", 0, 0, 60, 30, score=0.9)
        ),
        detections_3d=in_space(solid("red box", 5.0, score=0.3), solid("red box", 2.5, score=0.9)),
        status=InferenceStatus(detections_2d=2, detections_3d=2, total_s=0.25, message="odd"),
        T_map_base=np.eye(4),
        T_base_camera=T_BASE_CAMERA,
    )
    return replace(whole, **parts)


def test_the_surest_answer_is_held_against_the_truth_of_the_same_stamp():
    finding = finding_from_heard("red box", 1, heard(), pictures=2)
    assert finding is not None
    assert finding.iou == pytest.approx(0.75)
    np.testing.assert_allclose(finding.truth.box.center_m, [2.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(finding.found_3d.center_m, [2.5, 0.0, 0.0], atol=1e-12)
    assert (finding.others, finding.pictures, finding.answer_s) == (1, 2, 0.25)
    assert finding.remark == "odd", "where a 3D box is from, the node says in words only"


def test_what_is_not_in_the_picture_has_no_truth():
    finding = finding_from_heard("white ball", 1, heard(), pictures=1)
    assert finding is not None
    assert finding.truth is None


def test_an_empty_answer_is_a_finding_of_nothing():
    nothing = heard(
        detections_2d=in_picture(), detections_3d=None, status=InferenceStatus(total_s=0.1)
    )
    finding = finding_from_heard("red box", 1, nothing, pictures=1)
    assert finding is not None
    assert (finding.found_2d, finding.found_3d, finding.others) == (None, None, 0)


@pytest.mark.parametrize(
    "missing",
    [
        "image",
        "camera_info",
        "truth_2d",
        "truth_3d",
        "detections_2d",
        "detections_3d",
        "status",
        "T_map_base",
        "T_base_camera",
    ],
)
def test_while_a_part_is_missing_there_is_no_finding(missing):
    """With 3D boxes announced in the status, the message that holds them is waited for."""
    assert finding_from_heard("red box", 1, heard(**{missing: None}), pictures=1) is None


def test_asked_for_is_what_a_person_would_see_at_once():
    assert plain_things(heard()) == ["red box"], "the ball is half hidden"
    small = in_picture(flat("red box", 0, 0, 30, 40))
    assert plain_things(heard(truth_2d=small)) == [], "1200 pixels are few"
    assert plain_things(heard(truth_2d=None)) == []


def test_what_is_asked_for_in_vain_has_a_colour_that_nothing_there_has():
    present = {"red box", "blue ball", "white cylinder"}
    absent = absent_thing(present)
    assert absent in NAMES
    assert absent.split()[0] not in {"red", "blue", "white"}
