# SPDX-License-Identifier: Apache-2.0
"""Fit an oriented box to the visible surface of one object.

Knows no pictures and no Open3D: points in, box out. A camera sees only the near side, so the
fit adds what must be there: the part down to the support, and the far side of round things.

Frame:  camera optical frame, metres; the camera is at the origin.
Box:    Qwen3-VL's axes: local y is vertical and points down, as the camera's y does. Of the
        quarter turns that describe the same box, the one whose x points most nearly to the
        camera's right; a footprint that no turn fits better is turned exactly that way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import Array, OrientedBox, transform_from_rotation
from .planes import Plane

# Extents are taken between these percentiles, so that a few stray points do not set the size.
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
# No side of a box is thinner than this; a sheet of paper is still something to point at.
MIN_SIZE_M = 0.002
# The top is flat, and so shows the whole footprint, if its slab reaches this far across it.
FLAT_TOP_SLAB_M = 0.008
FLAT_TOP_REACH = 0.8
MAX_BALL_RADIUS_M = 1.0
YAW_STEPS = 90
FOOTPRINT_CELLS = 40
# A turned rectangle is taken only if it saves this share of area; 1.2 degrees do, for a square.
TURN_MUST_SAVE = 0.04


def upright_box(points: Array, support: Plane, *, stands: bool = True) -> OrientedBox:
    """The box of an object on its support plane, completed where the camera cannot see.

    Args:
        points: (N, 3) float64, the visible surface, N >= 3.
        support: the plane beneath the object.
        stands: the object reaches down to `support`; False leaves its bottom where it is seen.
    """
    away, right = _ground_axes(points, support)
    heights = support.heights(points)
    bottom, top = np.percentile(heights, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if stands:
        bottom = 0.0
    top = max(float(top), bottom + MIN_SIZE_M)
    size_y = top - bottom
    facing_yaw = float(np.arctan2(away[0], right[0]))

    ball = _ball(points)
    if ball is not None and abs(2 * ball.radius_m - size_y) < 0.2 * size_y:
        x_axis = np.cos(facing_yaw) * right + np.sin(facing_yaw) * away
        return _box(ball.center_m, x_axis, -support.normal, np.full(3, 2 * ball.radius_m))

    footprint = np.stack([points @ right, points @ away], axis=1)
    yaw, low, high = _least_rectangle(_evened(footprint), preferred_yaw=facing_yaw)
    turned = footprint @ np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    is_top_seen = support.offset > 1.05 * top
    if not (is_top_seen and _is_flat_topped(turned, heights, top)):
        low, high = _completed(yaw, low, high, size_y)
    x_axis = np.cos(yaw) * right + np.sin(yaw) * away
    z_axis = -np.sin(yaw) * right + np.cos(yaw) * away
    middle = (low + high) / 2
    center = (
        x_axis * middle[0]
        + z_axis * middle[1]
        + support.normal * ((top + bottom) / 2 - support.offset)
    )
    size = np.array([high[0] - low[0], size_y, high[1] - low[1]])
    return _box(center, x_axis, -support.normal, size)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ball:
    center_m: Array
    radius_m: float


def _ball(points: Array) -> _Ball | None:
    """The sphere that the points lie on, if they lie on one."""
    if len(points) < 10:
        return None
    middle = points.mean(axis=0)
    p = points - middle
    # |p|^2 = 2 p . c + (r^2 - |c|^2), linear in c and the bracket.
    solution = np.linalg.lstsq(
        np.column_stack([2 * p, np.ones(len(p))]), np.sum(p * p, axis=1), rcond=None
    )[0]
    c = solution[:3]
    radius = float(np.sqrt(max(0.0, solution[3] + c @ c)))
    off = np.abs(np.linalg.norm(p - c, axis=1) - radius)
    if radius > MAX_BALL_RADIUS_M or np.percentile(off, 80) > 0.003 + 0.03 * radius:
        return None
    return _Ball(center_m=c + middle, radius_m=radius)


def free_box(points: Array, axes: Array) -> OrientedBox:
    """The box of an object without support, along the axes of a tight box around it.

    The least tilted axis becomes y. A rounded near side, deeper than a plate, is completed
    along the view as deep as the narrower of its two other sides.

    Args:
        points: (N, 3) float64, the visible surface, N >= 3.
        axes: (3, 3), columns are the tight box's unit axes.
    """
    low, high = np.percentile(points @ axes, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=0)
    size = np.maximum(high - low, MIN_SIZE_M)
    center = axes @ ((low + high) / 2)
    view = center / np.linalg.norm(center)
    along = int(np.argmax(np.abs(axes.T @ view)))
    across = min(size[i] for i in range(3) if i != along)
    ball = _ball(points)
    if ball is not None and ball.radius_m < across:
        center, size = ball.center_m, np.full(3, 2 * ball.radius_m)
    elif 0.25 * across < size[along] < across:
        grown = across - size[along]
        center = center + axes[:, along] * np.sign(axes[:, along] @ view) * grown / 2
        size = np.where(np.arange(3) == along, across, size)
    vertical = int(np.argmax(np.abs(axes[1])))
    first, second = (i for i in range(3) if i != vertical)
    down = axes[:, vertical] * (1.0 if axes[1, vertical] >= 0 else -1.0)
    return _box(center, axes[:, first], down, size[[first, vertical, second]])


def _box(center: Array, x_axis: Array, down: Array, size: Array) -> OrientedBox:
    """The box with its x axis turned by quarters to lie most nearly to the camera's right."""
    z_axis = np.cross(x_axis, down)
    if abs(z_axis[0]) > abs(x_axis[0]):
        x_axis, size = z_axis, size[[2, 1, 0]]
    if x_axis[0] < 0:
        x_axis = -x_axis
    R = np.stack([x_axis, down, np.cross(x_axis, down)], axis=1)
    return OrientedBox(T_frame_box=transform_from_rotation(R, center), size_m=size)


