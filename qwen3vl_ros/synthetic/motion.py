# SPDX-License-Identifier: Apache-2.0
"""Rooms in which something moves while the camera stands still: who, from when to when, where to.

Knows rooms and times, draws nothing. A solid keeps its place in `Room.solids` for ever: that is
its id, in every frame and every truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .dataset import HELD_OUT_SEED, aimed_lens
from .lenses import Lens
from .rooms import FLOORS, GAP_M, REACH_M, TRAINED_FLOORS, Room, gap_m, moved, random_room

MOTION = 2  # the stream that moving rooms draw from
LEAST_WAY_M = 0.20  # a move that is shorter is none
TRIES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One solid slides to another place.

    Attributes:
        index: of the solid in `Room.solids`.
        start_s, end_s: seconds from the first frame.
        to_xy: (2,) float64, metres, where its centre comes to stand, world.
    """

    index: int
    start_s: float
    end_s: float
    to_xy: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class MovingRoom:
    """A room, and what moves in it.

    Attributes:
        room: before anything moves.
        lens: the camera, which stands still.
        moves: one after the other, of different solids; empty where nothing moves.
        times_s: of the frames, seconds from the first.
    """

    room: Room
    lens: Lens
    moves: tuple[Move, ...]
    times_s: tuple[float, ...]

    def room_at(self, time_s: float) -> Room:
        """The room as it is at a time."""
        solids = list(self.room.solids)
        for move in self.moves:
            share = np.clip((time_s - move.start_s) / (move.end_s - move.start_s), 0, 1)
            here = solids[move.index].T_world_solid[:2, 3]
            x, y = here + share * (move.to_xy - here)
            solids[move.index] = moved(solids[move.index], x=float(x), y=float(y))
        return replace(self.room, solids=tuple(solids))

    def lens_at(self, index: int) -> Lens:
        """The camera of a frame: its noise is another one in each."""
        return replace(self.lens, noise_seed=self.lens.noise_seed + index)


def random_moving_room(
    rng: np.random.Generator,
    *,
    frames: int = 8,
    frames_per_s: float = 2.0,
    moves: int = 1,
    floors: tuple[str, ...] = TRAINED_FLOORS,
    width: int | None = None,
    height: int | None = None,
) -> MovingRoom:
    """A room with at most `moves` moves; fewer, where no free way is found for more.

    Each move takes at least two frames' time, and has a part of the clip to itself.
    """
    room = random_room(rng, floors=floors)
    lens = aimed_lens(room, rng, width=width, height=height)
    times_s = tuple(float(i) / frames_per_s for i in range(frames))
    part = times_s[-1] / max(moves, 1)
    found: list[Move] = []
    for number in range(moves):
        now = MovingRoom(room=room, lens=lens, moves=tuple(found), times_s=times_s)
        taken = {move.index for move in found}
        target = _free_way(now.room_at(times_s[-1]), taken, rng)
        if target is None:
            continue
        least = min(2 / frames_per_s, 0.6 * part)
        start = number * part + rng.uniform(0, part - least)
        end = rng.uniform(start + least, (number + 1) * part)
        # On the frames' times, so that what is seen to move is what is said to move.
        start, end = np.floor(start * frames_per_s), np.ceil(end * frames_per_s)
        found.append(
            Move(
                index=target[0],
                start_s=float(start / frames_per_s),
                end_s=float(min(end / frames_per_s, times_s[-1])),
                to_xy=target[1],
            )
        )
    return MovingRoom(room=room, lens=lens, moves=tuple(found), times_s=times_s)


def moving_room_from_seed(
    seed: int,
    *,
    frames: int = 8,
    moves: int = 1,
    width: int | None = None,
    height: int | None = None,
) -> MovingRoom:
    """The moving room of a seed (see `dataset.py` for the seeds' meaning)."""
    rng = np.random.default_rng([MOTION, seed])
    floors = FLOORS if seed >= HELD_OUT_SEED else TRAINED_FLOORS
    return random_moving_room(
        rng, frames=frames, moves=moves, floors=floors, width=width, height=height
    )


def _free_way(
    room: Room, taken: set[int], rng: np.random.Generator
) -> tuple[int, npt.NDArray[np.float64]] | None:
    """A solid that has not moved yet, and a place to which it can slide without a collision."""
    candidates = [i for i in range(len(room.solids)) if i not in taken]
    for _ in range(TRIES if candidates else 0):
        index = candidates[rng.integers(len(candidates))]
        solid = room.solids[index]
        reach, angle = REACH_M * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        to_xy = np.array([reach * np.cos(angle), reach * np.sin(angle)])
        here = solid.T_world_solid[:2, 3]
        if np.linalg.norm(to_xy - here) < LEAST_WAY_M:
            continue
        on_the_way = (here + share * (to_xy - here) for share in np.linspace(0, 1, 9))
        others = [other for i, other in enumerate(room.solids) if i != index]
        if all(
            gap_m(moved(solid, x=float(x), y=float(y)), other) > GAP_M
            for x, y in on_the_way
            for other in others
        ):
            return index, to_xy
    return None
