# SPDX-License-Identifier: Apache-2.0
"""The shared volume of two boxes, held against three computations that share nothing with it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection

from qwen3vl_ros.evaluation.solid_overlap import overlap_of_solids, shared_volume_m3
from qwen3vl_ros.scene.geometry import (
    OrientedBox,
    points_in_frame,
    rotation_from_half_turns,
    transform_box,
    transform_from_rotation,
)


def box(center=(0, 0, 0), size=(1, 1, 1), half_turns=(0, 0, 0)) -> OrientedBox:
    R = rotation_from_half_turns(np.array(half_turns, float))
    return OrientedBox(
        T_frame_box=transform_from_rotation(R, np.array(center, float)),
        size_m=np.array(size, float),
    )


def random_box(rng: np.random.Generator) -> OrientedBox:
    return box(rng.uniform(-0.4, 0.4, 3), rng.uniform(0.2, 1.5, 3), rng.uniform(-1, 1, 3))


def contains(solid: OrientedBox, points: np.ndarray) -> np.ndarray:
    local = (points - solid.center_m) @ solid.T_frame_box[:3, :3]
    return (np.abs(local) <= solid.size_m / 2).all(axis=1)


def half_spaces(solid: OrientedBox) -> np.ndarray:
    """(6, 4): inside is where `A x + b <= 0`."""
    axes = solid.T_frame_box[:3, :3].T
    normals = np.concatenate([axes, -axes])
    reach = normals @ solid.center_m + np.tile(solid.size_m / 2, 2)
    return np.c_[normals, -reach]


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        pytest.param(box(), box(), 1.0, id="the same"),
        pytest.param(box(), box(half_turns=(0, 0.5, 0)), 1.0, id="a quarter turn later"),
        pytest.param(box(), box(center=(0.25, 0.5, 0)), 0.375, id="moved along two axes"),
        pytest.param(box(size=(2, 2, 2)), box(size=(1, 0.5, 0.25)), 0.125, id="one inside"),
        pytest.param(box(), box(center=(1, 0, 0)), 0.0, id="face to face"),
        pytest.param(box(), box(center=(1, 1, 0)), 0.0, id="edge to edge"),
        pytest.param(box(), box(center=(1, 1, 1)), 0.0, id="corner to corner"),
        pytest.param(box(), box(center=(3, 0, 0)), 0.0, id="apart"),
        pytest.param(box(), box(size=(4, 0.1, 4)), 0.1, id="a plate through the middle"),
        # Two unit squares a half of a quarter turn apart share a regular octagon.
        pytest.param(box(), box(half_turns=(0, 0.25, 0)), 2 * (np.sqrt(2) - 1), id="octagon"),
    ],
)
def test_shared_volumes_that_can_be_known_by_hand(a, b, shared):
    assert shared_volume_m3(a, b) == pytest.approx(shared, abs=1e-9)
    assert shared_volume_m3(b, a) == pytest.approx(shared, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_without_a_turn_share_a_product_of_three_lengths(seed):
    rng = np.random.default_rng(seed)
    a, b = (box(rng.uniform(-0.4, 0.4, 3), rng.uniform(0.2, 1.5, 3)) for _ in range(2))
    low = np.maximum(a.corners().min(axis=0), b.corners().min(axis=0))
    high = np.minimum(a.corners().max(axis=0), b.corners().max(axis=0))
    expected = np.prod(np.maximum(high - low, 0))
    assert shared_volume_m3(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_upright_boxes_share_a_clipped_polygon_times_a_height(seed):
    """The usual case on a floor: turned about the vertical only, so 2D clipping is enough."""
    rng = np.random.default_rng(seed)
    a, b = (
        box(rng.uniform(-0.4, 0.4, 3), rng.uniform(0.3, 1.5, 3), (0, rng.uniform(-1, 1), 0))
        for _ in range(2)
    )
    feet = [
        cv2.convexHull(solid.corners()[:, [0, 2]].astype(np.float32)).reshape(-1, 2)
        for solid in (a, b)
    ]
    area, _ = cv2.intersectConvexConvex(*feet)
    low = max(solid.center_m[1] - solid.size_m[1] / 2 for solid in (a, b))
    high = min(solid.center_m[1] + solid.size_m[1] / 2 for solid in (a, b))
    expected = area * max(high - low, 0)
    assert shared_volume_m3(a, b) == pytest.approx(expected, abs=2e-6)  # float32 of OpenCV


@pytest.mark.parametrize("seed", range(30))
def test_any_two_boxes_share_what_their_twelve_half_spaces_do(seed):
    rng = np.random.default_rng(seed)
    a, b = random_box(rng), random_box(rng)
    planes = np.concatenate([half_spaces(a), half_spaces(b)])
    # The middle of the largest ball that fits is a point strictly inside.
    ball = linprog(
        [0, 0, 0, -1],
        A_ub=np.c_[planes[:, :3], np.ones(12)],
        b_ub=-planes[:, 3],
        bounds=[(None,) * 2] * 4,
    )
    radius = ball.x[3]
    expected = (
        ConvexHull(HalfspaceIntersection(planes, ball.x[:3]).intersections).volume
        if radius > 1e-9
        else 0.0
    )
    assert shared_volume_m3(a, b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_darts_thrown_at_one_box_hit_the_other_as_often_as_the_volume_says(seed):
    rng = np.random.default_rng(seed)
    a, b = random_box(rng), random_box(rng)
    darts = points_in_frame(a.T_frame_box, rng.uniform(-0.5, 0.5, (200_000, 3)) * a.size_m)
    share = contains(b, darts).mean()
    volume = np.prod(a.size_m)
    spread = volume * np.sqrt(max(share * (1 - share), 1e-6) / len(darts))
    assert shared_volume_m3(a, b) == pytest.approx(share * volume, abs=5 * spread)


@pytest.mark.parametrize("seed", range(10))
def test_where_both_boxes_stand_together_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    a, b = random_box(rng), random_box(rng)
    T = transform_from_rotation(
        rotation_from_half_turns(rng.uniform(-1, 1, 3)), rng.normal(0, 30, 3)
    )
    assert overlap_of_solids(transform_box(T, a), transform_box(T, b)) == pytest.approx(
        overlap_of_solids(a, b), abs=1e-9
    )


def test_the_overlap_is_a_share_of_the_union():
    assert overlap_of_solids(box(), box(center=(0.5, 0, 0))) == pytest.approx(1 / 3)
    assert overlap_of_solids(box(), box(size=(2, 2, 2))) == pytest.approx(1 / 8)


def test_a_box_without_volume_overlaps_with_nothing():
    assert overlap_of_solids(box(size=(1, 0, 1)), box(size=(1, 0, 1))) == 0.0