def _ground_axes(points: Array, support: Plane) -> tuple[Array, Array]:
    """Unit vectors in the support plane: away from the camera, and to its right."""
    up = support.normal
    view = np.median(points, axis=0)
    away = view - (view @ up) * up
    if np.linalg.norm(away) < 0.05 * np.linalg.norm(view):  # looking straight down on it
        away = np.array([0.0, -1.0, 0.0]) + up[1] * up
    away = away / np.linalg.norm(away)
    return away, np.cross(away, up)


def _is_flat_topped(footprint: Array, heights: Array, top: float) -> bool:
    """True when the top reaches as far as the object does, along both axes (N, 2)."""
    slab = footprint[heights > top - FLAT_TOP_SLAB_M]
    if len(slab) < 3:
        return False
    reach = np.ptp(np.percentile(slab, [2, 98], axis=0), axis=0)
    whole = np.ptp(np.percentile(footprint, [2, 98], axis=0), axis=0)
    return bool(np.all(reach >= FLAT_TOP_REACH * whole))


def _evened(footprint: Array) -> Array:
    """The outermost point in every cell of the ground, (N, 2) metres.

    A steep near face has most of the points, and must not outvote a far edge of a few.
    """
    cell = max(0.003, float(np.max(np.ptp(footprint, axis=0))) / FOOTPRINT_CELLS)
    middle = np.median(footprint, axis=0)
    outermost_first = np.argsort(-np.linalg.norm(footprint - middle, axis=1), kind="stable")
    footprint = footprint[outermost_first]
    columns, rows = np.round(footprint / cell).astype(np.int64).T
    _, first = np.unique(columns * 1_000_003 + rows, return_index=True)
    return footprint[first]


def _least_rectangle(footprint: Array, *, preferred_yaw: float) -> tuple[float, Array, Array]:
    """Yaw and bounds of the rectangle of least area around a footprint.

    Args:
        footprint: (N, 2) metres, columns: to the right, away from the camera.
        preferred_yaw: radians, taken unless another one makes the area clearly smaller.

    Returns:
        yaw of the rectangle's first axis, radians, and its (2,) low and high bounds along its
        own axes.
    """
    turns = (np.arange(YAW_STEPS) / YAW_STEPS - 0.5) * np.pi / 2
    yaws = np.append(turns, preferred_yaw)
    c, s = np.cos(yaws), np.sin(yaws)
    along = np.stack([footprint @ np.stack([c, s]), footprint @ np.stack([-s, c])])
    low, high = np.percentile(along, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=1)  # (2, yaws)
    size = np.maximum(high - low, MIN_SIZE_M)
    area = size[0] * size[1]
    best = int(np.argmin(area))
    if area[best] > (1 - TURN_MUST_SAVE) * area[-1]:
        best = len(yaws) - 1
    middle, half = (low + high)[:, best] / 2, size[:, best] / 2
    return float(yaws[best]), middle - half, middle + half


def _completed(yaw: float, low: Array, high: Array, size_y: float) -> tuple[Array, Array]:
    """Bounds with the narrower side grown, away from the camera, as deep as it is high.

    True of what lies on its round side; of a face without a visible top it is a guess.
    """
    size = high - low
    narrow = int(np.argmin(size))
    grown = min(size_y, float(size.max())) - size[narrow]
    if grown <= 0:
        return low, high
    runs_away = (np.sin(yaw), np.cos(yaw))[narrow] >= 0
    low, high = low.copy(), high.copy()
    if runs_away:
        high[narrow] += grown
    else:
        low[narrow] -= grown
    return low, high
