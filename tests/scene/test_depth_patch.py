# SPDX-License-Identifier: Apache-2.0
"""Depth around a 2D box becomes points; what was not measured does not."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.scene.camera import Intrinsics
from qwen3vl_ros.scene.depth_patch import MAX_SAMPLES, NoDepth, depth_patch

W, H = 160, 120
K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])
INTRINSICS = Intrinsics(K=K, width=W, height=H)
BOX = np.array([60.0, 40, 80, 70])


def wall(z: float = 2.0) -> np.ndarray:
    return np.full((H, W), z, np.float32)


def test_pixels_become_points_at_their_depth() -> None:
    patch = depth_patch(wall(), INTRINSICS, BOX)
    u, v = patch.uv_px[0]
    np.testing.assert_allclose(patch.points[0], [(u - 79.5) / 50, (v - 59.5) / 50, 2.0])
    assert patch.stride == 1
    assert patch.spacing_m == pytest.approx(0.02)


def test_a_box_from_3_to_8_holds_the_pixels_3_to_7() -> None:
    patch = depth_patch(wall(), INTRINSICS, np.array([3.0, 10, 8, 20]))
    inside = patch.uv_px[patch.inside()]
    assert sorted(set(inside[:, 0])) == [3, 4, 5, 6, 7]
    assert sorted(set(inside[:, 1])) == list(range(10, 20))


def test_the_neighbourhood_reaches_half_the_longer_side_beyond_the_box() -> None:
    patch = depth_patch(wall(), INTRINSICS, np.array([60.0, 40, 70, 80]))
    np.testing.assert_array_equal(patch.uv_px.min(axis=0), [40, 20])
    np.testing.assert_array_equal(patch.uv_px.max(axis=0), [89, 99])


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf, -np.inf, -0.5])
def test_what_was_not_measured_makes_no_point(value: float) -> None:
    depth = wall()
    depth[50:55, 65:75] = value
    patch = depth_patch(depth, INTRINSICS, BOX)
    assert np.all(patch.points[:, 2] == 2.0)
    assert patch.inside().sum() == 20 * 30 - 50


def test_a_pixel_that_hangs_in_the_air_makes_no_point() -> None:
    depth = wall()
    depth[50, 70] = 1.2
    patch = depth_patch(depth, INTRINSICS, BOX)
    assert np.all(patch.points[:, 2] == 2.0)


def test_a_thin_thing_is_not_mistaken_for_hanging_pixels() -> None:
    depth = wall()
    depth[40:70, 70:72] = 1.2
    patch = depth_patch(depth, INTRINSICS, BOX)
    assert (patch.points[:, 2] < 1.5).sum() == 60


def test_a_large_box_is_sampled_and_not_slower() -> None:
    big = Intrinsics(K=K, width=1920, height=1080)
    patch = depth_patch(
        np.full((1080, 1920), 2.0, np.float32), big, np.array([100.0, 100, 1800, 1000])
    )
    assert MAX_SAMPLES / 2 < len(patch.points) <= MAX_SAMPLES * 1.05
    assert patch.stride == 14


@pytest.mark.parametrize(
    ("xyxy_px", "is_cut"),
    [
        pytest.param([60, 40, 80, 70], False, id="in the middle"),
        pytest.param([0, 40, 80, 70], True, id="left"),
        pytest.param([-9, 40, 80, 70], True, id="beyond the left"),
        pytest.param([60, 0, 80, 70], True, id="top"),
        pytest.param([60, 40, 160, 70], True, id="right"),
        pytest.param([60, 40, 80, 120], True, id="bottom"),
    ],
)
def test_a_box_at_the_border_is_marked_as_cut(xyxy_px: list[float], is_cut: bool) -> None:
    assert depth_patch(wall(), INTRINSICS, np.array(xyxy_px, float)).is_cut is is_cut


@pytest.mark.parametrize(
    ("valid_columns", "words"),
    [
        pytest.param(0, "valid in 0 % .* 0 samples", id="none"),
        pytest.param(1, "valid in 5 %", id="a twentieth"),
    ],
)
def test_too_little_depth_says_how_much_there_is(valid_columns: int, words: str) -> None:
    depth = wall()
    depth[40:70, 60 + valid_columns : 80] = np.nan
    with pytest.raises(NoDepth, match=words):
        depth_patch(depth, INTRINSICS, BOX)


def test_a_tenth_of_the_box_is_enough() -> None:
    depth = wall()
    depth[40:70, 62:80] = np.nan
    assert depth_patch(depth, INTRINSICS, BOX).inside().sum() == 60


def test_the_callers_depth_is_left_as_it_was() -> None:
    depth = wall()
    depth[50, 70] = np.nan
    before = depth.copy()
    depth_patch(depth, INTRINSICS, BOX)
    np.testing.assert_array_equal(depth, before)
