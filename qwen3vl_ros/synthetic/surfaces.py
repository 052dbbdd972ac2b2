# SPDX-License-Identifier: Apache-2.0
"""The colour of every point: tiles, planks and bricks; stripes, checks and painted words.

Knows points, no rays. All of it is a function of where a point is, so nothing has a texture map
but the words.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from .rooms import TILE_M, Surface
from .solids import Solid

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

STRIPE_M = 0.045
CHECK_M = 0.05
SIGN_SHARE = 0.88  # of a box's side that its sign takes, at most
LETTER_PX = 40  # height of the letters on a sign before it is painted


def surface_albedo(surface: Surface, points: Floats) -> Floats:
    """(N, 3) linear RGB of points (N, 3) of a floor or table."""
    c, s = np.cos(surface.yaw), np.sin(surface.yaw)
    xy = points[:, :2] @ np.array([[c, -s], [s, c]], np.float32) / np.float32(TILE_M)
    if surface.kind == "planks":
        # A quarter of a tile wide, four tiles long, every second one pushed along by half.
        xy = xy * np.array([0.25, 4.0], np.float32)
        xy[:, 0] += 0.5 * (np.floor(xy[:, 1]) % 2)
    elif surface.kind == "bricks":
        xy = xy * np.array([1.0, 2.0], np.float32)
        xy[:, 0] += 0.5 * (np.floor(xy[:, 1]) % 2)
    tile = np.floor(xy).astype(np.int32)
    grain = 0.06 * _hash(tile, surface.seed)
    grain += 0.05 * _hash(np.floor(xy * 10).astype(np.int32), surface.seed + 1)
    if surface.kind == "tiles":
        second = (tile[:, 0] + tile[:, 1]) % 2
    elif surface.kind == "planks":
        second = (_hash(tile, surface.seed + 2) > 0).astype(np.int32)
        grain *= 2
    else:  # bricks, and the mortar between them
        within = xy - tile
        second = ((within < 0.06) | (within > 0.94)).any(axis=1).astype(np.int32)
    albedo = surface.albedo.astype(np.float32).take(second, axis=0)
    return np.asarray(albedo * (1 + grain[:, None]), np.float32)


def solid_albedo(solid: Solid, local: Array) -> Floats:
    """(N, 3) linear RGB of points (N, 3) on a solid, its own axes, metres."""
    colors = np.stack([solid.albedo, solid.accent, [0.92, 0.92, 0.90], [0.02, 0.02, 0.02]])
    which = np.zeros(len(local), np.int64)
    if solid.pattern == "striped":
        which = (np.floor(local[:, 2] / STRIPE_M + 0.5) % 3 == 1).astype(np.int64)
    elif solid.pattern == "checked":
        cells = np.floor(local / CHECK_M).astype(np.int64)
        # One cell in three: the name of the colour stays true.
        which = (cells.sum(axis=1) % 3 == 0).astype(np.int64)
    if solid.word:
        u, v, on_side = _sign_coordinates(solid, local)
        ink = _painted(solid.word)
        inside = on_side & (np.abs(u) < 1) & (np.abs(v) < 1)
        h, w = ink.shape
        row = np.clip(((1 - v[inside]) / 2 * h).astype(int), 0, h - 1)
        column = np.clip(((u[inside] + 1) / 2 * w).astype(int), 0, w - 1)
        which[inside] = 2
        colors_of_sign = colors[2] + ink[row, column, None] * (colors[3] - colors[2])
        albedo = colors[which]
        albedo[inside] = colors_of_sign
        return np.asarray(albedo, np.float32)
    return np.asarray(colors[which], np.float32)


def word_pixels(solid: Solid, local: Array) -> npt.NDArray[np.bool_]:
    """(N,) whether points of a solid are on the sign with its word."""
    if not solid.word:
        return np.zeros(len(local), bool)
    u, v, on_side = _sign_coordinates(solid, local)
    return np.asarray(on_side & (np.abs(u) < 1) & (np.abs(v) < 1))


def sign_corners(solid: Solid, *, towards: Array) -> Array:
    """(4, 3) corners of the sign on the side that faces a point, own axes, in order."""
    axis, along = _sign_axes(solid)
    half_u, half_v = _sign_half_m(solid)
    corners = np.zeros((4, 3))
    corners[:, axis] = np.copysign(solid.size_m[axis] / 2, towards[axis])
    corners[:, along] = half_u * np.array([-1, 1, 1, -1])
    corners[:, 2] = half_v * np.array([-1, -1, 1, 1])
    return corners


def _sign_axes(solid: Solid) -> tuple[int, int]:
    """Axis across the two sides that carry signs, the wider ones, and the axis along them."""
    return (1, 0) if solid.size_m[0] >= solid.size_m[1] else (0, 1)


def _sign_half_m(solid: Solid) -> tuple[float, float]:
    """Half the sign's width and height, metres: as large as fits, in the word's proportions."""
    h, w = _painted(solid.word).shape
    _, along = _sign_axes(solid)
    width = SIGN_SHARE * min(solid.size_m[along], solid.size_m[2] * w / h)
    return width / 2, width * h / w / 2


def _sign_coordinates(solid: Solid, local: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Rightwards and upwards on the sign, -1 to 1 within it, and whether a point is there."""
    axis, along = _sign_axes(solid)
    half_u, half_v = _sign_half_m(solid)
    on_side = np.abs(np.abs(local[:, axis]) - solid.size_m[axis] / 2) < 1e-3
    # Seen from outside, right is +y on the side of +x, and -x on the side of +y.
    outward = np.sign(local[:, axis])
    u = local[:, along] * outward * (1 if axis == 0 else -1) / half_u
    return u, local[:, 2] / half_v, on_side


@cache
def _painted(word: str) -> Floats:
    """(h, w) 0 to 1: how much ink a word leaves where, with a margin around it."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 6
    scale = cv2.getFontScaleFromHeight(font, LETTER_PX, thickness)
    (width, height), _ = cv2.getTextSize(word, font, scale, thickness)
    margin = LETTER_PX // 4
    paper = np.zeros((height + 2 * margin, width + 2 * margin), np.uint8)
    cv2.putText(paper, word, (margin, margin + height), font, scale, 255, thickness, cv2.LINE_AA)
    return np.asarray(paper / np.float32(255), np.float32)


def _hash(cells: npt.NDArray[np.int32], seed: int) -> Floats:
    """(N,) float32 in [-1, 1), fixed by cell (N, 2) and seed."""
    x, y = np.ascontiguousarray(cells).view(np.uint32).T
    mixed = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663))
    mixed ^= np.uint32(seed * 83492791 & 0xFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    unit = (mixed >> np.uint32(16)).astype(np.float32) / np.float32(32768.0)
    return np.asarray(unit - np.float32(1.0), np.float32)
