# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is written for TensorRT: operators, numbers, and room for tokens.

Knows no graph, no torch and no ONNX, so that a robot without them can build plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from ..errors import ConfigError

Release: TypeAlias = tuple[int, int]  # of TensorRT: (10, 3)
# TensorRT-RTX counts its releases otherwise; its own parser is asked in tests.
RTX_READS_AS: Release = (10, 15)


class OperatorSet(Enum):
    """Which operators a graph is made of."""

    FUSED = "fused"
    PLAIN = "plain"


# What decoder and head compute in, and weights that share a scale where they have four bits;
# calibrated ones are rounded for what rendered scenes bring about (`calibration.py`). A whole row
# shares one where they have eight (`EIGHT_BITS`).
PRECISIONS: Mapping[str, tuple[str, int | None]] = {
    "float32": ("float32", None),
    "float16": ("float16", None),
    "bfloat16": ("bfloat16", None),
    "int8": ("float16", None),
    "int4": ("float16", 32),
    "int4-128": ("float16", 128),
    "int4-calibrated": ("float16", 32),
    "int4-128-calibrated": ("float16", 128),
}
EIGHT_BITS = ("int8",)
TOWER_PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphChoices:
    """How a checkpoint is written for TensorRT.

    Attributes:
        operators: which operators graphs are made of.
        precision: of decoder and head, one of `PRECISIONS`.
        vision_precision: of the tower, one of `TOWER_PRECISIONS`.
        cache_length: tokens of prompt and answer together that the cache shall hold.
        max_visual_tokens: of the largest picture; pictures that would take more are scaled down.
            None leaves what the checkpoint says.
    """

    operators: OperatorSet
    precision: str
    vision_precision: str
    cache_length: int
    max_visual_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuses what no graph can be.

        Raises:
            ConfigError: with the field, what it is and what was expected.
        """
        for name, value, known in (
            ("precision", self.precision, tuple(PRECISIONS)),
            ("vision_precision", self.vision_precision, TOWER_PRECISIONS),
        ):
            if value not in known:
                raise ConfigError(f"{name} is '{value}', expected one of {', '.join(known)}")


def release_from_version(version: str) -> Release:
    """Of a version of TensorRT as it says it, or as a recipe does.

    >>> release_from_version("10.3.0.30"), release_from_version("11.4")
    ((10, 3), (11, 4))
    """
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
