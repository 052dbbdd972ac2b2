# SPDX-License-Identifier: Apache-2.0
"""A checkpoint directory becomes an engine directory for ONNX Runtime.

Knows the files of both. Graphs come without weights (`graphs.py`) and are told whose numbers they
hold (`graph_weights.py`); those are read while the graphs are saved, some rows of one tensor at a
time, narrowed or rounded on the way, and written beside the graphs as external data
(`streamed_tensor.py`). So memory does not grow with the model. Where head and embedding are tied
and the head has whole numbers, it is a reference into the embedding table, which the host reads
too.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import ConfigError
from ..model_config import ModelConfig, TextConfig, VisionConfig, load_model_config
from ..runtime.atomic_directory import replaced_directory
from ..runtime.manifest import EMBEDDING_FILE, MANIFEST_FILE, Manifest, write_manifest
from .cache_ranges import CacheRanges
from .calibrated_weight import CalibratedWeight
from .calibration import CODES, Rounding, calibrate
from .checkpoint import checked_files
from .engine_files import (
    copy_files,
    refer_to_table,
    refuse_other_taps,
    room_for_tokens,
    tool_versions,
    weights_sha256,
    write_table,
)
from .export_memory import check_export_memory
from .golden_outputs import write_golden_outputs
from .graph_weights import attach_weights
from .graphs import decoder_graph, head_graph, vision_graph
from .integer_cache import hold_cache_in_int8
from .precisions import BFLOAT16, FLOAT16, FLOAT32, INT8, Precision, precision_from_name
from .precisions import PRECISIONS as PRECISIONS
from .quantization import block_scales
from .stored_weights import Float32, StoredWeights
from .streamed_tensor import Progress, save

# As manifests name what the tower's weights are stored in.
_TOWER_NAMES = {FLOAT32: "float32", FLOAT16: "float16", BFLOAT16: "bfloat16", INT8: "int8"}


def export_checkpoint(
    checkpoint_dir: Path,
    engine_dir: Path,
    *,
    precision: str,
    cache_length: int | None = None,
    golden: bool = True,
    files: dict[str, Path] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write the engines of a checkpoint; what was in `engine_dir` is replaced in one step.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        engine_dir: place of the engine; new, empty, or an engine.
        precision: a name of `precisions.py`.
        cache_length: tokens of prompt and answer together that the cache shall hold; None makes
            room for the largest picture, its question and its answer.
        golden: also write what the reference says to one picture, for `qwen3vl doctor` and the
            node to hold the engine against.
        files: of the checkpoint, as `checked_files` gave them; None checks them here.
        progress: called with a file's name, bytes written and bytes in all.

    Raises:
        CheckpointError: a file or tensor is missing or misshapen.
        ConfigError: unknown precision, or a cache too short for one picture.
        EngineError: `engine_dir` holds something else, or is being written, or memory is short.
    """
    numbers = precision_from_name(precision)
    config = load_model_config(checkpoint_dir)
    refuse_other_taps(config)
    _refuse_experts(config, numbers)
    check_export_memory(
        config, golden=golden, calibrated=numbers.calibrated, int8_cache=numbers.int8_cache
    )
    room = room_for_tokens(checkpoint_dir, cache_length)
    weights = StoredWeights(files=files or checked_files(checkpoint_dir, config))
    with replaced_directory(engine_dir, marker=MANIFEST_FILE) as partial:
        copy_files(checkpoint_dir, partial)
        write_table(weights, partial / EMBEDDING_FILE, numbers.table)
        cache = CacheRanges(config.text) if numbers.int8_cache else None
        calibrated: Mapping[str, CalibratedWeight] = {}
        if numbers.calibrated or cache is not None:
            rounding = _rounding(numbers, partial / CODES)
            calibrated = calibrate(
                checkpoint_dir, weights, rounding=rounding, cache=cache, progress=progress
            )
        for name, model in _graphs(config).items():
            is_head = name == "lm_head.onnx"
            shares = is_head and config.text.tie_word_embeddings and numbers.bits is None
            of_graph = _of_graph(name, numbers, shares=shares)
            attach_weights(model, weights, of_graph, calibrated=calibrated)
            if cache is not None and name == "decoder.onnx":
                hold_cache_in_int8(model, cache.scales)
            if shares:
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
            flavour="onnxruntime",
            precision=precision,
            vision_precision=_TOWER_NAMES[numbers.tower_stored],
            model_type=config.model_type,
            weights_sha256=sources_sha256,
            cache_length=room.cache_length,
            max_visual_tokens=room.max_visual_tokens,
            tools=tool_versions(),
        )


def _rounding(precision: Precision, directory: Path) -> Rounding | None:
    """Of weights for what rendered scenes bring about, where the precision is so."""
    if not precision.calibrated:
        return None

    def scale_rule(block: Float32) -> Float32:
        scales = block_scales(block, bits=4)
        # What will be stored is what has to be made up for.
        return scales.astype(np.float16).astype(np.float32) if half else scales

    half = precision.stored == FLOAT16
    return Rounding(directory=directory, block_size=precision.block_size, scale_rule=scale_rule)


def _of_graph(name: str, precision: Precision, *, shares: bool) -> Precision:
    """The numbers of one graph; `shares`: its weight is the embedding table."""
    if name == "vision.onnx":
        return replace(
            precision,
            bits=None,
            stored=precision.tower_stored,
            computed=precision.tower_computed,
        )
    if shares:
        return replace(precision, stored=ir.DataType.from_numpy(np.dtype(precision.table)))
    return precision


def _refuse_experts(config: ModelConfig, precision: Precision) -> None:
    text = config.text
    widths = (text.hidden_size, text.moe_intermediate_size)
    if text.num_experts and precision.bits == 8:
        # Measured with ONNX Runtime 1.32 on the CPU, against the weights the engine holds: 20 % of
        # the logits' norm where four bits are 3 % off; 2 % and 0.0001 % with whole activations.
        raise ConfigError(
            "ONNX Runtime's operator for experts miscounts with eight-bit weights, expected int4, "
            "int4-128, int4-a16 or whole numbers; export precision int4, or float16 where it fits"
        )
    blocks = precision.block_size
    if precision.bits and text.num_experts and any(width % blocks for width in widths):
        raise ConfigError(
            f"{precision.bits}-bit experts need a hidden_size and a moe_intermediate_size in "
            f"blocks of {blocks}, these are {widths[0]} and {widths[1]}; export precision float32"
        )


def _graphs(config: ModelConfig) -> dict[str, ir.Model]:
    return {
        "vision.onnx": _traced_once(vision_graph, config.vision).clone(),
        "decoder.onnx": _traced_once(decoder_graph, config.text).clone(),
        "lm_head.onnx": head_graph(config),
    }


@functools.lru_cache(maxsize=2)
def _traced_once(trace: Callable[[Any], ir.Model], config: VisionConfig | TextConfig) -> ir.Model:
    """Tracing takes long and depends on sizes only: two precisions share it."""
    return trace(config)
