# SPDX-License-Identifier: Apache-2.0
"""A picture becomes flattened patches, bit for bit as transformers' PIL image processor does it.

Knows no model beyond the numbers in `preprocessor_config.json`. The truth is transformers 5.23's
`Qwen2VLImageProcessorPil` (the one that runs without torchvision): Pillow's bicubic filter with
antialiasing on uint8, half-to-even rounding of the target size. torchvision's bicubic stays
within a grey level of it; OpenCV's has no antialiasing and is far off where a picture shrinks.

Columns of a patch: channel slowest, then the temporal slices (equal, in a still picture), then y,
then x. Rows: see `positions.py`. Videos (`video.py`) are fitted, resized and cut by the functions
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ConfigError, FrameError
from .patch_config import BICUBIC, RESCALE_FACTOR, PatchConfig, patch_fields, read_json

FILE_NAME = "preprocessor_config.json"
MAX_ASPECT_RATIO = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig(PatchConfig):
    """How a checkpoint wants its still pictures; the pixel budget is of one picture.

    Another budget is a `dataclasses.replace` away:

    >>> from dataclasses import replace
    >>> released = preprocess_config_from_dict({
    ...     "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    ...     "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
    ...     "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    ... })
    >>> vga = np.zeros((480, 640, 3), np.uint8)
    >>> patches_from_image(vga, released).grid_thw.tolist()
    [[1, 30, 40]]
    >>> patches_from_image(vga, replace(released, max_pixels=128 * 32 * 32)).grid_thw.tolist()
    [[1, 18, 26]]
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Patches:
    """A picture or a clip, ready for the vision tower.

    Attributes:
        pixel_values: (N, 3 * temporal * patch * patch) float32, about -1..1.
        grid_thw: (1, 3) int64: temporal patches (1 for a picture), patch rows, patch columns; N
            is their product.
    """

    pixel_values: npt.NDArray[np.float32]
    grid_thw: npt.NDArray[np.int64]


def load_preprocess_config(path: Path) -> PreprocessConfig:
    """Read `preprocessor_config.json` of a checkpoint or engine directory (or the file itself).

    Raises:
        ConfigError: missing, not JSON, or asking for another preprocessing than ours.
    """
    file = path / FILE_NAME if path.is_dir() else path
    return preprocess_config_from_dict(read_json(file, what="preprocessor config"))


def preprocess_config_from_dict(values: Mapping[str, Any]) -> PreprocessConfig:
    """A `PreprocessConfig` from a parsed `preprocessor_config.json`.

    Every number must be there: the defaults of transformers' class are those of Qwen2-VL.

    Raises:
        ConfigError: a field is missing, or asks for another preprocessing than ours.
    """
    return PreprocessConfig(**patch_fields(values, file_name=FILE_NAME))


def with_pixel_budget(
    config: PreprocessConfig, *, min_pixels: int | None, max_pixels: int | None, room_px: int
) -> PreprocessConfig:
    """The same preprocessing with another budget: fewer pixels are faster, more see more.

    Args:
        config: the checkpoint's.
        min_pixels: smaller pictures are enlarged to this area; None leaves the checkpoint's.
        max_pixels: larger ones are shrunk to this one; likewise. A bound that the one not given
            would cross moves it.
        room_px: area of the largest picture that the tower takes.

    Raises:
        ConfigError: the bounds cross, hold no token, or more than there is room for.
    """
    low = config.min_pixels if min_pixels is None else min_pixels
    high = config.max_pixels if max_pixels is None else max_pixels
    if min_pixels is None:
        low = min(low, high)
    elif max_pixels is None:
        high = max(low, high)
    token = config.factor**2
    if not (0 < low <= high and token <= high <= room_px):
        raise ConfigError(
            f"min_pixels is {low} and max_pixels {high}, expected 0 < min_pixels <= max_pixels, "
            f"and max_pixels from {token} (one image token) to {room_px} (what the engine was "
            "built for); leave them out for the checkpoint's own"
        )
    return replace(config, min_pixels=low, max_pixels=high)


def smart_resize(
    height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """Height and width, multiples of `factor`, near the aspect ratio and within the budget.

    Rounding is half-to-even: 848x480 at factor 32 has 26.5 columns, which become 26.

    >>> smart_resize(480, 848, factor=32, min_pixels=65536, max_pixels=16777216)
    (480, 832)

    Raises:
        FrameError: no pixels, or one side is more than 200 times the other.
    """
    refuse_extreme(height, width, subject=f"image is {width} x {height} pixels")
    return size_within_budget(
        height,
        width,
        frames=1,
        counted_frames=1,
        factor=factor,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )


def refuse_extreme(height: int, width: int, *, subject: str) -> None:
    """Refuse a size that upstream's resize rule refuses.

    Args:
        subject: what the error is about, with its size.

    Raises:
        FrameError: no pixels, or one side is more than 200 times the other.
    """
    if min(height, width) < 1 or max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise FrameError(
            f"{subject}, expected at least 1 x 1 and one side at most {MAX_ASPECT_RATIO} times "
            "the other: crop it first"
        )


def size_within_budget(
    height: int,
    width: int,
    *,
    frames: int,
    counted_frames: int,
    factor: int,
    min_pixels: int,
    max_pixels: int,
) -> tuple[int, int]:
    """`smart_resize` where `frames` pictures of one size share the budget.

    Args:
        counted_frames: by which the result is measured against the budget; upstream scales by
            the true number and measures by one that is rounded to whole temporal patches.
    """
    resized_height = round(height / factor) * factor
    resized_width = round(width / factor) * factor
    if counted_frames * resized_height * resized_width > max_pixels:
        shrink = math.sqrt(frames * height * width / max_pixels)
        resized_height = max(factor, math.floor(height / shrink / factor) * factor)
        resized_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif counted_frames * resized_height * resized_width < min_pixels:
        grow = math.sqrt(min_pixels / (frames * height * width))
        resized_height = math.ceil(height * grow / factor) * factor
        resized_width = math.ceil(width * grow / factor) * factor
    return resized_height, resized_width


def patches_from_image(image: npt.NDArray[np.uint8], config: PreprocessConfig) -> Patches:
    """Resize, normalise and cut a picture.

    Args:
        image: (h, w, 3) uint8, RGB.

    Raises:
        FrameError: another shape or dtype, or an extreme aspect ratio.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise FrameError(f"image is {image.dtype} {image.shape}, expected uint8 (h, w, 3) RGB")
    height, width = smart_resize(
        image.shape[0],
        image.shape[1],
        factor=config.factor,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
    )
    return patches_from_pictures(
        [image], config, height=height, width=width, levels=_normalised_levels(config)
    )


def patches_from_pictures(
    pictures: Sequence[npt.NDArray[np.uint8]],
    config: PatchConfig,
    *,
    height: int,
    width: int,
    levels: npt.NDArray[np.float32],
) -> Patches:
    """Resize pictures one by one, and cut them.

    Args:
        pictures: at least one, (h, w, 3) uint8, RGB. If they do not fill the last temporal patch,
            the last one is repeated: that is how a still picture becomes a patch, too.
        height: to resize to; a multiple of `config.factor`.
        width: likewise.
        levels: (3, 256) float32, what each grey level of each channel becomes.
    """
    p, m, t = config.patch_size, config.merge_size, config.temporal_patch_size
    grid_t, grid_h, grid_w = -(-len(pictures) // t), height // p, width // p
    pixel_values = np.empty((grid_t, grid_h * grid_w, 3, t, p * p), np.float32)
    for index, picture in enumerate(pictures):
        resized = _resized(picture, height=height, width=width)
        blocks = resized.reshape(grid_h // m, m, p, grid_w // m, m, p, 3)
        # (block row, block column, row in block, column in block, channel, y, x)
        cells = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(grid_h * grid_w, 3, p * p)
        # The last picture fills what is left of its temporal patch.
        first, last = index % t, t if index == len(pictures) - 1 else index % t + 1
        for channel, values in enumerate(levels):
            pixel_values[index // t, :, channel, first:last] = values[cells[:, channel]][:, None]
    return Patches(
        pixel_values=pixel_values.reshape(grid_t * grid_h * grid_w, 3 * t * p * p),
        grid_thw=np.array([[grid_t, grid_h, grid_w]], np.int64),
    )


def _resized(image: npt.NDArray[np.uint8], *, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8 by Pillow's antialiased bicubic filter."""
    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling(BICUBIC)))


def _normalised_levels(config: PatchConfig) -> npt.NDArray[np.float32]:
    """(3, 256) float32: what each grey level of each channel becomes."""
    # float64 product rounded to float32, then float32 arithmetic: the roundings of transformers.
    scaled = (np.arange(256, dtype=np.float64) * RESCALE_FACTOR).astype(np.float32)
    mean = np.array(config.image_mean, np.float32)[:, None]
    std = np.array(config.image_std, np.float32)[:, None]
    return np.asarray((scaled - mean) / std, np.float32)
