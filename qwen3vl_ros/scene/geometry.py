# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms, oriented boxes, and rectangles that overlap.

Knows no camera and no model. Transforms are (4, 4) float64 named `T_target_source`, column
vectors: `p_target = T_target_source @ p_source`. Quaternions are `xyzw`, as in ROS. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transforms3d.euler import euler2mat, mat2euler
from transforms3d.quaternions import mat2quat, quat2mat

Array = npt.NDArray[np.float64]

# The eight corners of a unit cube, z slowest; corner i has the signs of the bits of i: x y z.
CORNER_SIGNS: Array = np.array(
    [[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)]
)
# Pairs of corners (rows of CORNER_SIGNS) that an edge joins: those that differ in one sign.
EDGES: tuple[tuple[int, int], ...] = tuple(
    (i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OrientedBox:
    """A 3D box: where its centre is, how it is turned, how large it is along its own axes.

    Attributes:
        T_frame_box: (4, 4) float64, pose of the box centre in the frame that holds it.
        size_m: (3,) float64, full extents along the box's own x, y, z.
    """

    T_frame_box: Array
    size_m: Array

    @property
    def center_m(self) -> Array:
        """(3,) float64."""
        return self.T_frame_box[:3, 3]

    def corners(self) -> Array:
        """(8, 3) float64, in the frame that holds the box; order of `CORNER_SIGNS`."""
        return points_in_frame(self.T_frame_box, CORNER_SIGNS * self.size_m)


def transform_box(T_target_source: Array, box: OrientedBox) -> OrientedBox:
    """The same box seen from another frame: the pose turns, the size stays."""
    return OrientedBox(T_frame_box=T_target_source @ box.T_frame_box, size_m=box.size_m)


def points_in_frame(T_target_source: Array, points: Array) -> Array:
    """(N, 3) points of `source` in `target`."""
    return points @ T_target_source[:3, :3].T + T_target_source[:3, 3]


def transform_from_rotation(R: Array, translation: Array) -> Array:
    """(4, 4) from a (3, 3) rotation and a (3,) translation."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = translation
    return T


def transform_from_quaternion(quat_xyzw: Array, translation: Array) -> Array:
    """(4, 4) from a unit quaternion xyzw and a (3,) translation."""
    x, y, z, w = quat_xyzw
    return transform_from_rotation(quat2mat((w, x, y, z)), np.asarray(translation, float))


def quaternion_from_rotation(R: Array) -> Array:
    """(4,) float64 xyzw of a (3, 3) rotation, with w >= 0."""
    w, x, y, z = mat2quat(R)
    return np.array([x, y, z, w])


def inverse(T_target_source: Array) -> Array:
    """`T_source_target`, exactly rigid."""
    R = T_target_source[:3, :3]
    return transform_from_rotation(R.T, -R.T @ T_target_source[:3, 3])


def rotation_from_half_turns(half_turns: Array) -> Array:
    """(3, 3) from Qwen3-VL's three angles, fractions of 180 degrees about x, then y, then z.

    `R = Rz(a2) @ Ry(a1) @ Rx(a0)` (Qwen3-VL cookbooks/3d_grounding.ipynb: the code, whose prose
    says radians, multiplies by 180 degrees).
    """
    a, b, c = np.asarray(half_turns, float) * np.pi
    return np.asarray(euler2mat(a, b, c, "sxyz"), float)


def half_turns_from_rotation(R: Array) -> Array:
    """(3,) float64 in [-1, 1], the inverse of `rotation_from_half_turns` outside gimbal lock."""
    return np.array(mat2euler(R, "sxyz")) / np.pi


def angle_between(R_a: Array, R_b: Array) -> float:
    """Radians in [0, pi] of the turn that takes one rotation to the other."""
    cosine = (np.trace(R_a.T @ R_b) - 1) / 2
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))


def overlap_of_boxes(a_xyxy_px: Array, b_xyxy_px: Array) -> float:
    """Intersection over union of two rectangles, 0 to 1.

    >>> overlap_of_boxes(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2]))
    0.3333333333333333
    """
    low = np.maximum(a_xyxy_px[:2], b_xyxy_px[:2])
    high = np.minimum(a_xyxy_px[2:], b_xyxy_px[2:])
    shared = float(np.prod(np.maximum(high - low, 0.0)))
    areas = [float(np.prod(xyxy[2:] - xyxy[:2])) for xyxy in (a_xyxy_px, b_xyxy_px)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0
