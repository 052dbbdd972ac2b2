# SPDX-License-Identifier: Apache-2.0
"""Which 3D box belongs to which 2D box."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.scene.box_matching import matched_boxes, outline_xyxy_px
from qwen3vl_ros.scene.camera import Intrinsics
from qwen3vl_ros.scene.detections import BoxSource, Detection2D, Detection3D
from qwen3vl_ros.scene.geometry import OrientedBox, overlap_of_boxes, transform_from_rotation

# A cube of 20 cm, 1 m away on the axis, is seen 20 px wide at its middle, 22 px at its near face.
INTRINSICS = Intrinsics(
    K=np.array([[100.0, 0, 100], [0, 100, 100], [0, 0, 1]]), width=200, height=200
)


def cube(x: float, y: float = 0.0, z: float = 1.0) -> Detection3D:
    pose = transform_from_rotation(np.eye(3), np.array([x, y, z]))
    box = OrientedBox(T_frame_box=pose, size_m=np.full(3, 0.2))
    return Detection3D(label="cube", box=box, score=0.5, source=BoxSource.MODEL)


def seen(u: float, v: float = 100.0) -> Detection2D:
    xyxy_px = np.array([u - 11, v - 11, u + 11, v + 11], float)
    return Detection2D(label="cube", xyxy_px=xyxy_px, score=0.5)


LEFT, MIDDLE, RIGHT = cube(-0.5), cube(0.0), cube(0.5)


def test_the_outline_of_a_cube_is_that_of_its_near_face():
    half = 100 * 0.1 / 0.9
    np.testing.assert_allclose(
        outline_xyxy_px(MIDDLE, INTRINSICS), [100 - half, 100 - half, 100 + half, 100 + half]
    )


@pytest.mark.parametrize(
    ("detections", "boxes", "expected"),
    [
        pytest.param([seen(50), seen(150)], [RIGHT, LEFT], [LEFT, RIGHT], id="other-order"),
        pytest.param([seen(50), seen(100)], [MIDDLE], [None, MIDDLE], id="one-not-found"),
        pytest.param([seen(100)], [LEFT, MIDDLE, RIGHT], [MIDDLE], id="more-boxes-than-asked"),
        pytest.param([seen(100), seen(104)], [MIDDLE], [MIDDLE, None], id="no-box-twice"),
        pytest.param([seen(100)], [RIGHT], [None], id="somewhere-else"),
        pytest.param([seen(100)], [cube(0.0, z=-1.0)], [None], id="behind-the-camera"),
        pytest.param([], [MIDDLE], [], id="nothing-seen"),
        pytest.param([seen(100)], [], [None], id="no-boxes"),
    ],
)
def test_a_box_goes_to_the_detection_it_covers(detections, boxes, expected):
    got = matched_boxes(detections, boxes, INTRINSICS)
    assert len(got) == len(expected)
    assert all(a is b for a, b in zip(got, expected, strict=True))


def test_without_intrinsics_the_order_is_all_there_is():
    got = matched_boxes([seen(50), seen(150), seen(10)], [RIGHT, LEFT], None)
    assert (got[0] is RIGHT, got[1] is LEFT, got[2]) == (True, True, None)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([0, 0, 2, 2], [0, 0, 2, 2], 1.0, id="the-same"),
        pytest.param([0, 0, 4, 4], [1, 1, 3, 3], 0.25, id="one-inside"),
        pytest.param([0, 0, 2, 2], [2, 0, 4, 2], 0.0, id="side-by-side"),
        pytest.param([0, 0, 2, 2], [5, 5, 6, 6], 0.0, id="apart"),
        pytest.param([1, 1, 1, 1], [1, 1, 1, 1], 0.0, id="no-area"),
    ],
)
def test_overlap_is_shared_area_over_covered_area(a, b, expected):
    assert overlap_of_boxes(np.array(a, float), np.array(b, float)) == expected
