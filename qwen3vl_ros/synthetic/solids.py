# SPDX-License-Identifier: Apache-2.0
"""Things that stand on a table: seven shapes, ten colours, patterns, painted words.

Knows shapes and names, nothing of pictures. A solid's own axes: z up, origin in the centre of its
box, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mesh = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]

SHAPES = ("box", "ball", "cylinder", "cone", "mug", "bottle", "ring")
# Their heading can be seen, up to the quarter turns of their box; the others are round.
SHAPES_WITH_HEADING = ("box", "mug")
# Linear RGB. Hues are far apart on purpose: naming the colour must be possible.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.76, 0.05, 0.05),
    "orange": (0.92, 0.36, 0.03),
    "yellow": (0.90, 0.80, 0.07),
    "green": (0.07, 0.50, 0.12),
    "blue": (0.06, 0.15, 0.78),
    "purple": (0.42, 0.08, 0.58),
    "pink": (0.95, 0.42, 0.66),
    "cyan": (0.06, 0.68, 0.75),
    "white": (0.93, 0.93, 0.93),
    "black": (0.025, 0.025, 0.03),
}
PATTERNS = ("plain", "striped", "checked")
WORDS = ("TEA", "SALT", "RICE", "MILK", "GLUE", "TOOLS", "NUTS", "OPEN")
# Radius and height, both -1 to 1 and 0 to 1, of what a lathe would cut, from the bottom up.
BOTTLE = ((0.0, -1), (1, -1), (1, 0.2), (0.85, 0.4), (0.36, 0.56), (0.36, 1), (0.0, 1))
CUP = ((0.0, -1), (1, -1), (1, 1), (0.82, 1), (0.82, -0.8), (0.0, -0.8))
HANDLE_REACH = 0.34  # of a mug's diameter, beyond its wall
SEGMENTS = 36


@dataclass(frozen=True, kw_only=True, slots=True)
class Solid:
    """One object.

    Attributes:
        shape: one of `SHAPES`.
        color: a key of `COLORS`; of the larger part of its surface.
        pattern: one of `PATTERNS`.
        word: one of `WORDS`, painted on two opposite sides of a box; "" for none.
        T_world_solid: (4, 4) float64, pose of its centre, its z axis up.
        size_m: (3,) float64, full extents along its own x, y, z.
        albedo: (3,) float64, linear RGB of its colour, a little varied.
        accent: (3,) float64, linear RGB of the smaller part of its pattern.
    """

    shape: str
    color: str
    pattern: str
    word: str
    T_world_solid: Array
    size_m: Array
    albedo: Array
    accent: Array

    @property
    def name(self) -> str:
        """What a person would call it: "red box"."""
        return f"{self.color} {self.shape}"

    @property
    def footprint_radius_m(self) -> float:
        """Of the circle around what it covers of the table."""
        if self.shape in SHAPES_WITH_HEADING:
            return float(np.linalg.norm(self.size_m[:2])) / 2
        return float(self.size_m[0]) / 2


def random_solid(rng: np.random.Generator, *, shape: str, color: str, words: float = 0.5) -> Solid:
    """A solid of some size and pattern, centred at the origin of the world, turned at random.

    Of the boxes that are large enough the share `words` carries a word.
    """
    size = _random_size(rng, shape)
    yaw = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(yaw), np.sin(yaw)
    T = np.eye(4)
    T[:2, :2] = [[c, -s], [s, c]]
    T[2, 3] = size[2] / 2
    albedo = np.clip(np.array(COLORS[color]) * rng.uniform(0.88, 1.12, size=3), 0.015, 0.98)
    # Light on dark and dark on light, of the same hue: the name stays true.
    dark = albedo.mean() < 0.3
    accent = 0.45 * albedo + 0.5 if dark else 0.4 * albedo
    is_labelled = shape == "box" and min(size[:2]) > 0.13 and size[2] > 0.1
    word = WORDS[rng.integers(len(WORDS))] if is_labelled and rng.uniform() < words else ""
    pattern = "plain" if word or rng.uniform() < 0.6 else PATTERNS[rng.integers(1, len(PATTERNS))]
    return Solid(
        shape=shape,
        color=color,
        pattern=pattern,
        word=word,
        T_world_solid=T,
        size_m=size,
        albedo=albedo,
        accent=accent,
    )


def _random_size(rng: np.random.Generator, shape: str) -> Array:
    """(3,) metres."""
    if shape == "box":
        return rng.uniform(0.09, 0.28, size=3)
    if shape == "ball":
        return np.full(3, rng.uniform(0.11, 0.26))
    if shape == "mug":
        diameter = rng.uniform(0.10, 0.17)
        return np.array([diameter * (1 + HANDLE_REACH), diameter, rng.uniform(0.11, 0.19)])
    round_sizes = {  # diameter and height, least and most
        "cylinder": ((0.09, 0.23), (0.11, 0.31)),
        "cone": ((0.13, 0.26), (0.14, 0.30)),
        "bottle": ((0.08, 0.14), (0.21, 0.34)),
        "ring": ((0.17, 0.30), (0.035, 0.065)),
    }
    diameter, height = (rng.uniform(*some) for some in round_sizes[shape])
    return np.array([diameter, diameter, height])


def mesh_of(solid: Solid) -> Mesh:
    """Vertices (N, 3) float32, metres, own axes; triangles (M, 3) uint32, seen from outside."""
    half = solid.size_m / 2
    if solid.shape == "ball":
        angles = np.linspace(-np.pi / 2, np.pi / 2, SEGMENTS // 2 + 1)
        vertices, triangles = _lathe(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    elif solid.shape == "box":
        vertices, triangles = _block()
    elif solid.shape == "mug":
        return _mug(solid.size_m)
    elif solid.shape == "ring":
        return _torus(half[0] - half[2], half[2])
    else:
        profile = {
            "cylinder": ((0.0, -1), (1, -1), (1, 1), (0.0, 1)),
            "cone": ((0.0, -1), (1, -1), (0.0, 1)),
            "bottle": BOTTLE,
        }[solid.shape]
        vertices, triangles = _lathe(profile)
    return (vertices * half).astype(np.float32), triangles


def _lathe(profile: Sequence[Sequence[float]] | Array) -> tuple[Array, npt.NDArray[np.uint32]]:
    """A surface of revolution about z; `profile` holds (radius, z) from the bottom up, outside
    first."""
    turns = np.arange(SEGMENTS) * 2 * np.pi / SEGMENTS
    rings = [np.stack([r * np.cos(turns), r * np.sin(turns), np.full(SEGMENTS, z)], axis=1)
             for r, z in np.asarray(profile, float)]  # fmt: skip
    return np.concatenate(rings), _tube_triangles(len(rings), closed=False)


def _tube_triangles(rings: int, *, closed: bool) -> npt.NDArray[np.uint32]:
    """Triangles between rings of `SEGMENTS` vertices each; `closed` joins the last to the first.

    Vertex s of ring r has number r * SEGMENTS + s.
    """
    r = np.arange(rings if closed else rings - 1)[:, None]
    s = np.arange(SEGMENTS)[None]
    here, up = r * SEGMENTS, (r + 1) % rings * SEGMENTS
    ahead = (s + 1) % SEGMENTS
    a, b, c, d = here + s, here + ahead, up + ahead, up + s
    corners = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])
    return corners.reshape(-1, 3).astype(np.uint32)


def _block() -> tuple[Array, npt.NDArray[np.uint32]]:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    triangles = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return corners, np.array(triangles, np.uint32)


def _torus(radius: float, tube: float) -> Mesh:
    """A ring that lies flat, metres."""
    around = np.arange(24)[:, None] * 2 * np.pi / 24
    turns = np.arange(SEGMENTS)[None] * 2 * np.pi / SEGMENTS
    reach = radius + tube * np.cos(around)
    vertices = np.stack(
        [reach * np.cos(turns), reach * np.sin(turns), tube * np.sin(around) + 0 * turns], axis=-1
    )
    return vertices.reshape(-1, 3).astype(np.float32), _tube_triangles(24, closed=True)


def _mug(size_m: Array) -> Mesh:
    """A cup, open at the top, with a handle towards x."""
    radius, half_height = size_m[1] / 2, size_m[2] / 2
    cup, cup_triangles = _lathe(CUP)
    cup *= (radius, radius, half_height)
    # The handle is a ring that stands in the xz plane, half of it inside the wall.
    reach = size_m[0] - size_m[1]
    tube = 0.16 * reach + 0.004
    ring, ring_triangles = _torus(reach - tube, tube)
    handle = ring[:, [0, 2, 1]] * (1, 1, min(1.3, 0.8 * half_height / reach)) + (radius, 0, 0)
    vertices = np.concatenate([cup, handle]) - ((size_m[0] - size_m[1]) / 2, 0, 0)
    # Swapping two axes turned the ring's triangles inside out.
    triangles = np.concatenate([cup_triangles, ring_triangles[:, ::-1] + np.uint32(len(cup))])
    return vertices.astype(np.float32), triangles
