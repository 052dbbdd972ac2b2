# SPDX-License-Identifier: Apache-2.0
"""Planes among points: found by random sampling (RANSAC), then fitted by least squares.

Knows neither pictures nor objects. The same points give the same planes. Metres, any frame whose
origin is the camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .geometry import Array

# How many to look for, and the share of points that makes one.
MAX_PLANES = 3
MIN_PLANE_SHARE = 0.15
MIN_PLANE_POINTS = 30
# 200 triples miss a plane that holds a third of the points once in two thousand times.
RANSAC_TRIPLES = 200
RANSAC_POINTS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """A plane `normal . p + offset = 0` with the camera on its positive side.

    Attributes:
        normal: (3,) float64, unit; for a support it points up.
        offset: metres; the camera's height above the plane.
    """

    normal: Array
    offset: float

    def heights(self, points: Array) -> Array:
        """(N,) signed distances of (N, 3) points, metres, positive on the camera's side."""
        return points @ self.normal + self.offset


def thickness_m(points: Array) -> float:
    """How far a point may lie from a plane and still belong to it: noise grows with range."""
    return 0.006 + 0.003 * float(np.median(points[:, 2]))


def planes_among(points: Array) -> Iterator[tuple[Plane, float]]:
    """The largest planes among (N, 3) points, the largest first, each with its share of them."""
    total = len(points)
    enough = max(MIN_PLANE_POINTS, MIN_PLANE_SHARE * total)
    for _ in range(MAX_PLANES):
        if len(points) < enough:
            return
        plane = largest_plane(points)
        is_on = np.abs(plane.heights(points)) < thickness_m(points)
        if np.count_nonzero(is_on) < enough:
            return
        yield plane, np.count_nonzero(is_on) / total
        points = points[~is_on]


def largest_plane(points: Array) -> Plane:
    """The plane that most of (N, 3) points lie on, N >= 3."""
    sampled = points[:: 1 + len(points) // RANSAC_POINTS]
    rng = np.random.default_rng(0)
    a, b, c = sampled[rng.integers(len(sampled), size=(3, RANSAC_TRIPLES))]
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    offsets = -np.einsum("ij,ij->i", normals, a)
    is_on = np.abs(sampled @ normals.T + offsets) < thickness_m(points)
    # A triple of one point or one line has no normal, and then "holds" whatever is near.
    is_on &= np.linalg.norm(normals, axis=1) > 0.5
    best = int(np.argmax(is_on.sum(axis=0)))
    return refitted(_facing(normals[best], float(offsets[best])), points)


def refitted(plane: Plane, points: Array) -> Plane:
    """The same plane by least squares over those of (N, 3) points that lie on it."""
    on = points[np.abs(plane.heights(points)) < thickness_m(points)]
    if len(on) < MIN_PLANE_POINTS:
        return plane
    middle = on.mean(axis=0)
    normal = np.linalg.eigh(np.cov((on - middle).T))[1][:, 0]
    return _facing(normal, float(-normal @ middle))


def _facing(normal: Array, offset: float) -> Plane:
    sign = 1.0 if offset >= 0 else -1.0
    return Plane(normal=sign * normal, offset=sign * offset)
