# SPDX-License-Identifier: Apache-2.0
"""Random rooms: solids on a table or on the floor, walls and clutter behind them, one light.

Knows what is where; `room_rendering.py` turns it into pictures.

World: z up, metres; the solids stand on the plane z = 0, be it table or floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .solids import COLORS, SHAPES, Solid, random_solid

Array = npt.NDArray[np.float64]

MOST_SOLIDS = 6
SAME_NAME = 0.35  # of the rooms with two solids or more hold two of a kind
TILE_M = 0.25  # sides of floor tiles, and lengths of planks and bricks: the metric cue of a room
# The last one is never trained on: held-out rooms have it as often as each of the others.
FLOORS = ("tiles", "planks", "bricks")
TRAINED_FLOORS = FLOORS[:2]
BOXES_WITH_SIGNS = 0.7  # of the solids of a room with signs
REACH_M = 0.46  # solids stand within this circle
GAP_M = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Clutter: a grey or brown block that nobody asks about.

    Attributes:
        low, high: (3,) float64, corners in the world.
        albedo: (3,) float64, linear RGB.
    """

    low: Array
    high: Array
    albedo: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """What solids stand on, or a floor.

    Attributes:
        kind: one of `FLOORS`.
        albedo: (2, 3) float64, linear RGB of its two kinds of tile.
        yaw: radians, turn of its pattern.
        seed: of its grain.
    """

    kind: str
    albedo: Array
    yaw: float
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """Sun and sky.

    Attributes:
        direction: (3,) float64, unit, from the floor towards the sun, world.
        softness: radians, half the angle over which the edge of a shadow fades.
        ambient: 0 to 1, share of light that comes from everywhere.
        tint: (3,) float64, factors on red, green and blue.
    """

    direction: Array
    softness: float
    ambient: float
    tint: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Solids, and what is around them.

    Attributes:
        solids: the objects; two may have the same name.
        surface: what they stand on, at z = 0.
        table_m: (2,) float64, half extents of the table; None where they stand on the floor.
        floor: around the table; None where the surface is the floor.
        floor_z: height of the floor, 0 or below.
        walls: x and y of two walls, both beyond the solids; NaN for none.
        wall_albedo: (3,) float64, linear RGB.
        clutter: blocks that are not asked about.
        light: sun and sky.
    """

    solids: tuple[Solid, ...]
    surface: Surface
    table_m: Array | None
    floor: Surface | None
    floor_z: float
    walls: Array
    wall_albedo: Array
    clutter: tuple[Block, ...]
    light: Light


def random_room(
    rng: np.random.Generator, *, floors: tuple[str, ...] = TRAINED_FLOORS, signs: bool = False
) -> Room:
    """A room with one to six solids; fewer, where two hundred draws find no free place.

    With `signs` most are boxes, all that are large enough with a word on them.
    """
    on_table = rng.uniform() < 0.45
    surface = _random_surface(rng, floors)
    walls = np.where(rng.uniform(size=2) < 0.7, rng.uniform(0.9, 2.6, size=2), np.nan)
    return Room(
        solids=_random_solids(rng, signs=signs),
        surface=surface,
        table_m=rng.uniform(0.5, 0.85, size=2) if on_table else None,
        floor=_random_surface(rng, floors) if on_table else None,
        floor_z=-float(rng.uniform(0.4, 0.8)) if on_table else 0.0,
        walls=walls * np.where(rng.uniform(size=2) < 0.5, -1, 1),
        wall_albedo=np.clip(rng.uniform(0.25, 0.8) + rng.uniform(-0.06, 0.06, size=3), 0, 1),
        clutter=_random_clutter(rng, -0.6 if on_table else 0.0),
        light=_random_light(rng),
    )


def _random_solids(rng: np.random.Generator, *, signs: bool) -> tuple[Solid, ...]:
    count = int(rng.integers(1, MOST_SOLIDS + 1))
    repeated = rng.uniform() < SAME_NAME
    placed: list[Solid] = []
    for _ in range(200):
        if len(placed) == count:
            break
        if repeated and placed and len(placed) < 3:
            twin = placed[0]
            solid = random_solid(rng, shape=twin.shape, color=twin.color)
        else:
            shape = SHAPES[rng.integers(len(SHAPES))]
            if signs and rng.uniform() < BOXES_WITH_SIGNS:
                shape = "box"
            color = list(COLORS)[rng.integers(len(COLORS))]
            solid = random_solid(rng, shape=shape, color=color, words=1.0 if signs else 0.5)
            if any(solid.name == other.name for other in placed):
                continue
        reach, angle = REACH_M * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        solid = moved(solid, x=reach * np.cos(angle), y=reach * np.sin(angle))
        if all(gap_m(solid, other) > GAP_M for other in placed):
            placed.append(solid)
    order = rng.permutation(len(placed))
    return tuple(placed[i] for i in order)


def moved(solid: Solid, *, x: float, y: float) -> Solid:
    """The solid, standing elsewhere."""
    T = solid.T_world_solid.copy()
    T[:2, 3] = x, y
    return replace(solid, T_world_solid=T)


def gap_m(a: Solid, b: Solid) -> float:
    """Metres of table between the circles around two footprints."""
    between = np.linalg.norm((a.T_world_solid - b.T_world_solid)[:2, 3])
    return float(between - a.footprint_radius_m - b.footprint_radius_m)


def _random_surface(rng: np.random.Generator, kinds: tuple[str, ...]) -> Surface:
    grey, tint = rng.uniform(0.12, 0.65), rng.uniform(-0.06, 0.06, size=3)
    if rng.uniform() < 0.4:  # wood
        tint = tint + grey * np.array([0.25, 0.02, -0.22])
    first = grey + tint
    return Surface(
        kind=kinds[rng.integers(len(kinds))],
        albedo=np.clip(np.stack([first, first * rng.uniform(0.6, 0.92)]), 0.03, 0.9),
        yaw=float(rng.uniform(0, np.pi)),
        seed=int(rng.integers(2**31)),
    )


def _random_clutter(rng: np.random.Generator, floor_z: float) -> tuple[Block, ...]:
    """Blocks that stand around the solids, outside their circle."""
    blocks = []
    for _ in range(rng.integers(0, 5)):
        half = rng.uniform((0.04, 0.04, 0.03), (0.22, 0.22, 0.25))
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.95, 1.9)
        middle = np.array([away * np.cos(angle), away * np.sin(angle), floor_z + half[2]])
        grey = rng.uniform(0.08, 0.6)
        brownish = rng.uniform(0, 0.3) * grey * np.array([1.0, 0.1, -0.8])
        blocks.append(Block(low=middle - half, high=middle + half, albedo=grey + brownish))
    return tuple(blocks)


def _random_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(np.radians(32), np.radians(80))
    flat = np.cos(elevation)
    return Light(
        direction=np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)]),
        softness=float(rng.uniform(0.0, 0.06)),
        ambient=float(rng.uniform(0.35, 0.65)),
        tint=1 + rng.uniform(-0.06, 0.06, size=3),
    )
