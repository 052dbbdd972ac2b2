# SPDX-License-Identifier: Apache-2.0
"""What the demo calls right and wrong, by numbers that can be checked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qwen3vl_ros.ros.demo_findings import as_json, size_difference, table
from tests.ros.findings import TRUE_XYXY_PX, box, finding

ELSEWHERE_PX = (300.0, 100.0, 400.0, 200.0)
# 60 of 100 columns in common: 60 / 140.
TOO_FAR_PX = (140.0, 100.0, 240.0, 200.0)
# 80 of 100 columns in common: 80 / 120.
NEAR_PX = (120.0, 100.0, 220.0, 200.0)


@pytest.mark.parametrize(
    ("asked", "iou", "is_right", "is_right_in_kind"),
    [
        pytest.param(
            {"true": box(1, 0), "found": box(1, 0), "xyxy_px": NEAR_PX},
            2 / 3,
            True,
            True,
            id="found where it is",
        ),
        pytest.param(
            {"true": box(1, 0), "found": box(1, 0), "xyxy_px": TOO_FAR_PX},
            3 / 7,
            False,
            True,
            id="overlap below a half",
        ),
        pytest.param(
            {"true": box(1, 0), "found": box(2, 0), "xyxy_px": ELSEWHERE_PX},
            0.0,
            False,
            True,
            id="found elsewhere",
        ),
        pytest.param(
            {"true": box(1, 0), "xyxy_px": TRUE_XYXY_PX},
            1.0,
            True,
            False,
            id="found in 2D only",
        ),
        pytest.param({"true": box(1, 0)}, None, False, False, id="there, not found"),
        pytest.param({}, None, True, True, id="not there, not found"),
        pytest.param(
            {"found": box(1, 0), "xyxy_px": NEAR_PX},
            None,
            False,
            False,
            id="not there, but found",
        ),
    ],
)
def test_an_answer_is_right_when_it_is_where_the_truth_is(asked, iou, is_right, is_right_in_kind):
    it = finding(**asked)
    assert it.iou == (None if iou is None else pytest.approx(iou))
    assert (it.is_right, it.is_right_in_kind) == (is_right, is_right_in_kind)


def test_errors_are_those_of_centre_and_largest_extent():
    it = finding(
        true=box(1.0, 0.0, size=(0.2, 0.3, 0.2)),
        found=box(1.3, 0.4, size=(0.25, 0.2, 0.2)),
        xyxy_px=NEAR_PX,
    )
    assert it.center_error_m == pytest.approx(0.5)
    assert it.size_error_m == pytest.approx(0.1)


def test_what_is_not_there_or_not_found_has_no_error():
    assert finding(found=box(1, 0), xyxy_px=NEAR_PX).center_error_m is None
    assert finding(true=box(1, 0)).size_error_m is None


@pytest.mark.parametrize(
    ("turned", "size", "difference"),
    [
        pytest.param(0.0, (0.2, 0.4, 0.6), (0.0, 0.0, 0.0), id="the same box"),
        pytest.param(90.0, (0.4, 0.2, 0.6), (0.0, 0.0, 0.0), id="a quarter turn, sizes swapped"),
        pytest.param(90.0, (0.2, 0.4, 0.6), (0.2, -0.2, 0.0), id="a quarter turn"),
        pytest.param(180.0, (0.3, 0.4, 0.6), (0.1, 0.0, 0.0), id="half a turn, one size off"),
        pytest.param(30.0, (0.2, 0.4, 0.5), (0.0, 0.0, -0.1), id="a small turn keeps the order"),
    ],
)
def test_sizes_are_compared_along_the_axes_that_lie_alike(turned, size, difference):
    true = box(1, 0, size=(0.2, 0.4, 0.6))
    np.testing.assert_allclose(
        size_difference(box(1, 0, size=size, turned=turned), true), difference, atol=1e-9
    )


def test_the_table_says_what_was_found_where_and_what_the_node_remarked():
    text = table(
        [
            finding("red box", true=box(1.0, 0.0), found=box(1.0, 0.1), xyxy_px=NEAR_PX),
            finding("blue ball", true=box(2.0, 0.0), remark="no depth image has come"),
            finding("pink box", true=box(2.0, 0.0), xyxy_px=TRUE_XYXY_PX),
            finding("white ball", found=box(1.0, 0.0), xyxy_px=NEAR_PX),
        ],
        frame_id="base_link",
    )
    assert [line.rstrip() for line in text.splitlines()] == [
        "asked for   2D IoU  found in base_link, m   truth, m                centre off  size off",
        "-" * 88,
        "red box     0.67    +1.000  +0.100  +0.100  +1.000  +0.000  +0.100  10.0 cm     0.0 cm",
        "blue ball           nothing                 +2.000  +0.000  +0.100",
        "pink box    1.00    no 3D box               +2.000  +0.000  +0.100",
        "white ball          +1.000  +0.000  +0.100  not there",
        "blue ball: no depth image has come",
    ]


def test_a_finding_becomes_json_with_none_for_what_is_absent():
    said = json.loads(json.dumps(as_json(finding(true=box(1.0, 0.0)))))
    assert said["truth"]["box_3d"]["position_m"] == [1.0, 0.0, 0.1]
    assert said["truth"]["box_3d"]["quat_xyzw"] == [0.0, 0.0, 0.0, 1.0]
    assert {said[key] for key in ("xyxy_px", "box_3d", "score", "iou", "center_error_m")} == {None}
