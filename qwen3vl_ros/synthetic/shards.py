# SPDX-License-Identifier: Apache-2.0
"""A cache of rendered pictures on disk: rendered once, read by every training run.

Knows pictures and the size a model sees them at, no model and no questions. One file per shard
and picture size, each written whole or not at all, so that an interrupted run goes on where it
stopped. Most pictures are of rooms; every fourth is of a plain scene, as the synthetic camera
shows them, and every fourth of a room full of signs, without which words are too rare to learn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..image.preprocess import PreprocessConfig, smart_resize
from .dataset import is_worth_asking, room_from_seed, scene_from_seed
from .known_objects import KnownObject
from .rendering import Rendered, SolidTruth
from .room_rendering import RoomPicture, Seen
from .rooms import MOST_SOLIDS
from .solids import COLORS, SHAPES, WORDS
from .upright_boxes import bbox_3d_of

SHARD = 100  # pictures
PLAIN_EVERY = 4  # every fourth picture is of a plain scene
SIGNS_AFTER = 1  # so many after a plain scene comes a room with signs
LEGIBLE = 0.7  # share of a sign that must be seen for its word to be asked for
LEGIBLE_HEIGHT = 24.0  # of 1000 of the picture's height, at least
LEGIBLE_ASPECT = 1.0  # width by height of a sign's picture; nobody reads one from the side
PALETTE = tuple(COLORS)
# Of the pixels that lie deep inside an outline, at least so deep as this share of the deepest.
DEEP = 0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Pictures of one size; n pictures, up to six objects each, absent ones are -1 or NaN.

    Attributes:
        images: (n, h, w, 3) uint8, already resized as the model sees them.
        shapes: (n, 6) int8, index into `SHAPES`.
        colors: (n, 6) int8, index into the keys of `COLORS`.
        words: (n, 6) int8, index into `WORDS`, -1 without a legible one.
        asked: (n, 6) bool, visible enough to be asked about.
        flat_norm1000: (n, 6, 10) float32, 0 to 1000 of the picture's sides: box, point inside,
            box of the word.
        bbox_3d: (n, 6, 9) float32, Qwen3-VL's nine numbers: metres, metres, half turns.
        coverage: (n, 6, h/32, w/32) float16, share of each image token an object covers.
    """

    images: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int8]
    colors: npt.NDArray[np.int8]
    words: npt.NDArray[np.int8]
    asked: npt.NDArray[np.bool_]
    flat_norm1000: npt.NDArray[np.float32]
    bbox_3d: npt.NDArray[np.float32]
    coverage: npt.NDArray[np.float16]


def known_objects(picture: RoomPicture | Rendered) -> tuple[KnownObject | None, ...]:
    """What is known of each solid of a picture, in its order; None of what is out of sight."""
    h, w = picture.image.shape[:2]
    scale = 1000 / np.array([w, h, w, h])
    seen: Sequence[Seen | SolidTruth] = (
        picture.seen if isinstance(picture, RoomPicture) else picture.truth
    )
    known: list[KnownObject | None] = []
    for index, one in enumerate(seen):
        if not one.visible_px:
            known.append(None)
            continue
        word, word_xyxy = "", np.full(4, np.nan)
        if isinstance(picture, RoomPicture):
            sign = picture.seen[index]
            width, height = sign.word_xyxy_px[2:] - sign.word_xyxy_px[:2]
            whole = sign.word_visibility >= LEGIBLE and height * scale[3] >= LEGIBLE_HEIGHT
            if whole and width >= LEGIBLE_ASPECT * height:
                word, word_xyxy = sign.solid.word, sign.word_xyxy_px * scale
        known.append(
            KnownObject(
                name=one.solid.name,
                xyxy_norm1000=one.xyxy_px * scale,
                bbox_3d=bbox_3d_of(one.box.T_frame_box, one.box.size_m),
                askable=is_worth_asking(picture, index),
                uv_norm1000=point_inside(picture.solid_ids == index) * scale[:2],
                word=word,
                word_xyxy_norm1000=word_xyxy,
            )
        )
    return tuple(known)


