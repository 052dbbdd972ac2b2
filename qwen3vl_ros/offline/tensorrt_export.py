# SPDX-License-Identifier: Apache-2.0
"""A checkpoint directory becomes a directory of graphs that TensorRT builds plans from.

Knows the files of both. What is written runs nowhere yet: `tensorrt_build.py` makes plans of it on
the machine that shall run them, or ahead of time with TensorRT-RTX.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..errors import ConfigError
from ..image.preprocess import FILE_NAME, load_preprocess_config
from ..model_config import ModelConfig, load_model_config
from ..runtime.atomic_directory import replaced_directory
from ..runtime.manifest import EMBEDDING_FILE, MANIFEST_FILE, Manifest, write_manifest
from ..runtime.precision_name import precision_name
from .calibrated_weight import NOT_CALIBRATED
from .calibration import CODES, Rounding, calibrate
from .checkpoint import checked_files
from .engine_files import (
    Room,
    copy_files,
    refer_to_table,
    refuse_other_taps,
    room_for_tokens,
    tool_versions,
    weights_sha256,
    write_table,
)
from .export_memory import check_export_memory
from .exporter_version import PACKAGE, exporter_version
from .golden_outputs import write_golden_outputs
from .stored_weights import Float32, StoredWeights
from .streamed_tensor import Progress, save
from .tensorrt_choices import EIGHT_BITS
from .tensorrt_choices import PRECISIONS as PRECISIONS
from .tensorrt_choices import GraphChoices as GraphChoices
from .tensorrt_graphs import decoder_graph, head_graph, vision_graph
from .tensorrt_weights import attach_weights, positive_int4

FLAVOUR = "tensorrt-onnx"


def export_for_tensorrt(
    checkpoint_dir: Path,
    graph_dir: Path,
    choices: GraphChoices,
    *,
    golden: bool = True,
    progress: Progress | None = None,
) -> Manifest:
    """Write the graphs of a checkpoint; what was in `graph_dir` is replaced in one step.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        graph_dir: place of the graphs; new, empty, or of an earlier export.
        choices: how they are written.
        golden: also write what the reference says to one picture, which plans carry on.
        progress: called with a file's name, bytes written and bytes in all.

    Raises:
        CheckpointError: a file or tensor is missing or misshapen, or holds a number too large.
        ConfigError: blocks that do not fit, or a cache too short for one picture.
        EngineError: `graph_dir` holds something else, or is being written, or memory is short.
    """
    config = load_model_config(checkpoint_dir)
    refuse_other_taps(config)
    is_calibrated = precision_name(choices.precision).is_calibrated
    check_export_memory(config, golden=golden, calibrated=is_calibrated)
    room = room_for_graphs(checkpoint_dir, choices)
    weights = StoredWeights(files=checked_files(checkpoint_dir, config))
    width, block_size = PRECISIONS[choices.precision]
    has_int8 = choices.precision in EIGHT_BITS
    with replaced_directory(graph_dir, marker=MANIFEST_FILE) as partial:
        copy_files(checkpoint_dir, partial)
        _limit_pictures(partial / FILE_NAME, room)
        table = np.dtype(np.float32 if choices.precision == "float32" else np.float16)
        write_table(weights, partial / EMBEDDING_FILE, table)
        is_whole = block_size is None and not has_int8
        shares = config.text.tie_word_embeddings and is_whole and table.name == width
        calibrated = NOT_CALIBRATED
        if block_size is not None and is_calibrated:
            calibrated = calibrate(
                checkpoint_dir,
                weights,
                rounding=Rounding(
                    directory=partial / CODES,
                    block_size=block_size,
                    scale_rule=_positive_scales,
                ),
                progress=progress,
            )
        for name, graph in _graphs(config, choices).items():
            model = graph()
            attach_weights(
                model,
                weights,
                int4_block_size=None if name == "vision.onnx" else block_size,
                int8=has_int8 and name != "vision.onnx",
                calibrated=calibrated,
            )
            if shares and name == "lm_head.onnx":
                refer_to_table(model, partial)
                ir.save(model, partial / name)
            else:
                save(model, partial / name, progress)
        shutil.rmtree(partial / CODES, ignore_errors=True)
        sources_sha256 = weights_sha256(weights.files)
        if golden:
            write_golden_outputs(
                partial,
                weights,
                weights_sha256=sources_sha256,
                cache_length=room.cache_length,
                progress=progress,
            )
        return write_manifest(
            partial,
            flavour=FLAVOUR,
            precision=choices.precision,
            vision_precision=choices.vision_precision,
            model_type=config.model_type,
            weights_sha256=sources_sha256,
            cache_length=room.cache_length,
            max_visual_tokens=room.max_visual_tokens,
            tools=graph_tools(),
        )


def graph_tools() -> Mapping[str, str]:
    """Of what makes graphs, by package name; our own is told down to its sources."""
    return {**tool_versions(), PACKAGE.name: exporter_version(Path(__file__))}


def _positive_scales(block: Float32) -> Float32:
    return positive_int4(block, block_size=block.shape[1], scale_type=np.float16).scales[:, 0]


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


def room_for_graphs(checkpoint_dir: Path, choices: GraphChoices) -> Room:
    """What the checkpoint makes, and no more than was chosen."""
    if choices.max_visual_tokens is None:
        return room_for_tokens(checkpoint_dir, choices.cache_length)
    preprocess = load_preprocess_config(checkpoint_dir)
    token = preprocess.factor**2
    largest = min(choices.max_visual_tokens, preprocess.max_pixels // token)
    smallest = -(-preprocess.min_pixels // token)
    if largest < smallest:
        raise ConfigError(
            f"image tokens are limited to {largest}, and this checkpoint's smallest picture takes "
            f"{smallest}; expected at least that: raise image_tokens.max in the recipe, or lower "
            "size.shortest_edge in the checkpoint's preprocessor_config.json"
        )
    if choices.cache_length <= largest:
        raise ConfigError(
            f"cache_length is {choices.cache_length}, expected more than the {largest} tokens "
            "that the largest picture takes; raise it, or lower image_tokens.max in the recipe"
        )
    return Room(cache_length=choices.cache_length, max_visual_tokens=largest)


def _limit_pictures(file: Path, room: Room) -> None:
    """Larger pictures shall be scaled to what the engine takes, not refused."""
    preprocess = load_preprocess_config(file)
    limit = room.max_visual_tokens * preprocess.factor**2
    if limit < preprocess.max_pixels:
        values = json.loads(file.read_text(encoding="utf-8"))
        values["size"]["longest_edge"] = limit
        file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
