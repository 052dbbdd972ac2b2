# SPDX-License-Identifier: Apache-2.0
"""A checkpoint directory becomes a directory of graphs that TensorRT builds plans from.

Knows the files of both. What is written runs nowhere yet: `tensorrt_build.py` makes plans of it on
the machine that shall run them, or ahead of time with TensorRT-RTX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..errors import ConfigError
from ..model_config import ModelConfig, load_model_config
from ..runtime.atomic_directory import replaced_directory
from ..runtime.manifest import EMBEDDING_FILE, MANIFEST_FILE, Manifest, write_manifest
from .checkpoint import checked_files
from .engine_files import (
    copy_files,
    refuse_other_taps,
    room_for_tokens,
    tool_versions,
    weights_sha256,
    write_table,
)
from .stored_weights import StoredWeights
from .streamed_tensor import Progress, save
from .tensorrt_graphs import decoder_graph, head_graph, vision_graph
from .tensorrt_modules import OperatorSet
from .tensorrt_weights import attach_weights

FLAVOUR = "tensorrt-onnx"
# What decoder and head compute in, and weights that share a scale where they have four bits.
PRECISIONS: Mapping[str, tuple[str, int | None]] = {
    "float32": ("float32", None),
    "float16": ("float16", None),
    "bfloat16": ("bfloat16", None),
    "int4": ("float16", 32),
    "int4-128": ("float16", 128),
}
TOWER_PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphChoices:
    """How a checkpoint is written for TensorRT.

    Attributes:
        operators: which operators graphs are made of.
        precision: of decoder and head, one of `PRECISIONS`.
        vision_precision: of the tower, one of `TOWER_PRECISIONS`.
        cache_length: tokens of prompt and answer together that the cache shall hold.
    """

    operators: OperatorSet
    precision: str
    vision_precision: str
    cache_length: int

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


def export_for_tensorrt(
    checkpoint_dir: Path,
    graph_dir: Path,
    choices: GraphChoices,
    *,
    progress: Progress | None = None,
) -> Manifest:
    """Write the graphs of a checkpoint; what was in `graph_dir` is replaced in one step.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        graph_dir: place of the graphs; new, empty, or of an earlier export.
        choices: how they are written.
        progress: called with a file's name, bytes written and bytes in all.

    Raises:
        CheckpointError: a file or tensor is missing or misshapen, or holds a number too large.
        ConfigError: experts, blocks that do not fit, or a cache too short for one picture.
        EngineError: `graph_dir` holds something else, or is being written.
    """
    config = load_model_config(checkpoint_dir)
    refuse_other_taps(config)
    room = room_for_tokens(checkpoint_dir, choices.cache_length)
    weights = StoredWeights(files=checked_files(checkpoint_dir, config))
    _, block_size = PRECISIONS[choices.precision]
    with replaced_directory(graph_dir, marker=MANIFEST_FILE) as partial:
        copy_files(checkpoint_dir, partial)
        table = np.float32 if choices.precision == "float32" else np.float16
        write_table(weights, partial / EMBEDDING_FILE, table)
        for name, graph in _graphs(config, choices).items():
            model = graph()
            attach_weights(
                model, weights, int4_block_size=None if name == "vision.onnx" else block_size
            )
            save(model, partial / name, progress)
        return write_manifest(
            partial,
            flavour=FLAVOUR,
            precision=choices.precision,
            vision_precision=choices.vision_precision,
            model_type=config.model_type,
            weights_sha256=weights_sha256(weights.files),
            cache_length=room.cache_length,
            max_visual_tokens=room.max_visual_tokens,
            tools=tool_versions(),
        )


def _graphs(config: ModelConfig, choices: GraphChoices) -> dict[str, Callable[[], ir.Model]]:
    operators, (width, _) = choices.operators, PRECISIONS[choices.precision]
    return {
        "vision.onnx": lambda: vision_graph(
            config.vision, operators=operators, width=choices.vision_precision
        ),
        "decoder.onnx": lambda: decoder_graph(
            config.text, operators=operators, width=width, cache_length=choices.cache_length
        ),
        "lm_head.onnx": lambda: head_graph(config, operators=operators, width=width),
    }
