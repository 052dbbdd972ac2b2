# SPDX-License-Identifier: Apache-2.0
"""A solid's box in a camera's frame, in the one form the tiny model learns.

Axes are Qwen3-VL's for upright things: x right, y down, z away. Of the quarter turns that describe
the same box, the one whose x axis points most nearly to the camera's right is taken; a round solid
is turned exactly that way, because nothing in the picture says how else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..scene.geometry import (
    OrientedBox,
    half_turns_from_rotation,
    inverse,
    transform_box,
    transform_from_rotation,
)
from .solids import SHAPES_WITH_HEADING, Solid

Array = npt.NDArray[np.float64]

# Axes x right, y down, z away in axes with z up.
R_UPRIGHT: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def upright_box(solid: Solid, T_world_camera: Array) -> OrientedBox:
    """The solid's box in the camera optical frame, metres; the camera's x axis is level."""
    box = OrientedBox(
        T_frame_box=solid.T_world_solid @ transform_from_rotation(R_UPRIGHT, np.zeros(3)),
        size_m=solid.size_m[[0, 2, 1]],
    )
    right, axis = T_world_camera[:3, 0], box.T_frame_box[:3, 0]
    turn = np.arctan2(axis[0] * right[1] - axis[1] * right[0], axis[:2] @ right[:2])
    if solid.shape in SHAPES_WITH_HEADING:
        quarters = int(np.round(turn / (np.pi / 2)))
        turn = quarters * np.pi / 2
        if quarters % 2:
            box = OrientedBox(T_frame_box=box.T_frame_box, size_m=box.size_m[[2, 1, 0]])
    # A turn about world up is a turn by minus that about the box's own y, which points down.
    c, s = np.cos(-turn), np.sin(-turn)
    turned = box.T_frame_box @ transform_from_rotation(
        np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.zeros(3)
    )
    return transform_box(
        inverse(T_world_camera), OrientedBox(T_frame_box=turned, size_m=box.size_m)
    )


def bbox_3d_of(T_camera_box: Array, size_m: Array) -> Array:
    """(9,) Qwen3-VL's numbers of a box: centre and size in metres, angles in half turns."""
    return np.concatenate(
        [T_camera_box[:3, 3], size_m, half_turns_from_rotation(T_camera_box[:3, :3])]
    )
