# SPDX-License-Identifier: Apache-2.0
"""Cached clips → batches of two pictures or of whole clips, each with its question.

Knows clips and what is asked about changes, no model. Only clips about which something can be
asked are drawn. Two pictures are shown in either order: what went left came right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ..language.chat import Picture, Video
from ..synthetic.changes import question_of_move, question_what_moved
from ..synthetic.clip_shards import ClipShard
from ..synthetic.questions import Question
from .pictures import pair_rows, patch_rows
from .shown import Shown

Asked = list[list[Question]]
Drawn = tuple[Shown, Asked]


def draw_pairs(clips: ClipShard, *, batch: int, rng: np.random.Generator) -> Drawn:
    """First and last frames of clips, and what moved between them."""
    found: list[tuple[int, tuple[int, int], Question]] = []
    last = clips.images.shape[1] - 1
    for clip in rng.permutation(len(clips.images)).tolist():
        order = (0, last) if rng.uniform() < 0.5 else (last, 0)
        move = clips.move(clip)
        before, after = (clips.known(clip, frame) for frame in order)
        question = question_what_moved(before, after, None if move is None else move[0])
        if question is not None:
            found.append((clip, order, question))
        if len(found) == batch:
            break
    images = np.stack([clips.images[clip][list(order)] for clip, order, _ in found])
    coverage = np.stack([clips.coverage[clip][list(order)] for clip, order, _ in found])
    B, P, h, w, _ = images.shape
    picture = Picture(grid_hw=(h // 16, w // 16))
    return (
        Shown(
            visuals=(picture,) * P,
            pixel_values=patch_rows(_normalised(images.reshape(B * P, h, w, 3))),
            grid_thw=np.array([[1, h // 16, w // 16]] * P, np.int64),
            coverage=_end_to_end(coverage),
            slots=_all_slots(found, coverage),
        ),
        [[question] for _, _, question in found],
    )


def draw_clips(clips: ClipShard, *, batch: int, rng: np.random.Generator) -> Drawn:
    """Whole clips, and when something moves in them."""
    found: list[tuple[int, Question]] = []
    for clip in rng.permutation(len(clips.images)).tolist():
        move = clips.move(clip)
        question = None if move is None else question_of_move(*move, clips.known(clip, 0))
        if question is not None:
            found.append((clip, question))
        if len(found) == batch:
            break
    chosen = [clip for clip, _ in found]
    images, coverage = clips.images[chosen], clips.coverage[chosen].astype(np.float32)
    B, F, h, w, _ = images.shape
    pairs = images.reshape(B * F // 2, 2, h, w, 3)
    # All clips have the same times; a patch of two frames has their mean.
    times_s = clips.times_s[chosen[0]].reshape(-1, 2).mean(axis=1)
    visual = Video(grid_hw=(h // 16, w // 16), times_s=tuple(map(float, times_s)))
    coverage = coverage.reshape(B, F // 2, 2, *coverage.shape[2:]).mean(axis=2)
    return (
        Shown(
            visuals=(visual,),
            pixel_values=pair_rows(_normalised(pairs)),
            grid_thw=np.array([[F // 2, h // 16, w // 16]], np.int64),
            coverage=_end_to_end(coverage),
            slots=_all_slots(found, coverage),
        ),
        [[question] for _, question in found],
    )


def _normalised(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1)


def _end_to_end(coverage: npt.NDArray[np.floating]) -> torch.Tensor:
    """(B, P, K, rows, columns) to (B, K, V), the pictures of a sequence one after the other."""
    B, _, K = coverage.shape[:3]
    laid = coverage.astype(np.float32).swapaxes(1, 2).reshape(B, K, -1)
    return torch.from_numpy(np.ascontiguousarray(laid))


def _all_slots(
    found: Sequence[object], coverage: npt.NDArray[np.floating]
) -> tuple[tuple[int, ...], ...]:
    """Questions about changes name solids by their place in the room, as clips do."""
    return (tuple(range(coverage.shape[2])),) * len(found)
