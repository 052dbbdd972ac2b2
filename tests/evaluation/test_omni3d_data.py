# SPDX-License-Identifier: Apache-2.0
"""3D detection in Omni3D's format: its corners, its rule of what counts, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qwen3vl_ros.errors import DatasetError
from qwen3vl_ros.evaluation.asked_categories import Asked
from qwen3vl_ros.evaluation.omni3d_categories import CATEGORIES
from qwen3vl_ros.evaluation.omni3d_data import box_of_corners, corners_of_box, omni3d_data
from qwen3vl_ros.scene.detections import Task
from qwen3vl_ros.scene.geometry import (
    OrientedBox,
    rotation_from_half_turns,
    transform_from_rotation,
)
from tests.evaluation.conftest import DATA


def read(data, **options):
    values = {"asked": Asked.PRESENT, "max_objects": 100}
    return omni3d_data(data / "omni3d.json", data / "images", **{**values, **options})


def set_in(part, **values):
    return lambda content: content[part][0].update(values)


def random_box(seed):
    rng = np.random.default_rng(seed)
    R = rotation_from_half_turns(rng.uniform(-1, 1, 3))
    return OrientedBox(
        T_frame_box=transform_from_rotation(R, rng.normal(0, 3, 3)), size_m=rng.uniform(0.1, 2, 3)
    )


def test_corners_stand_in_the_order_of_omni3ds_drawing():
    """v0 left top front, v1 right of it, v3 below it, v4 behind it (DATA.md)."""
    corners = corners_of_box(OrientedBox(T_frame_box=np.eye(4), size_m=np.array([2.0, 4, 6])))
    np.testing.assert_array_equal(corners[0], [-1, -2, -3])
    np.testing.assert_array_equal(corners[1], [1, -2, -3])
    np.testing.assert_array_equal(corners[3], [-1, 2, -3])
    np.testing.assert_array_equal(corners[4], [-1, -2, 3])
    np.testing.assert_array_equal(corners[6], [1, 2, 3])


@pytest.mark.parametrize("seed", range(10))
def test_a_box_comes_back_from_its_corners(seed):
    box = random_box(seed)
    again = box_of_corners(corners_of_box(box))
    np.testing.assert_allclose(again.T_frame_box, box.T_frame_box, atol=1e-12)
    np.testing.assert_allclose(again.size_m, box.size_m, atol=1e-12)


def test_corners_in_mirrored_order_are_the_same_body():
    corners = corners_of_box(random_box(0))[[1, 0, 3, 2, 5, 4, 7, 6]]
    again = box_of_corners(corners)
    assert np.linalg.det(again.T_frame_box[:3, :3]) == pytest.approx(1)
    expected = {tuple(corner.round(9)) for corner in corners}
    assert {tuple(corner.round(9)) for corner in again.corners()} == expected


@pytest.mark.parametrize(
    "corners",
    [
        pytest.param(np.full((8, 3), -1.0), id="not known"),
        pytest.param(np.random.default_rng(0).normal(size=(8, 3)), id="no box"),
    ],
)
def test_corners_of_no_box_are_none(corners):
    assert box_of_corners(corners) is None


def test_each_category_that_counts_is_a_question_with_the_true_camera():
    written = json.loads((DATA / "omni3d.json").read_text())
    result = read(DATA)
    case = result.cases[0]
    assert case.query.task is Task.DETECT_3D
    (frame,) = case.views()
    np.testing.assert_array_equal(frame.intrinsics.K, written["images"][0]["K"])
    annotation = next(
        a
        for a in written["annotations"]
        if str(a["image_id"]) == case.picture_id and a["category_name"] == case.query.text
    )
    solid = case.truth.solids[0]
    np.testing.assert_allclose(solid.box.center_m, annotation["center_cam"])
    width, height, length = annotation["dimensions"]
    np.testing.assert_allclose(solid.box.size_m, [length, height, width])
    np.testing.assert_allclose(solid.box.T_frame_box[:3, :3], annotation["R_cam"], atol=1e-12)


def test_one_category_makes_one_question_for_each_picture_that_holds_it():
    by_picture = {}
    for case in read(DATA).cases:
        by_picture.setdefault(case.picture_id, []).append(case.query.text)
    assert len(by_picture) == 3
    assert all(len(names) == len(set(names)) for names in by_picture.values())


NOT_KNOWN = {"valid3D": False, "bbox3D_cam": [[-1, -1, -1]] * 8, "dimensions": [-1, -1, -1]}


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        pytest.param({}, True, id="as it is"),
        pytest.param({"behind_camera": True}, False, id="behind the camera"),
        pytest.param({"valid3D": False}, False, id="no reliable box"),
        pytest.param({"lidar_pts": 0}, False, id="no lidar point"),
        pytest.param({"lidar_pts": 5}, True, id="lidar points"),
        pytest.param({"segmentation_pts": 0}, False, id="no pixel"),
        pytest.param({"depth_error": 0.6}, False, id="depth is elsewhere"),
        pytest.param({"truncation": 0.34}, False, id="cut off by a third"),
        pytest.param({"truncation": 0.33}, True, id="cut off by less"),
        pytest.param({"visibility": 0.33}, False, id="hidden by two thirds"),
        pytest.param({"visibility": 0.34}, True, id="hidden by less"),
        pytest.param({"visibility": float("nan")}, True, id="nobody knows how visible"),
        pytest.param({"bbox2D_trunc": [float("inf")] * 4}, True, id="projected to nowhere"),
        pytest.param({"dimensions": [0.1, 0, 0.1]}, False, id="flat"),
        pytest.param({"bbox2D_trunc": [10, 10, 60, 25]}, False, id="as low as 15 of 240 pixels"),
        pytest.param({"bbox2D_trunc": [10, 10, 60, 26]}, True, id="16 of 240 pixels high"),
        pytest.param(
            {"bbox2D_trunc": [-1] * 4, "bbox2D_proj": [10, -100, 60, 265]},
            False,
            id="higher than the picture and a half",
        ),
        pytest.param(
            {"bbox2D_trunc": [-1] * 4, "bbox2D_proj": [-1] * 4}, False, id="only a tight box"
        ),
    ],
)
def test_what_counts_is_omni3ds_own_rule(data, change, values, counts):
    file = change("omni3d.json", lambda content: content["annotations"][0].update(values))
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    asked = [
        case
        for case in read(data, asked=Asked.ALL, categories=first["category_name"]).cases
        if case.picture_id == str(first["image_id"])
    ]
    assert [solid.counts for solid in asked[0].truth.solids] == [counts]


def test_what_has_no_box_at_all_is_left_out(data, change):
    change("omni3d.json", lambda content: content["annotations"][0].update(NOT_KNOWN))
    before, after = read(DATA), read(data)
    assert len(after.cases) == len(before.cases) - 1
    no_2d = {"bbox2D_trunc": [-1] * 4, "bbox2D_proj": [-1] * 4, "bbox2D_tight": [-1] * 4}
    change("omni3d.json", lambda content: content["annotations"][1].update(no_2d))
    assert len(read(data).cases) == len(before.cases) - 2


def test_a_valid_annotation_whose_corners_are_no_box_is_left_out_and_told_of(data, change):
    def bend(content):
        content["annotations"][0]["bbox3D_cam"][0][0] += 1.0

    change("omni3d.json", bend)
    assert "1 annotations were left out: their eight corners" in read(data).remarks[1]


def test_a_category_that_the_file_does_not_list_is_left_out_and_told_of(data, change):
    change("omni3d.json", set_in("annotations", category_id=99))
    result = read(data)
    assert "1 annotations were left out: the file does not list" in result.remarks[1]
    assert len(result.cases) == len(read(DATA).cases) - 1


def test_corners_that_are_not_known_are_not_needed_of_what_does_not_count(data, change):
    nowhere = {"valid3D": False, "bbox3D_cam": [[float("nan")] * 3] * 8}
    change("omni3d.json", set_in("annotations", **nowhere))
    result = read(data)
    assert len(result.remarks) == 1
    assert len(result.cases) == len(read(DATA).cases) - 1


def test_categories_are_those_of_omni3d_or_as_named(data, change):
    def rename(content):
        for category, name in zip(content["categories"], ("chair", "zebra"), strict=False):
            category["name"] = name

    change("omni3d.json", rename)
    chairs = read(data, asked=Asked.ALL, categories="omni3d-sunrgbd")
    assert chairs.identity["categories"] == "chair"
    zebras = read(data, asked=Asked.ALL, categories="zebra, chair")
    assert zebras.identity["categories"] == "zebra, chair"
    with pytest.raises(DatasetError, match="--categories names unicorn, expected names in"):
        read(data, categories="unicorn")


def test_omni3d_evaluates_so_many_categories():
    assert [len(names) for names in CATEGORIES.values()] == [38, 28, 14]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param(set_in("images", K=[[1, 0], [0, 1]]), r"K is .* 3 x 3 finite", id="K"),
        pytest.param(set_in("images", file_path=None), "file_path is missing", id="no path"),
        pytest.param(
            set_in("annotations", bbox3D_cam=[[0, 0, 0]] * 7), "8 x 3 numbers", id="seven corners"
        ),
        pytest.param(
            set_in("annotations", dimensions=None), r"dimensions is missing", id="no dimensions"
        ),
        pytest.param(set_in("annotations", valid3D="yes"), "true or false", id="valid in words"),
        pytest.param(set_in("annotations", image_id=1), "one of 'images'", id="no such picture"),
    ],
)
def test_a_wrong_file_is_refused_by_the_place_of_what_is_wrong(data, change, how, words):
    change("omni3d.json", how)
    with pytest.raises(DatasetError, match=words):
        read(data)
