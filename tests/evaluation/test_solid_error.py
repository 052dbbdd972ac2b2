# SPDX-License-Identifier: Apache-2.0
"""How far a box is from the truth does not depend on how its axes are named."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.evaluation.solid_error import solid_error
from qwen3vl_ros.scene.geometry import (
    OrientedBox,
    rotation_from_half_turns,
    transform_from_rotation,
)


def box(half_turns, size=(0.3, 0.2, 0.1), center=(0, 0, 1)) -> OrientedBox:
    R = rotation_from_half_turns(np.array(half_turns, float))
    return OrientedBox(
        T_frame_box=transform_from_rotation(R, np.array(center, float)), size_m=np.array(size)
    )


@pytest.mark.parametrize(
    ("half_turns", "size", "turn_deg", "size_share"),
    [
        pytest.param((0, 0, 0), (0.3, 0.2, 0.1), 0, 0, id="the same"),
        pytest.param((0, 1, 0), (0.3, 0.2, 0.1), 0, 0, id="back to front"),
        pytest.param((0, 0.5, 0), (0.1, 0.2, 0.3), 0, 0, id="x and z exchanged"),
        pytest.param((0.5, 0, 0), (0.3, 0.1, 0.2), 0, 0, id="y and z exchanged"),
        pytest.param((0, 10 / 180, 0), (0.3, 0.2, 0.1), 10, 0, id="ten degrees"),
        pytest.param((0, 80 / 180, 0), (0.1, 0.2, 0.3), 10, 0, id="ten degrees short of it"),
        pytest.param((0, 0, 0), (0.33, 0.22, 0.11), 0, 0.1, id="a tenth too large"),
    ],
)
def test_turns_and_sizes(half_turns, size, turn_deg, size_share):
    error = solid_error(box(half_turns, size), box((0, 0, 0)))
    assert error.turn_deg == pytest.approx(turn_deg, abs=1e-5)
    assert error.size_share == pytest.approx(size_share)


def test_no_turn_is_larger_than_any_cube_can_have():
    """62.8 degrees: the farthest that two ways of placing a cube are apart."""
    rng = np.random.default_rng(0)
    turns = [solid_error(box(rng.uniform(-1, 1, 3)), box((0, 0, 0))).turn_deg for _ in range(300)]
    assert max(turns) < 62.81
    assert max(turns) > 50
