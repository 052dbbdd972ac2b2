# SPDX-License-Identifier: Apache-2.0
"""A cache of rendered scenes on disk: rendered once, read by every training run.

Knows scenes and preprocessing sizes, no model and no questions. One file per shard and picture
size, each written whole or not at all, so that an interrupted run goes on where it stopped.

Seeds: training scenes count up from 0, those watched while training from `WATCHED_SEED`, those of
every evaluation from `HELD_OUT_SEED`; they never meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..image.preprocess import PreprocessConfig, smart_resize
from ..scene.geometry import half_turns_from_rotation
from .rendering import Rendered, render
from .scenes import COLORS, SHAPES, CameraView, Scene, random_scene, random_view

WATCHED_SEED = 10_000_000
HELD_OUT_SEED = 20_000_000
MAX_SOLIDS = 5
MIN_VISIBLE_SHARE = 0.0012  # of the picture's area; smaller ones are not asked about
MIN_VISIBILITY = 0.45
SHARD = 100  # scenes
# Camera modes and how often each is drawn. Most scenes are rendered at half the camera's size:
# the model sees 320 columns either way, and rendering costs by the pixel.
MODES: tuple[tuple[tuple[int, int], float], ...] = (
    ((320, 240), 0.70),
    ((640, 480), 0.10),
    ((426, 240), 0.20),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Scenes of one picture size; n scenes, up to five solids each, absent ones are -1 or NaN.

    Attributes:
        images: (n, h, w, 3) uint8, already resized as the model sees them.
        shapes: (n, 5) int8, index into `SHAPES`.
        colors: (n, 5) int8, index into the keys of `COLORS`.
        asked: (n, 5) bool, visible enough to be asked about.
        xyxy_norm1000: (n, 5, 4) float32, 0 to 1000 of the picture's sides.
        bbox_3d: (n, 5, 9) float32, Qwen3-VL's nine numbers: metres, metres, half turns.
        coverage: (n, 5, h/32, w/32) float16, share of each image token a solid covers.
    """

    images: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int8]
    colors: npt.NDArray[np.int8]
    asked: npt.NDArray[np.bool_]
    xyxy_norm1000: npt.NDArray[np.float32]
    bbox_3d: npt.NDArray[np.float32]
    coverage: npt.NDArray[np.float16]


def scene_from_seed(
    seed: int, *, width: int | None = None, height: int | None = None
) -> tuple[Scene, CameraView, Rendered]:
    """The scene, camera and picture of a seed; the camera mode is drawn too unless given."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    mode = MODES[rng.choice(len(MODES), p=[share for _, share in MODES])][0]
    if width is not None and height is not None:
        mode = (width, height)
    view = random_view(rng, width=mode[0], height=mode[1])
    return scene, view, render(scene, view, noise_seed=seed)


def is_worth_asking(rendered: Rendered, index: int) -> bool:
    """Whether a solid shows enough of itself to be asked about."""
    truth = rendered.truth[index]
    area = rendered.depth_m.size
    return truth.visible_px >= MIN_VISIBLE_SHARE * area and truth.visibility >= MIN_VISIBILITY


def cache_scenes(
    directory: Path, *, count: int, config: PreprocessConfig, first_seed: int = 0, processes: int
) -> Iterator[int]:
    """Render what is missing of `count` scenes; yields the number of scenes now cached."""
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(first_seed, first_seed + count, SHARD)
    missing = [start for start in starts if not _done_mark(directory, start).exists()]
    done = (len(starts) - len(missing)) * SHARD
    yield done
    with Pool(processes) as pool:
        jobs = ((directory, start, config) for start in missing)
        for _ in pool.imap_unordered(_render_shard, jobs):
            done += SHARD
            yield done


def read_shards(
    directory: Path, *, count: int, first_seed: int = 0
) -> dict[tuple[int, int], Shard]:
    """The cached ones of `count` scenes, in whole shards, joined by picture size (h, w)."""
    parts: dict[tuple[int, int], list[dict[str, npt.NDArray[np.generic]]]] = {}
    for file in sorted(directory.glob("scenes-*.npz")):
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


def _render_shard(job: tuple[Path, int, PreprocessConfig]) -> None:
    directory, start, config = job
    by_size: dict[tuple[int, int], list[dict[str, npt.NDArray[np.generic]]]] = {}
    for seed in range(start, start + SHARD):
        _, _, rendered = scene_from_seed(seed)
        row = _row(rendered, config)
        h, w = row["images"].shape[:2]
        by_size.setdefault((h, w), []).append(row)
    for (h, w), rows in by_size.items():
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        file = directory / f"scenes-{start:08d}-{w}x{h}.npz"
        temporary = file.with_suffix(".tmp.npz")
        np.savez(temporary, allow_pickle=False, **arrays)
        os.replace(temporary, file)
    _done_mark(directory, start).touch()


def _row(rendered: Rendered, config: PreprocessConfig) -> dict[str, npt.NDArray[np.generic]]:
    source_h, source_w = rendered.image.shape[:2]
    h, w = smart_resize(
        source_h,
        source_w,
        factor=config.factor,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
    )
    image = np.asarray(Image.fromarray(rendered.image).resize((w, h), Image.Resampling.BICUBIC))
    cells_h, cells_w = h // config.factor, w // config.factor
    # Which token each pixel of the unresized picture falls into, then a count per solid.
    row_cell = np.arange(source_h) * cells_h // source_h
    column_cell = np.arange(source_w) * cells_w // source_w
    cell = row_cell[:, None] * cells_w + column_cell
    per_cell = np.bincount(cell.ravel(), minlength=cells_h * cells_w)
    shapes = np.full(MAX_SOLIDS, -1, np.int8)
    colors = np.full(MAX_SOLIDS, -1, np.int8)
    asked = np.zeros(MAX_SOLIDS, bool)
    xyxy = np.full((MAX_SOLIDS, 4), np.nan, np.float32)
    bbox_3d = np.full((MAX_SOLIDS, 9), np.nan, np.float32)
    coverage = np.zeros((MAX_SOLIDS, cells_h, cells_w), np.float16)
    scale = 1000 / np.array([source_w, source_h, source_w, source_h])
    for i, truth in enumerate(rendered.truth):
        shapes[i] = SHAPES.index(truth.solid.shape)
        colors[i] = list(COLORS).index(truth.solid.color)
        asked[i] = is_worth_asking(rendered, i)
        xyxy[i] = truth.xyxy_px * scale
        bbox_3d[i] = bbox_3d_of(truth.box.T_frame_box, truth.box.size_m)
        covered = np.bincount(cell[rendered.solid_ids == i], minlength=len(per_cell))
        coverage[i] = (covered / per_cell).reshape(cells_h, cells_w)
    return {
        "images": image,
        "shapes": shapes,
        "colors": colors,
        "asked": asked,
        "xyxy_norm1000": xyxy,
        "bbox_3d": bbox_3d,
        "coverage": coverage,
    }


def bbox_3d_of(
    T_camera_box: npt.NDArray[np.float64], size_m: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(9,) Qwen3-VL's numbers of a box: centre and size in metres, angles in half turns."""
    return np.concatenate(
        [T_camera_box[:3, 3], size_m, half_turns_from_rotation(T_camera_box[:3, :3])]
    )
