# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint wants pixels resized, cut and scaled, read from its own JSON files.

Knows what the files of still pictures (`preprocess.py`) and of videos (`video.py`) have in common,
and refuses every one that asks for another preprocessing than ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ..errors import ConfigError

RESCALE_FACTOR = 1 / 255
BICUBIC = 3  # Pillow's number of the filter


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchConfig:
    """How pixels become patches.

    Attributes:
        patch_size: pixels along the side of a patch.
        temporal_patch_size: frames in a patch; a still picture is repeated.
        merge_size: patches along the side of one language-model image token.
        min_pixels: after resizing there is at least this area, pixels.
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


class PatchFields(TypedDict):
    """The fields of a `PatchConfig`, for those that hold more."""

    patch_size: int
    temporal_patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]


def read_json(file: Path, *, what: str) -> Mapping[str, Any]:
    """A JSON object of a checkpoint.

    Args:
        file: where it should be.
        what: what it says, for the error.

    Raises:
        ConfigError: missing, not JSON, or no object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the {what}: {error}; expected the {file.name} of a Qwen3-VL checkpoint "
            f"at {file}"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"cannot read the {what}: it holds a {type(values).__name__}, expected a JSON object: "
            f"{file}"
        )
    return values


def patch_fields(values: Mapping[str, Any], *, file_name: str) -> PatchFields:
    """What every file of the kind must say; nothing is guessed.

    Raises:
        ConfigError: a field is missing, or asks for another preprocessing than ours.
    """
    _check_same_steps(values, file_name)
    try:
        size = values["size"]
        mean, std = values["image_mean"], values["image_std"]
        fields = PatchFields(
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
            f"{file_name} lacks or garbles a field ({type(error).__name__}: {error}); expected "
            "patch_size, temporal_patch_size, merge_size, size.shortest_edge, "
            "size.longest_edge, image_mean and image_std: is the checkpoint whole?"
        ) from error
    positive = (fields["patch_size"], fields["temporal_patch_size"], fields["merge_size"])
    if min(positive) < 1 or min(fields["image_std"]) <= 0:
        raise ConfigError(
            f"patch, temporal and merge sizes in {file_name} are {positive} and image_std "
            f"{fields['image_std']}, expected all of them positive"
        )
    token = (fields["patch_size"] * fields["merge_size"]) ** 2
    if not max(token, fields["min_pixels"]) <= fields["max_pixels"] or fields["min_pixels"] <= 0:
        raise ConfigError(
            f"size in {file_name} allows {fields['min_pixels']} to {fields['max_pixels']} pixels, "
            f"expected 0 < shortest_edge <= longest_edge and room for one token ({token})"
        )
    return fields


def _check_same_steps(values: Mapping[str, Any], file_name: str) -> None:
    ours = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": BICUBIC,
        "rescale_factor": RESCALE_FACTOR,
    }
    for field, expected in ours.items():
        got = values.get(field, expected)
        if not isinstance(got, (int, float)) or not math.isclose(got, expected):
            raise ConfigError(
                f"{file_name} says {field} = {got}, expected {expected}; this project "
                "preprocesses as released Qwen3-VL checkpoints ask and no other way"
            )
