# SPDX-License-Identifier: Apache-2.0
"""Boxes around visible surfaces: points made by hand, seen by a camera that looks level."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.scene.box_fit import MIN_SIZE_M, free_box, upright_box
from qwen3vl_ros.scene.geometry import Array
from qwen3vl_ros.scene.planes import Plane

# A floor 0.6 m below a camera that looks level: x right, y down, z away.
FLOOR = Plane(normal=np.array([0.0, -1.0, 0.0]), offset=0.6)


def grid(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> Array:
    """Points 5 mm apart that fill a block, a face or an edge."""
    axes = [np.arange(low, high + 1e-9, 0.005) if high > low else [low] for low, high in (x, y, z)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def front_and_top() -> Array:
    """What is seen of a block 0.2 m wide, 0.1 m high, 0.15 m deep, 1 m away on the floor."""
    front = grid((-0.1, 0.1), (0.5, 0.6), (1.0, 1.0))
    top = grid((-0.1, 0.1), (0.5, 0.5), (1.0, 1.15))
    return np.concatenate([front, top])


def turned_about(points: Array, degrees: float) -> Array:
    """Points turned about the vertical through the block's middle."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    middle = np.array([0.0, 0.55, 1.075])
    return (points - middle) @ R.T + middle


def test_front_and_top_make_the_whole_block() -> None:
    box = upright_box(front_and_top(), FLOOR)
    np.testing.assert_allclose(box.center_m, [0.0, 0.55, 1.075], atol=0.002)
    np.testing.assert_allclose(box.size_m, [0.2, 0.1, 0.15], atol=0.003)
    np.testing.assert_allclose(box.T_frame_box[:3, :3], np.eye(3), atol=1e-9)


@pytest.mark.parametrize(
    ("degrees", "size"), [(20, (0.2, 0.15)), (-40, (0.2, 0.15)), (60, (0.15, 0.2))]
)
def test_x_is_the_horizontal_side_that_points_most_to_the_right(
    degrees: float, size: tuple[float, float]
) -> None:
    """At 60 degrees the short side does."""
    box = upright_box(turned_about(front_and_top(), degrees), FLOOR)
    np.testing.assert_allclose(box.size_m[[0, 2]], size, atol=0.012)
    assert box.T_frame_box[0, 0] > np.cos(np.radians(46))
    np.testing.assert_allclose(box.center_m, [0.0, 0.55, 1.075], atol=0.01)


def test_a_footprint_that_no_turn_fits_better_faces_the_camera() -> None:
    """A standing tin: its yaw cannot be seen, so it is not made up from noise."""
    points = np.concatenate([grid((-0.1, 0.1), (0.5, 0.5), (1.0, 1.2))])
    disc = points[np.hypot(points[:, 0], points[:, 2] - 1.1) <= 0.1]
    box = upright_box(disc, FLOOR)
    np.testing.assert_allclose(box.T_frame_box[:3, :3], np.eye(3), atol=0.02)


def test_the_part_down_to_the_floor_is_added_though_something_hides_it() -> None:
    points = front_and_top()
    box = upright_box(points[points[:, 1] < 0.55], FLOOR)
    assert box.size_m[1] == pytest.approx(0.1, abs=0.002)
    assert box.center_m[1] == pytest.approx(0.55, abs=0.002)


def test_what_does_not_stand_keeps_the_bottom_that_is_seen() -> None:
    points = front_and_top()
    box = upright_box(points[points[:, 1] < 0.55], FLOOR, stands=False)
    assert box.size_m[1] == pytest.approx(0.045, abs=0.003)
    assert box.center_m[1] == pytest.approx(0.5225, abs=0.003)


def half_ball(radius_m: float = 0.1) -> Array:
    """The half that faces the camera of a ball on the floor, its middle 1.1 m away."""
    i = np.arange(600)
    z, angle = 1 - (2 * i + 1) / 600, np.pi * (1 + np.sqrt(5)) * i
    sphere = np.stack([np.cos(angle) * np.sqrt(1 - z * z), np.sin(angle) * np.sqrt(1 - z * z), z])
    ball = radius_m * sphere.T
    return ball[ball[:, 2] < 0] + [0.0, 0.6 - radius_m, 1.1]


def test_half_a_ball_is_completed_to_a_ball() -> None:
    box = upright_box(half_ball(), FLOOR)
    np.testing.assert_allclose(box.center_m, [0.0, 0.5, 1.1], atol=1e-6)
    np.testing.assert_allclose(box.size_m, 0.2, atol=1e-6)


def test_half_a_ball_is_a_ball_without_a_floor_too() -> None:
    box = free_box(half_ball(), np.eye(3))
    np.testing.assert_allclose(box.center_m, [0.0, 0.5, 1.1], atol=1e-6)
    np.testing.assert_allclose(box.size_m, 0.2, atol=1e-6)


def test_a_lying_roller_is_as_deep_as_it_is_high() -> None:
    """Its near quarter is seen; 0.3 m long, 0.1 m thick, its axis 1.05 m away."""
    angle = np.radians(np.arange(90, 271, 3))  # from the top over the near side to the bottom
    circle = np.stack([np.zeros_like(angle), -0.05 * np.sin(angle), 0.05 * np.cos(angle)], axis=1)
    along = np.stack(np.broadcast_arrays(np.arange(-0.15, 0.151, 0.005), 0.55, 1.05), axis=1)
    roller = (circle[:, None] + along).reshape(-1, 3)
    box = upright_box(roller, FLOOR)
    np.testing.assert_allclose(box.size_m, [0.3, 0.1, 0.1], atol=0.006)
    np.testing.assert_allclose(box.center_m, [0.0, 0.55, 1.05], atol=0.004)


def test_a_sheet_has_a_thickness_though_a_small_one() -> None:
    box = upright_box(grid((-0.1, 0.1), (0.6, 0.6), (1.0, 1.2)), FLOOR)
    assert box.size_m[1] == MIN_SIZE_M


def test_a_stray_point_above_it_does_not_set_its_height() -> None:
    box = upright_box(np.concatenate([front_and_top(), [[0.0, 0.2, 1.05]]]), FLOOR)
    np.testing.assert_allclose(box.size_m, [0.2, 0.1, 0.15], atol=0.005)


def test_a_plate_without_support_stays_a_plate() -> None:
    """A picture on a wall is not as deep as it is high."""
    box = free_box(grid((-0.2, 0.2), (-0.1, 0.1), (1.0, 1.0)), np.eye(3))
    np.testing.assert_allclose(box.size_m, [0.4, 0.2, MIN_SIZE_M], atol=0.01)
    np.testing.assert_allclose(box.center_m, [0, 0, 1.0], atol=0.001)


def test_without_support_the_axes_may_come_in_any_order_and_direction() -> None:
    """y is the one that is nearest to the picture's vertical."""
    axes = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    box = free_box(grid((-0.2, 0.2), (-0.1, 0.1), (1.0, 1.1)), axes)
    np.testing.assert_allclose(box.T_frame_box[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(box.size_m[:2], [0.4, 0.2], atol=0.01)
