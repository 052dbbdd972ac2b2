# SPDX-License-Identifier: Apache-2.0
"""Transforms and boxes, with numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3vl_ros.scene.geometry import (
    CORNER_SIGNS,
    EDGES,
    Array,
    OrientedBox,
    angle_between,
    half_turns_from_rotation,
    inverse,
    points_in_frame,
    quaternion_from_rotation,
    rotation_from_half_turns,
    transform_box,
    transform_from_quaternion,
    transform_from_rotation,
)

HALF = np.sqrt(0.5)


def about_z(degrees: float) -> Array:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_turning_a_box_turns_its_pose_and_leaves_its_size() -> None:
    """Rotating the size vector makes a 1 m cube 0 m wide at 45 degrees of yaw."""
    cube = OrientedBox(T_frame_box=np.eye(4), size_m=np.array([1.0, 1.0, 1.0]))
    turned = transform_box(transform_from_rotation(about_z(45), np.array([0.0, 0, 2])), cube)
    np.testing.assert_array_equal(turned.size_m, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(turned.center_m, [0, 0, 2])
    np.testing.assert_allclose(turned.T_frame_box[:3, :3], about_z(45))


def test_adjacent_frames_chain() -> None:
    """The camera is 1 m ahead of base and turned left; what it has at x = 2, base has at y = 2."""
    T_base_camera = transform_from_rotation(about_z(90), np.array([1.0, 0, 0]))
    points = points_in_frame(T_base_camera, np.array([[2.0, 0, 0], [0, 0, 3]]))
    np.testing.assert_allclose(points, [[1, 2, 0], [1, 0, 3]], atol=1e-12)


def test_the_inverse_leads_back() -> None:
    T_base_camera = transform_from_rotation(about_z(30), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(inverse(T_base_camera) @ T_base_camera, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("quat_xyzw", "R"),
    [
        pytest.param([0, 0, 0, 1], np.eye(3), id="none"),
        pytest.param([0, 0, HALF, HALF], about_z(90), id="left"),
        pytest.param([HALF, 0, 0, HALF], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], id="roll"),
    ],
)
def test_quaternions_are_xyzw(quat_xyzw: list[float], R: Array) -> None:
    T = transform_from_quaternion(np.array(quat_xyzw, float), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(T[:3, :3], R, atol=1e-12)
    np.testing.assert_array_equal(T[:, 3], [1, 2, 3, 1])
    np.testing.assert_allclose(quaternion_from_rotation(T[:3, :3]), quat_xyzw, atol=1e-12)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 0.01))
def test_a_rotation_survives_being_a_quaternion(quaternion: tuple[float, ...]) -> None:
    q = np.array(quaternion) / np.linalg.norm(quaternion)
    R = transform_from_quaternion(q, np.zeros(3))[:3, :3]
    back = quaternion_from_rotation(R)
    assert back[3] >= 0
    assert abs(back @ q) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("half_turns", "R"),
    [
        pytest.param([0, 0, 0.5], about_z(90), id="a quarter turn about z"),
        pytest.param([0, 0, 1], about_z(180), id="a half turn about z"),
        pytest.param([0.5, 0, 0], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], id="about x"),
        pytest.param([0, 0.5, 0], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], id="about y"),
        # About x first: z goes to -y, which the turn about z then takes to x.
        pytest.param([0.5, 0, 0.5], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], id="x before z"),
    ],
)
def test_qwens_angles_are_half_turns_about_x_then_y_then_z(
    half_turns: list[float], R: Array
) -> None:
    np.testing.assert_allclose(rotation_from_half_turns(np.array(half_turns)), R, atol=1e-12)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(st.floats(-0.99, 0.99), st.floats(-0.49, 0.49), st.floats(-0.99, 0.99)))
def test_half_turns_lead_there_and_back(half_turns: tuple[float, float, float]) -> None:
    R = rotation_from_half_turns(np.array(half_turns))
    np.testing.assert_allclose(half_turns_from_rotation(R), half_turns, atol=1e-7)


def test_corners_lie_half_a_size_from_the_centre_along_the_boxs_own_axes() -> None:
    """A box 2 m long, turned left: its length lies along y."""
    box = OrientedBox(
        T_frame_box=transform_from_rotation(about_z(90), np.array([5.0, 0, 0])),
        size_m=np.array([2.0, 0.4, 0.6]),
    )
    corners = box.corners()
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners.min(axis=0), [4.8, -1.0, -0.3])
    np.testing.assert_allclose(corners.max(axis=0), [5.2, 1.0, 0.3])
    np.testing.assert_allclose(corners[0], [5.2, -1.0, -0.3])


def test_twelve_edges_join_corners_that_differ_in_one_direction() -> None:
    assert len(set(EDGES)) == 12
    for a, b in EDGES:
        assert np.count_nonzero(CORNER_SIGNS[a] != CORNER_SIGNS[b]) == 1


@pytest.mark.parametrize("degrees", [0, 1e-6, 30, 90, 180])
def test_the_angle_between_rotations_is_that_of_the_turn(degrees: float) -> None:
    angle = angle_between(about_z(20), about_z(20 + degrees))
    assert np.degrees(angle) == pytest.approx(degrees, abs=1e-5)
