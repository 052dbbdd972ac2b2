# SPDX-License-Identifier: Apache-2.0
"""A picture becomes flattened patches, bit for bit as transformers' PIL image processor does it.

Knows no model beyond the numbers in `preprocessor_config.json`. The truth is transformers 5.23's
`Qwen2VLImageProcessorPil` (the one that runs without torchvision): Pillow's bicubic filter with
antialiasing on uint8, half-to-even rounding of the target size. torchvision's bicubic stays
within a grey level of it; OpenCV's has no antialiasing and is far off where a picture shrinks.

Columns of a patch: channel slowest, then the two (equal) temporal slices, then y, then x.
Rows: see `positions.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ConfigError, FrameError

MAX_ASPECT_RATIO = 200
RESCALE_FACTOR = 1 / 255


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """How a checkpoint wants its pictures.

    Attributes:
        patch_size: pixels along the side of a patch.
        temporal_patch_size: frames in a patch; a still picture is repeated.
        merge_size: patches along the side of one language-model image token.
        min_pixels: the resized picture has at least this area, pixels.
        max_pixels: and at most this, pixels.
        image_mean: per channel RGB, of values scaled to 0..1.
        image_std: likewise.
    """

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]

    @property
    def factor(self) -> int:
        """Pixels along the side of one image token; sizes are multiples of it."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Patches:
    """A picture, ready for the vision tower.

    Attributes:
        pixel_values: (N, 3 * temporal * patch * patch) float32, about -1..1.
        grid_thw: (1, 3) int64: 1, patch rows, patch columns; N is their product.
    """

    pixel_values: npt.NDArray[np.float32]
    grid_thw: npt.NDArray[np.int64]


def load_preprocess_config(path: Path) -> PreprocessConfig:
    """Read `preprocessor_config.json` of a checkpoint or engine directory (or the file itself).

    Raises:
        ConfigError: missing, not JSON, or asking for another preprocessing than ours.
    """
    file = path / "preprocessor_config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the preprocessor config: {error}; expected the "
            f"preprocessor_config.json of a Qwen3-VL checkpoint at {file}"
        ) from error
    return preprocess_config_from_dict(values)


def preprocess_config_from_dict(values: Mapping[str, Any]) -> PreprocessConfig:
    """A `PreprocessConfig` from a parsed `preprocessor_config.json`.

    Every number must be there: the defaults of transformers' class are those of Qwen2-VL.

    Raises:
        ConfigError: a field is missing, or asks for another preprocessing than ours.
    """
    _check_same_steps(values)
    try:
        size = values["size"]
        mean, std = values["image_mean"], values["image_std"]
        config = PreprocessConfig(
            patch_size=int(values["patch_size"]),
            temporal_patch_size=int(values["temporal_patch_size"]),
            merge_size=int(values["merge_size"]),
            # pixel counts, in spite of their names
            min_pixels=int(size["shortest_edge"]),
            max_pixels=int(size["longest_edge"]),
            image_mean=(float(mean[0]), float(mean[1]), float(mean[2])),
            image_std=(float(std[0]), float(std[1]), float(std[2])),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(
            f"preprocessor_config.json lacks or garbles a field ({type(error).__name__}: {error})"
            "; expected patch_size, temporal_patch_size, merge_size, size.shortest_edge, "
            "size.longest_edge, image_mean and image_std: is the checkpoint whole?"
        ) from error
    positive = (config.patch_size, config.temporal_patch_size, config.merge_size)
    if min(positive) < 1 or min(config.image_std) <= 0:
        raise ConfigError(
            f"patch, temporal and merge sizes are {positive} and image_std {config.image_std}, "
            "expected all of them positive"
        )
    if not config.factor**2 <= config.max_pixels or not 0 < config.min_pixels <= config.max_pixels:
        raise ConfigError(
            f"size allows {config.min_pixels} to {config.max_pixels} pixels, expected "
            f"0 < shortest_edge <= longest_edge and room for one token ({config.factor**2})"
        )
    return config


def _check_same_steps(values: Mapping[str, Any]) -> None:
    ours = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": int(Image.Resampling.BICUBIC),
        "rescale_factor": RESCALE_FACTOR,
    }
    for field, expected in ours.items():
        got = values.get(field, expected)
        if not isinstance(got, (int, float)) or not math.isclose(got, expected):
            raise ConfigError(
                f"preprocessor_config.json says {field} = {got}, expected {expected}; this "
                "project preprocesses as released Qwen3-VL checkpoints ask and no other way"
            )


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
    if min(height, width) < 1 or max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise FrameError(
            f"image is {width} x {height} pixels, expected at least 1 x 1 and one side at most "
            f"{MAX_ASPECT_RATIO} times the other: crop it first"
        )
    resized_height = round(height / factor) * factor
    resized_width = round(width / factor) * factor
    if resized_height * resized_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        resized_height = max(factor, math.floor(height / shrink / factor) * factor)
        resized_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif resized_height * resized_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
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
    resized = np.asarray(
        Image.fromarray(np.ascontiguousarray(image)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
    )
    p, m, t = config.patch_size, config.merge_size, config.temporal_patch_size
    grid_h, grid_w = height // p, width // p
    blocks = resized.reshape(grid_h // m, m, p, grid_w // m, m, p, 3)
    # (block row, block column, row in block, column in block, channel, y, x)
    cells = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(grid_h * grid_w, 3, p * p)
    pixel_values = np.empty((grid_h * grid_w, 3, t, p * p), np.float32)
    for channel, values in enumerate(_normalised_levels(config)):
        pixel_values[:, channel] = values[cells[:, channel]][:, None]
    return Patches(
        pixel_values=pixel_values.reshape(grid_h * grid_w, -1),
        grid_thw=np.array([[1, grid_h, grid_w]], np.int64),
    )


def _normalised_levels(config: PreprocessConfig) -> npt.NDArray[np.float32]:
    """(3, 256) float32: what each grey level of each channel becomes."""
    # float64 product rounded to float32, then float32 arithmetic: the roundings of transformers.
    scaled = (np.arange(256, dtype=np.float64) * RESCALE_FACTOR).astype(np.float32)
    mean = np.array(config.image_mean, np.float32)[:, None]
    std = np.array(config.image_std, np.float32)[:, None]
    return np.asarray((scaled - mean) / std, np.float32)
