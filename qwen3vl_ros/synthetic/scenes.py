# SPDX-License-Identifier: Apache-2.0
"""Random tabletop-like scenes: coloured solids on a tiled floor, drawn from a seed.

Knows what is in a scene and where; `rendering.py` turns a scene into pictures.

World: z up, floor at z = 0, metres. A solid's own axes: z up, centre at the origin.
Camera: optical frame (x right, y down, z forward, REP 103).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scene.camera import Intrinsics
from ..scene.geometry import (
    OrientedBox,
    inverse,
    transform_box,
    transform_from_rotation,
)

Array = npt.NDArray[np.float64]

SHAPES = ("box", "ball", "cylinder")
# Linear RGB albedo. Hues are far apart on purpose: naming the colour must be possible.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.78, 0.06, 0.06),
    "orange": (0.92, 0.40, 0.04),
    "yellow": (0.90, 0.82, 0.08),
    "green": (0.08, 0.58, 0.14),
    "blue": (0.07, 0.18, 0.80),
    "purple": (0.45, 0.10, 0.62),
    "pink": (0.95, 0.45, 0.68),
    "white": (0.93, 0.93, 0.93),
}
TILE_M = 0.25  # side of a floor tile: the one metric cue every scene shares

# Box axes by which Qwen3-VL describes upright things (x right, y down, z away), in z-up axes.
R_UPRIGHT: Array = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Solid:
    """One object.

    Attributes:
        shape: one of `SHAPES`.
        color: a key of `COLORS`.
        T_world_solid: (4, 4) float64, pose of its centre, its z axis up.
        size_m: (3,) float64, full extents along its own x, y, z.
        albedo: (3,) float64, linear RGB, its colour with a little variation.
    """

    shape: str
    color: str
    T_world_solid: Array
    size_m: Array
    albedo: Array

    @property
    def name(self) -> str:
        """What a person would call it: "red box"."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Solids on a floor under one light.

    Attributes:
        solids: the objects, no two with the same name.
        floor_albedo: (2, 3) float64, linear RGB of the two kinds of tile.
        floor_yaw: radians, turn of the tile pattern.
        floor_seed: of the grain of the tiles.
        light_direction: (3,) float64, unit, from the floor towards the light, world.
        ambient: 0 to 1, light that comes from everywhere.
        exposure: factor on all light.
    """

    solids: tuple[Solid, ...]
    floor_albedo: Array
    floor_yaw: float
    floor_seed: int
    light_direction: Array
    ambient: float
    exposure: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraView:
    """Where a camera stands and how it sees.

    Attributes:
        intrinsics: of the picture.
        T_world_camera: (4, 4) float64, camera optical frame in the world.
    """

    intrinsics: Intrinsics
    T_world_camera: Array


def random_scene(rng: np.random.Generator, *, solids: int | None = None) -> Scene:
    """A scene of one to five (or `solids`) objects that do not touch.

    Fewer, where two hundred draws find no free place or new name for more.
    """
    count = int(rng.integers(1, 6)) if solids is None else solids
    names: set[str] = set()
    placed: list[Solid] = []
    for _ in range(200):
        if len(placed) == count:
            break
        solid = _random_solid(rng)
        clear = all(_gap(solid, other) > 0.04 for other in placed)
        if clear and solid.name not in names:
            placed.append(solid)
            names.add(solid.name)
    grey = rng.uniform(0.12, 0.6)
    tint = rng.uniform(-0.05, 0.05, size=3)
    contrast = rng.uniform(0.6, 0.92)
    tiles = np.clip(np.stack([grey + tint, (grey + tint) * contrast]), 0.03, 0.9)
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(np.radians(35), np.radians(80))
    light = np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    return Scene(
        solids=tuple(placed),
        floor_albedo=tiles,
        floor_yaw=float(rng.uniform(0, np.pi)),
        floor_seed=int(rng.integers(2**31)),
        light_direction=light,
        ambient=float(rng.uniform(0.35, 0.6)),
        exposure=float(rng.uniform(0.8, 1.15)),
    )


def random_view(rng: np.random.Generator, *, width: int = 640, height: int = 480) -> CameraView:
    """A camera that looks down at the middle of the scene, from a random side."""
    focal_px = rng.uniform(0.80, 0.98) * max(width, height)
    K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
    azimuth = rng.uniform(0, 2 * np.pi)
    pitch = rng.uniform(np.radians(24), np.radians(52))
    distance = rng.uniform(1.0, 1.65)
    target = np.array([*rng.uniform(-0.14, 0.14, size=2), 0.08])
    back = np.array(
        [np.cos(azimuth) * np.cos(pitch), np.sin(azimuth) * np.cos(pitch), np.sin(pitch)]
    )
    return CameraView(
        intrinsics=Intrinsics(K=K, width=width, height=height),
        T_world_camera=look_at(target + distance * back, target),
    )


def look_at(eye: Array, target: Array) -> Array:
    """`T_world_camera` (4, 4) of an optical frame at `eye` that looks at `target`, level."""
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    return transform_from_rotation(np.stack([x, np.cross(z, x), z], axis=1), eye)


def box_in_camera(solid: Solid, view: CameraView) -> OrientedBox:
    """The solid's box in the camera optical frame, in the one form the tiny model learns.

    Axes are Qwen3-VL's (x right, y down, z away). Of the quarter turns that describe the same
    box, the one whose x axis points most nearly to the camera's right is taken; a round solid is
    turned exactly that way, because nothing in the picture says how else.
    """
    T_camera_world = inverse(view.T_world_camera)
    box = OrientedBox(
        T_frame_box=solid.T_world_solid @ transform_from_rotation(R_UPRIGHT, np.zeros(3)),
        size_m=solid.size_m[[0, 2, 1]],
    )
    right = view.T_world_camera[:3, 0]  # level by construction, world
    axis = box.T_frame_box[:3, 0]
    turn = np.arctan2(axis[0] * right[1] - axis[1] * right[0], axis[:2] @ right[:2])
    if solid.shape == "box":
        quarter = np.pi / 2
        turn = np.round(turn / quarter) * quarter
        if int(np.round(turn / quarter)) % 2:
            box = OrientedBox(T_frame_box=box.T_frame_box, size_m=box.size_m[[2, 1, 0]])
    # A turn about world up is a turn by minus that about the box's own y, which points down.
    c, s = np.cos(-turn), np.sin(-turn)
    turned = box.T_frame_box @ transform_from_rotation(
        np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.zeros(3)
    )
    return transform_box(T_camera_world, OrientedBox(T_frame_box=turned, size_m=box.size_m))


def _random_solid(rng: np.random.Generator) -> Solid:
    shape = SHAPES[rng.integers(len(SHAPES))]
    color = list(COLORS)[rng.integers(len(COLORS))]
    if shape == "box":
        size = rng.uniform(0.10, 0.30, size=3)
    elif shape == "ball":
        size = np.full(3, rng.uniform(0.12, 0.28))
    else:
        diameter = rng.uniform(0.10, 0.24)
        size = np.array([diameter, diameter, rng.uniform(0.12, 0.32)])
    reach = 0.42 * np.sqrt(rng.uniform())
    angle, yaw = rng.uniform(0, 2 * np.pi, size=2)
    c, s = np.cos(yaw), np.sin(yaw)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    center = np.array([reach * np.cos(angle), reach * np.sin(angle), size[2] / 2])
    albedo = np.clip(np.array(COLORS[color]) * rng.uniform(0.88, 1.12, size=3), 0.02, 0.98)
    return Solid(
        shape=shape,
        color=color,
        T_world_solid=transform_from_rotation(R, center),
        size_m=size,
        albedo=albedo,
    )


def _gap(a: Solid, b: Solid) -> float:
    """Metres of floor between the circles around two footprints."""
    between = np.linalg.norm((a.T_world_solid - b.T_world_solid)[:2, 3])
    return float(between - _footprint_radius(a) - _footprint_radius(b))


def _footprint_radius(solid: Solid) -> float:
    if solid.shape == "box":
        return float(np.linalg.norm(solid.size_m[:2])) / 2
    return float(solid.size_m[0]) / 2
