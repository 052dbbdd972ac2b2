# SPDX-License-Identifier: Apache-2.0
"""A checkpoint directory becomes an engine directory for ONNX Runtime.

Knows the files of both. Graphs come without weights (`graphs.py`); here the checkpoint's tensors
are read one at a time, quantised on the way, and written beside the graphs as external data. A
weight is stored as the checkpoint has it, (out, in), once: a tied float32 head is a reference into
the embedding table, which the host reads too. Only experts are turned (`expert_operators.py`).

Precisions: "float32"; "int4" has four-bit decoder and head, a float16 embedding table and a
float32 tower (a tower is small, and boxes are read from what it sees); its experts have four bits,
the routers that choose them float32.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ..errors import CheckpointError, ConfigError
from ..image.preprocess import load_preprocess_config
from ..model_config import ModelConfig, TextConfig, VisionConfig, load_model_config
from ..runtime.atomic_directory import replaced_directory
from ..runtime.manifest import (
    CHECKPOINT_FILES,
    EMBEDDING_FILE,
    MANIFEST_FILE,
    Manifest,
    sha256_of_file,
    write_manifest,
)
from .checkpoint import EMBEDDING, checked_files
from .expert_operators import attach_experts
from .graphs import DEEPSTACK_LAYERS, decoder_graph, head_graph, vision_graph
from .quantization import ACCURACY_LEVEL, BLOCK_SIZE
from .stored_weights import StoredWeights, lazy_tensor

PRECISIONS = ("float32", "int4")
OPTIONAL_FILES = ("chat_template.jinja", "video_preprocessor_config.json")
TOOLS = ("onnx", "onnx-ir", "onnxscript", "torch")
ROUTER = ".mlp.gate.weight"
MIN_EXTERNAL_BYTES = 1024  # smaller tensors stay in the graph file
MIN_CACHE_LENGTH = 1024
WORDS_LENGTH = 768  # tokens of a question and an answer of twenty boxes

Progress = Callable[[str, int, int], None]


def export_checkpoint(
    checkpoint_dir: Path,
    engine_dir: Path,
    *,
    precision: str,
    cache_length: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write the engines of a checkpoint; what was in `engine_dir` is replaced in one step.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        engine_dir: place of the engine; new, empty, or an engine.
        precision: one of `PRECISIONS`.
        cache_length: tokens of prompt and answer together that the cache shall hold; None makes
            room for the largest picture, its question and its answer.
        progress: called with a file's name, tensors written and tensors in all.

    Raises:
        CheckpointError: a file or tensor is missing or misshapen.
        ConfigError: unknown precision, or a cache too short for one picture.
        EngineError: `engine_dir` holds something else, or is being written.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is '{precision}', expected one of {', '.join(PRECISIONS)}")
    config = load_model_config(checkpoint_dir)
    _refuse_what_graphs_cannot(config, precision)
    preprocess = load_preprocess_config(checkpoint_dir)
    max_visual_tokens = preprocess.max_pixels // preprocess.factor**2
    if cache_length is None:
        cache_length = max(MIN_CACHE_LENGTH, max_visual_tokens + WORDS_LENGTH)
    if cache_length <= max_visual_tokens:
        raise ConfigError(
            f"--cache-length is {cache_length}, expected more than the {max_visual_tokens} tokens "
            "that the largest picture takes; raise it, or lower size.longest_edge in the "
            "checkpoint's preprocessor_config.json"
        )
    weights = StoredWeights(files=checked_files(checkpoint_dir, config))
    with replaced_directory(engine_dir, marker=MANIFEST_FILE) as partial:
        _copy_files(checkpoint_dir, partial)
        table = weights.array(EMBEDDING)
        np.save(partial / EMBEDDING_FILE, table.astype(_table_dtype(precision)))
        for name, model in _graphs(config).items():
            four_bits = precision == "int4" and name != "vision.onnx"
            _attach_weights(model, weights, four_bits=four_bits)
            if name == "lm_head.onnx" and not four_bits and config.text.tie_word_embeddings:
                model.graph.initializers[EMBEDDING].const_value = _table_reference(partial)
                ir.save(model, partial / name)
            else:
                _save(model, partial / name, progress)
        return write_manifest(
            partial,
            flavour="onnxruntime",
            precision=precision,
            model_type=config.model_type,
            weights_sha256=_weights_sha256(weights.files),
            cache_length=cache_length,
            max_visual_tokens=max_visual_tokens,
            tools={name: version(name) for name in TOOLS},
        )


def _refuse_what_graphs_cannot(config: ModelConfig, precision: str) -> None:
    taps, text = len(config.vision.deepstack_visual_indexes), config.text
    if taps != DEEPSTACK_LAYERS:
        raise ConfigError(
            f"the tower has {taps} deepstack taps, and an engine's inputs are made for "
            f"{DEEPSTACK_LAYERS}, as every released Qwen3-VL has them"
        )
    widths = (text.hidden_size, text.moe_intermediate_size)
    if precision == "int4" and any(width % BLOCK_SIZE for width in widths if text.num_experts):
        raise ConfigError(
            f"four-bit experts need a hidden_size and a moe_intermediate_size in blocks of "
            f"{BLOCK_SIZE}, these are {widths[0]} and {widths[1]}; export precision float32"
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


def _table_dtype(precision: str) -> npt.DTypeLike:
    return np.float32 if precision == "float32" else np.float16


def _copy_files(source: Path, target: Path) -> None:
    for name in (*CHECKPOINT_FILES, *OPTIONAL_FILES):
        file = source / name
        if file.is_file():
            shutil.copyfile(file, target / name)
        elif name in CHECKPOINT_FILES:
            raise CheckpointError(
                f"the checkpoint has no {name}, which the engine needs beside its graphs; "
                f"download it whole: {source}"
            )


def _attach_weights(model: ir.Model, weights: StoredWeights, *, four_bits: bool) -> None:
    """Give every initializer its data, read when the model is saved; linears their operator."""
    graph = model.graph
    for matmul, weight in list(_linears(graph)):
        x = matmul.inputs[0]
        # A router weighs experts in float32: it is small, and a wrong choice is not a small error.
        if four_bits and not str(weight.name).endswith(ROUTER):
            inputs = [x, *_int4_initializers(graph, weight, weights)]
            node = ir.node("MatMulNBits", inputs, _int4_attributes(weight), domain="com.microsoft")
        else:
            # Takes the weight as it lies, so that nobody has to store or make its transpose.
            node = ir.node("FusedMatMul", [x, weight], {"transB": 1}, domain="com.microsoft")
        out, old = node.outputs[0], matmul.outputs[0]
        out.name, out.shape, out.type = old.name, old.shape, old.type
        graph.insert_before(matmul, node)
        ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
        graph.remove(matmul, safe=True)
    attach_experts(graph, weights, four_bits=four_bits)
    model.opset_imports["com.microsoft"] = 1
    RemoveUnusedNodesPass()(model)
    for name, value in graph.initializers.items():
        if value.const_value is None:
            value.const_value = lazy_tensor(value, functools.partial(weights.array, name))


def _linears(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Every MatMul by the transpose of an initializer, and that initializer."""
    for node in graph:
        if node.op_type != "MatMul" or node.inputs[1] is None:
            continue
        transpose = node.inputs[1].producer()
        if transpose is not None and transpose.op_type == "Transpose":
            weight = transpose.inputs[0]
            if weight is not None and weight.is_initializer():
                yield node, weight


