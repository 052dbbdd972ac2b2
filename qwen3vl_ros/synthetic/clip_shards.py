# SPDX-License-Identifier: Apache-2.0
"""A cache of rendered clips on disk, as `shards.py` is of pictures.

Knows moving rooms and the size a model sees them at. All clips are of one picture size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..image.preprocess import PreprocessConfig
from .known_objects import KnownObject
from .motion import MovingRoom, moving_room_from_seed
from .room_rendering import render_room
from .shards import known_of_row, row_of_picture

CLIPS = 20  # of a file
FRAMES = 8
FRAME_WH = (320, 240)
STILL_EVERY = 6  # in every sixth clip nothing moves


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipShard:
    """n clips of F frames. Of each frame everything that a `Shard` has of a picture, by the same
    names; and of each clip:

    Attributes:
        times_s: (n, F) float32, seconds from the first frame.
        moves: (n, 3) float32, the solid that moves, its start and its end in seconds; NaN where
            nothing does.
    """

    images: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int8]
    colors: npt.NDArray[np.int8]
    words: npt.NDArray[np.int8]
    asked: npt.NDArray[np.bool_]
    flat_norm1000: npt.NDArray[np.float32]
    bbox_3d: npt.NDArray[np.float32]
    coverage: npt.NDArray[np.float16]
    times_s: npt.NDArray[np.float32]
    moves: npt.NDArray[np.float32]

    def known(self, clip: int, frame: int) -> tuple[KnownObject | None, ...]:
        """What is known of the solids in a frame, in the room's order; None of what is out of
        sight."""
        return tuple(
            known_of_row(
                shape=int(self.shapes[clip, frame, k]),
                color=int(self.colors[clip, frame, k]),
                word=int(self.words[clip, frame, k]),
                asked=bool(self.asked[clip, frame, k]),
                flat_norm1000=self.flat_norm1000[clip, frame, k],
                bbox_3d=self.bbox_3d[clip, frame, k],
            )
            if self.colors[clip, frame, k] >= 0
            else None
            for k in range(self.colors.shape[2])
        )

    def move(self, clip: int) -> tuple[int, float, float] | None:
        """The solid that moves, its start and its end, seconds; None where nothing does."""
        index, start_s, end_s = self.moves[clip].tolist()
        return None if np.isnan(index) else (int(index), start_s, end_s)


def cache_clips(
    directory: Path, *, count: int, config: PreprocessConfig, first_seed: int = 0, processes: int
) -> Iterator[int]:
    """Render what is missing of `count` clips; yields the number of clips now cached."""
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(first_seed, first_seed + count, CLIPS)
    missing = [start for start in starts if not _file(directory, start).exists()]
    done = (len(starts) - len(missing)) * CLIPS
    yield done
    if not missing:
        return
    with get_context("spawn").Pool(processes) as pool:
        jobs = ((directory, start, CLIPS, config) for start in missing)
        for _ in pool.imap_unordered(_render_clips, jobs):
            done += CLIPS
            yield done


def read_clips(directory: Path, *, count: int, first_seed: int = 0) -> ClipShard | None:
    """The cached ones of `count` clips, in whole files; None where there is none."""
    parts = []
    for start in range(first_seed, first_seed + count, CLIPS):
        if (file := _file(directory, start)).exists():
            with np.load(file) as arrays:
                parts.append(dict(arrays))
    if not parts:
        return None
    names = ClipShard.__slots__
    return ClipShard(**{name: np.concatenate([part[name] for part in parts]) for name in names})


def moving_room_of_clip(seed: int) -> MovingRoom:
    """The moving room of a cached clip."""
    moves = 0 if seed % STILL_EVERY == STILL_EVERY - 1 else 1
    width, height = FRAME_WH
    return moving_room_from_seed(seed, frames=FRAMES, moves=moves, width=width, height=height)


def _file(directory: Path, start: int) -> Path:
    return directory / f"clips-{start:08d}.npz"


def _render_clips(job: tuple[Path, int, int, PreprocessConfig]) -> None:
    directory, start, count, config = job
    cv2.setNumThreads(1)  # the pool has a process for every core already
    clips = [_clip(moving_room_of_clip(seed), config) for seed in range(start, start + count)]
    arrays = {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}
    file = _file(directory, start)
    temporary = file.with_suffix(".tmp.npz")
    np.savez(temporary, allow_pickle=False, **arrays)
    os.replace(temporary, file)


def _clip(moving: MovingRoom, config: PreprocessConfig) -> dict[str, npt.NDArray[np.generic]]:
    rows = [
        row_of_picture(render_room(moving.room_at(time_s), moving.lens_at(i)), config)
        for i, time_s in enumerate(moving.times_s)
    ]
    moves = [(move.index, move.start_s, move.end_s) for move in moving.moves]
    return {
        **{name: np.stack([row[name] for row in rows]) for name in rows[0]},
        "times_s": np.array(moving.times_s, np.float32),
        "moves": np.array(moves[0] if moves else [np.nan] * 3, np.float32),
    }
