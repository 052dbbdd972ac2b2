# SPDX-License-Identifier: Apache-2.0
"""Planes are found among points that lie on none, and the camera is above them."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.scene.geometry import Array
from qwen3vl_ros.scene.planes import Plane, largest_plane, planes_among, refitted

# The optical frame's y points down: a floor 1 m below the camera has its normal along -y.
UP: Array = np.array([0.0, -1.0, 0.0])


def floor(count: int, *, y: float = 1.0, noise_m: float = 0.0, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-1, 0, 1], [1, 0, 3], (count, 3))
    points[:, 1] = y + rng.normal(0, noise_m, count)
    return points


def clutter(count: int) -> Array:
    return np.random.default_rng(7).uniform([-1, -1, 1], [1, 1, 3], (count, 3))


def test_height_is_measured_from_the_plane_towards_the_camera() -> None:
    plane = Plane(normal=UP, offset=1.0)
    points = np.array([[0.0, 1.0, 2.0], [0.3, 0.8, 2.0], [0.0, 1.1, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(plane.heights(points), [0.0, 0.2, -0.1, 1.0])


def test_a_floor_is_found_among_as_much_clutter() -> None:
    plane = largest_plane(np.concatenate([floor(400, noise_m=0.003), clutter(400)]))
    np.testing.assert_allclose(plane.normal, UP, atol=0.01)
    assert plane.offset == pytest.approx(1.0, abs=0.01)


def test_a_wall_faces_the_camera_too() -> None:
    wall = floor(300)[:, [0, 2, 1]] + [0, -2, 1]  # the plane z = 2
    plane = largest_plane(wall)
    np.testing.assert_allclose(plane.normal, [0, 0, -1], atol=1e-6)
    assert plane.offset == pytest.approx(2.0)


def test_planes_come_largest_first_with_their_share() -> None:
    points = np.concatenate([floor(600), floor(300, y=0.5, seed=1), clutter(100)])
    (first, first_share), (second, second_share) = planes_among(points)
    assert first.offset == pytest.approx(1.0, abs=0.01)
    assert second.offset == pytest.approx(0.5, abs=0.01)
    assert first_share == pytest.approx(0.6, abs=0.03)
    assert second_share == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(clutter(300), id="clutter"),
        pytest.param(floor(20), id="few points"),
        pytest.param(np.zeros((0, 3)), id="no point"),
    ],
)
def test_where_there_is_no_plane_none_is_made_up(points: Array) -> None:
    assert list(planes_among(points)) == []


def test_points_that_repeat_do_not_count_as_a_plane_of_any_direction() -> None:
    """Three equal points span nothing; such triples once won with all points 'on' them."""
    points = np.concatenate([np.tile([0.0, 0.5, 2.0], (200, 1)), floor(300)])
    np.testing.assert_allclose(largest_plane(points).normal, UP, atol=0.05)


def test_a_plane_that_is_a_little_off_is_drawn_to_its_points() -> None:
    tilted = np.array([0.004, -1.0, 0.0])
    off = Plane(normal=tilted / np.linalg.norm(tilted), offset=1.005)
    plane = refitted(off, floor(500))
    np.testing.assert_allclose(plane.normal, UP, atol=1e-9)
    assert plane.offset == pytest.approx(1.0)


def test_with_too_few_points_a_plane_stays_as_it_was() -> None:
    plane = Plane(normal=UP, offset=1.0)
    assert refitted(plane, floor(10)) is plane
