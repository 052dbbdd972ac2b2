# SPDX-License-Identifier: Apache-2.0
"""Cached scenes → batches of pictures with their truth.

Knows shards, no model and no questions. Mirroring is the one augmentation that moves things: the
truth moves along (x of every centre, the turns about y and z; left becomes right). Colour gain and
offset change nothing a question asks about as long as they are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..synthetic.known_objects import KnownObject
from ..synthetic.phrases import (
    RELATIONS,
    SUPERLATIVES,
    is_clear,
    members,
    relations_that_hold,
    superlative_of,
)
from ..synthetic.shards import Shard, known_of_row
from .dense_targets import NO_WORD, RANKS, RELATED, TRAITS, UNKNOWN, DenseTargets
from .shown import Shown, still


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """B pictures of one size and the truth about them.

    Attributes:
        shown: the pictures.
        dense: truth for the detector head.
        objects: what can be asked about, per picture.
    """

    shown: Shown
    dense: DenseTargets
    objects: tuple[tuple[KnownObject, ...], ...]


def pictures_from_shard(
    shard: Shard,
    indices: npt.NDArray[np.int64],
    mirrored: npt.NDArray[np.bool_],
    *,
    jitter: np.random.Generator | None,
) -> Pictures:
    """The given scenes of a shard; `jitter` changes their light a little."""
    images = shard.images[indices]
    coverage = shard.coverage[indices].astype(np.float32)
    flat, boxes_3d = shard.flat_norm1000[indices].copy(), shard.bbox_3d[indices].copy()
    words = shard.words[indices].copy()
    images[mirrored] = images[mirrored][:, :, ::-1]
    coverage[mirrored] = coverage[mirrored][..., ::-1]
    flat[mirrored] = mirrored_flat(flat[mirrored])
    boxes_3d[mirrored] *= np.array([-1, 1, 1, 1, 1, 1, 1, -1, -1], np.float32)
    values = images.astype(np.float32) / 127.5 - 1
    if jitter is not None:
        B = len(indices)
        gain = jitter.uniform(0.88, 1.12, (B, 1, 1, 1)) * jitter.uniform(0.95, 1.05, (B, 1, 1, 3))
        offset = jitter.uniform(-0.08, 0.08, (B, 1, 1, 1))
        values = np.clip(values * gain.astype(np.float32) + offset.astype(np.float32), -1, 1)
    colors, shapes = shard.colors[indices], shard.shapes[indices]
    asked = shard.asked[indices]
    # Nobody can read a word in a mirror.
    classes = np.where(words >= 0, words.astype(np.int64), NO_WORD)
    classes[(words >= 0) & mirrored[:, None]] = UNKNOWN
    words[mirrored] = -1
    objects = []
    ranks = np.full((*colors.shape, RANKS), np.nan, np.float32)
    related = np.full((*colors.shape, RELATED), np.nan, np.float32)
    for i in range(len(indices)):
        there = np.flatnonzero(colors[i] >= 0)
        known = tuple(
            known_of_row(
                shape=int(shapes[i, k]),
                color=int(colors[i, k]),
                word=int(words[i, k]),
                asked=bool(asked[i, k]),
                flat_norm1000=flat[i, k],
                bbox_3d=boxes_3d[i, k],
            )
            for k in there
        )
        objects.append(known)
        ranks[i, there], related[i, there] = ranks_of(known), related_of(known)
    h, w = images.shape[1:3]
    covered = torch.from_numpy(coverage.reshape(*coverage.shape[:2], -1))
    return Pictures(
        shown=Shown(
            visuals=still((h // 16, w // 16)),
            pixel_values=patch_rows(torch.from_numpy(np.ascontiguousarray(values))),
            grid_thw=np.array([[1, h // 16, w // 16]], np.int64),
            coverage=covered,
            slots=tuple(tuple(np.flatnonzero(some >= 0).tolist()) for some in colors),
        ),
        dense=DenseTargets(
            colors=torch.from_numpy(colors.astype(np.int64)),
            shapes=torch.from_numpy(shapes.astype(np.int64)),
            words=torch.from_numpy(classes),
            ranks=torch.from_numpy(ranks),
            related=torch.from_numpy(related),
            flat_norm1000=torch.from_numpy(flat),
            bbox_3d=torch.from_numpy(boxes_3d),
            coverage=covered,
        ),
        objects=tuple(objects),
    )


def mirrored_flat(flat_norm1000: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Flat numbers (..., 10) of the picture seen in a mirror; a word is not one any more."""
    x1, y1, x2, y2, u, v = np.moveaxis(flat_norm1000, -1, 0)[:6]
    lost = np.full_like(u, np.nan)
    return np.stack([1000 - x2, y1, 1000 - x1, y2, 1000 - u, v, *[lost] * 4], axis=-1)


def ranks_of(objects: tuple[KnownObject, ...]) -> npt.NDArray[np.float32]:
    """(K, RANKS) which superlatives hold of each object among those of its name, of its shape,
    and all; NaN where nobody could say."""
    ranks = np.full((len(objects), RANKS), np.nan, np.float32)
    for index, known in enumerate(objects):
        for row, words in enumerate((known.name, known.shape, "object")):
            group = members(objects, words)
            if len(group) < 2 or not is_clear(objects, group):
                continue
            for column, superlative in enumerate(SUPERLATIVES):
                most = superlative_of(objects, group, superlative)
                if most is not None:
                    ranks[index, row * len(SUPERLATIVES) + column] = most == index
    return ranks


def related_of(objects: tuple[KnownObject, ...]) -> npt.NDArray[np.float32]:
    """(K, RELATED) whether each object has a relation to something of a trait ("left of", red);
    NaN where no phrase picks it, or another of its group, by that relation and trait."""
    related = np.full((len(objects), len(RELATIONS), len(TRAITS)), np.nan, np.float32)
    for found in relations_that_hold(objects):
        anchor, row = objects[found.anchor], RELATIONS.index(found.relation)
        for column in (TRAITS.index(anchor.color), TRAITS.index(anchor.shape)):
            for index in found.group:
                holds = index == found.index
                related[index, row, column] = np.fmax(related[index, row, column], holds)
    return related.reshape(len(objects), -1)


def patch_rows(values: Tensor) -> Tensor:
    """(B, h, w, 3) normalised pixels to (B, N, 1536), as `image/preprocess.py` orders them."""
    return pair_rows(values[:, None])


def pair_rows(values: Tensor) -> Tensor:
    """(B, f, h, w, 3) normalised pixels of one frame (shown twice) or two to (B, N, 1536)."""
    B, f, h, w, _ = values.shape
    blocks = values.reshape(B, f, h // 32, 2, 16, w // 32, 2, 16, 3)
    # block row, column, row in it, column in it, channel, frame, y, x
    cells = blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7)
    rows = cells.reshape(B, h * w // 256, 3, f, 256).expand(-1, -1, -1, 2, -1)
    return rows.reshape(B, h * w // 256, 1536)


def batches_of_indices(
    sizes: dict[tuple[int, int], int], *, batch: int, rng: np.random.Generator
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.int64]]]:
    """Endless shuffled batches, each of one picture size, sizes in proportion."""
    while True:
        epoch = [
            (size, chunk)
            for size, count in sizes.items()
            for chunk in np.array_split(rng.permutation(count), max(1, count // batch))
        ]
        for index in rng.permutation(len(epoch)):
            yield epoch[index]