def _matrix_shape(weight: ir.Value) -> tuple[int, int]:
    assert weight.shape is not None
    out_features, in_features = weight.shape.numpy()
    return out_features, in_features


def _int4_attributes(weight: ir.Value) -> dict[str, int]:
    out_features, in_features = _matrix_shape(weight)
    return {
        "N": out_features,
        "K": in_features,
        "bits": 4,
        "block_size": BLOCK_SIZE,
        "accuracy_level": ACCURACY_LEVEL,
    }


def _int4_initializers(
    graph: ir.Graph, weight: ir.Value, weights: StoredWeights
) -> tuple[ir.Value, ir.Value]:
    name, (out_features, in_features) = str(weight.name), _matrix_shape(weight)
    blocks = -(-in_features // BLOCK_SIZE)
    packed = ir.val(f"{name}.int4", ir.DataType.UINT8, (out_features, blocks, BLOCK_SIZE // 2))
    scales = ir.val(f"{name}.scales", ir.DataType.FLOAT, (out_features, blocks))
    packed.const_value = lazy_tensor(packed, lambda: weights.int4(name).packed)
    scales.const_value = lazy_tensor(scales, lambda: weights.int4(name).scales)
    for value in (packed, scales):
        graph.initializers.add(value)
    return packed, scales


def _table_reference(directory: Path) -> ir.ExternalTensor:
    """The embedding table's numbers, where they lie in its own file."""
    with (directory / EMBEDDING_FILE).open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return ir.ExternalTensor(
            EMBEDDING_FILE,
            file.tell(),
            int(np.prod(shape)) * dtype.itemsize,
            ir.DataType.FLOAT,
            shape=ir.Shape(shape),
            name=EMBEDDING,
            base_dir=directory,
        )


def _save(model: ir.Model, file: Path, progress: Progress | None) -> None:
    def report(_: object, info: ir.external_data.CallbackInfo) -> None:
        if progress is not None:
            progress(file.name, info.index + 1, info.total)

    ir.save(
        model,
        file,
        external_data=f"{file.name}.data",
        size_threshold_bytes=MIN_EXTERNAL_BYTES,
        callback=report,
        max_workers=1,  # one weight in memory at a time
    )


def _weights_sha256(files: dict[str, Path]) -> str:
    """Hex digest over the weight files, their names and contents."""
    digest = hashlib.sha256()
    for file in sorted(set(files.values())):
        digest.update(f"{file.name} {sha256_of_file(file)}\n".encode())
    return digest.hexdigest()