def point_inside(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(2,) u and v, from the image's corner: of the pixels deep inside an outline (h, w) the one
    nearest to the middle of its lower half.

    The middle of a ring is a hole and that of a mug is beside its body; the rim in front is not.
    """
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    v, u = np.nonzero(inside >= DEEP * inside.max())
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    middle_u = (columns[0] + columns[-1]) / 2
    aim_v = 0.35 * rows[0] + 0.65 * rows[-1]
    best = np.argmin((u - middle_u) ** 2 + 0.5 * (v - aim_v) ** 2)
    return np.array([u[best] + 0.5, v[best] + 0.5])


def known_of_row(
    *,
    shape: int,
    color: int,
    word: int,
    asked: bool,
    flat_norm1000: npt.NDArray[np.float32],
    bbox_3d: npt.NDArray[np.float32],
) -> KnownObject:
    """What a shard's numbers of one object say; the other way of `row_of_picture`."""
    return KnownObject(
        name=f"{PALETTE[color]} {SHAPES[shape]}",
        xyxy_norm1000=flat_norm1000[:4],
        bbox_3d=bbox_3d,
        askable=asked,
        uv_norm1000=flat_norm1000[4:6],
        word=WORDS[word] if word >= 0 else "",
        word_xyxy_norm1000=flat_norm1000[6:],
    )


def cache_pictures(
    directory: Path, *, count: int, config: PreprocessConfig, first_seed: int = 0, processes: int
) -> Iterator[int]:
    """Render what is missing of `count` pictures; yields the number of pictures now cached."""
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(first_seed, first_seed + count, SHARD)
    missing = [start for start in starts if not _done_mark(directory, start).exists()]
    done = (len(starts) - len(missing)) * SHARD
    yield done
    if not missing:
        return
    # Not forked: a forked copy of a process whose threads compute may wait for one for ever.
    with get_context("spawn").Pool(processes) as pool:
        jobs = ((directory, start, SHARD, config) for start in missing)
        for _ in pool.imap_unordered(_render_shard, jobs):
            done += SHARD
            yield done


def read_shards(
    directory: Path, *, count: int, first_seed: int = 0
) -> dict[tuple[int, int], Shard]:
    """The cached ones of `count` pictures, in whole shards, joined by picture size (h, w)."""
    parts: dict[tuple[int, int], list[dict[str, npt.NDArray[np.generic]]]] = {}
    for file in sorted(directory.glob("rooms-*.npz")):
        if not first_seed <= int(file.name.split("-")[1]) < first_seed + count:
            continue
        with np.load(file) as arrays:
            part = dict(arrays)
        h, w = part["images"].shape[1:3]
        parts.setdefault((h, w), []).append(part)
    names = Shard.__slots__
    return {
        size: Shard(**{n: np.concatenate([part[n] for part in some]) for n in names})
        for size, some in parts.items()
    }


def _done_mark(directory: Path, start: int) -> Path:
    return directory / f"done-{start:08d}"


def _render_shard(job: tuple[Path, int, int, PreprocessConfig]) -> None:
    directory, start, count, config = job
    cv2.setNumThreads(1)  # the pool has a process for every core already
    by_size: dict[tuple[int, int], list[dict[str, npt.NDArray[np.generic]]]] = {}
    for seed in range(start, start + count):
        row = row_of_picture(_picture_of_seed(seed), config)
        h, w = row["images"].shape[:2]
        by_size.setdefault((h, w), []).append(row)
    for (h, w), rows in by_size.items():
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        file = directory / f"rooms-{start:08d}-{w}x{h}.npz"
        temporary = file.with_suffix(".tmp.npz")
        np.savez(temporary, allow_pickle=False, **arrays)
        os.replace(temporary, file)
    _done_mark(directory, start).touch()


def _picture_of_seed(seed: int) -> RoomPicture | Rendered:
    after_plain = (seed + 1) % PLAIN_EVERY
    if after_plain == 0:
        return scene_from_seed(seed)[2]
    return room_from_seed(seed, signs=after_plain == SIGNS_AFTER)[2]


def row_of_picture(
    picture: RoomPicture | Rendered, config: PreprocessConfig
) -> dict[str, npt.NDArray[np.generic]]:
    """One row of every array of a shard."""
    source_h, source_w = picture.image.shape[:2]
    h, w = smart_resize(
        source_h,
        source_w,
        factor=config.factor,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
    )
    image = np.asarray(Image.fromarray(picture.image).resize((w, h), Image.Resampling.BICUBIC))
    cells_h, cells_w = h // config.factor, w // config.factor
    # Which token each pixel of the unresized picture falls into, then a count per object.
    row_cell = np.arange(source_h) * cells_h // source_h
    column_cell = np.arange(source_w) * cells_w // source_w
    cell = row_cell[:, None] * cells_w + column_cell
    per_cell = np.bincount(cell.ravel(), minlength=cells_h * cells_w)
    K = MOST_SOLIDS
    shapes, colors, words = np.full((3, K), -1, np.int8)
    asked = np.zeros(K, bool)
    flat = np.full((K, 10), np.nan, np.float32)
    bbox_3d = np.full((K, 9), np.nan, np.float32)
    coverage = np.zeros((K, cells_h, cells_w), np.float16)
    for i, known in enumerate(known_objects(picture)):
        if known is None:
            continue
        shapes[i], colors[i] = SHAPES.index(known.shape), PALETTE.index(known.color)
        words[i] = WORDS.index(known.word) if known.word else -1
        asked[i] = known.askable
        flat[i] = np.concatenate(
            [known.xyxy_norm1000, known.uv_norm1000, known.word_xyxy_norm1000]
        )
        bbox_3d[i] = known.bbox_3d
        covered = np.bincount(cell[picture.solid_ids == i], minlength=len(per_cell))
        coverage[i] = (covered / per_cell).reshape(cells_h, cells_w)
    return {
        "images": image,
        "shapes": shapes,
        "colors": colors,
        "words": words,
        "asked": asked,
        "flat_norm1000": flat,
        "bbox_3d": bbox_3d,
        "coverage": coverage,
    }
