# SPDX-License-Identifier: Apache-2.0
"""The three graphs of the `tensorrt` flavour: same inputs and outputs, standard operators only.

Knows the graph contracts and how wide numbers are in a graph; knows no files. Inputs and outputs
are float32 as in the other flavour, and are cast inside, so that whoever feeds a graph need not
know. Resident tensors have the graph's own width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedOpsetsPass
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from ..model_config import ModelConfig, TextConfig, VisionConfig
from .checkpoint import EMBEDDING, HEAD
from .graphs import DEEPSTACK_LAYERS, EXAMPLE, _traced
from .reference_decoder import TextDecoder
from .reference_vision import VisionTower
from .tensorrt_choices import OperatorSet
from .tensorrt_modules import TensorRTDecoder, TensorRTTower, exchanged

# 24 is the first with TensorScatter; 20 is the first with Gelu, and the newest that TensorRT 10.3
# is documented to read (`tensorrt_weights.py` raises it where weights have four bits).
OPSETS = {OperatorSet.FUSED: 24, OperatorSet.PLAIN: 20}
IR_VERSION = 10  # the first with four-bit tensors, and all that TensorRT 10.3 reads
WIDTHS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def vision_graph(config: VisionConfig, *, operators: OperatorSet, width: str) -> ir.Model:
    """`pixel_values` and positions to `image_embeds` and `deepstack_embeds`.

    Args:
        config: the tower.
        operators: of which the graph is made.
        width: of weights and activations, a key of `WIDTHS`.
    """
    return _vision_graph(config, operators, width).clone()


@lru_cache(maxsize=8)  # tracing takes long, and precisions that compute alike share it
def _vision_graph(config: VisionConfig, operators: OperatorSet, width: str) -> ir.Model:
    merge = config.spatial_merge_size**2
    patches, dim, rotary = EXAMPLE * merge, config.patch_dim, config.head_dim // 2
    B, N = Dim("B", min=1), merge * Dim("image_tokens", min=1)
    with FakeTensorMode():
        with _weights_of(WIDTHS[width]):
            tower = exchanged(VisionTower(config), operators)
        inputs = {
            "pixel_values": (torch.empty(EXAMPLE, patches, dim), {0: B, 1: N}),
            "position_indices": (torch.empty(4, patches, dtype=torch.int64), {1: N}),
            "position_weights": (torch.empty(4, patches), {1: N}),
            "rotary_cos": (torch.empty(patches, rotary), {0: N}),
            "rotary_sin": (torch.empty(patches, rotary), {0: N}),
        }
        graph = TensorRTTower(tower)
    outputs = ("image_embeds", "deepstack_embeds")
    model = _traced(graph, inputs, outputs, weight_prefix="model.visual.")
    rows = ("B", "image_tokens", config.out_hidden_size)
    taps = len(config.deepstack_visual_indexes)
    for value, shape in zip(model.graph.outputs, (rows, (taps, *rows)), strict=True):
        value.shape = ir.Shape(shape)  # the tracer gives the quotient of an axis a made-up name
    return _finished(model, operators)


def decoder_graph(
    config: TextConfig, *, operators: OperatorSet, width: str, cache_length: int
) -> ir.Model:
    """Token and visual rows to `hidden_states`, over a cache; see `graphs.decoder_graph`.

    `present_...` has the buffer's shape where it is the buffer (`FUSED`), and (B, kv_heads, T,
    head_dim) where it is the rows of this pass (`PLAIN`). The length of the buffer is a number,
    not an axis: TensorRT writes into caches of a fixed length only.
    """
    return _decoder_graph(config, operators, width, cache_length).clone()


@lru_cache(maxsize=8)
def _decoder_graph(
    config: TextConfig, operators: OperatorSet, width: str, cache_length: int
) -> ir.Model:
    n, D, rotary, dtype = EXAMPLE, config.hidden_size, config.head_dim // 2, WIDTHS[width]
    B, T, V, R = (Dim(name, min=1) for name in ("B", "T", "V", "R"))
    with FakeTensorMode():
        with _weights_of(dtype):
            decoder = exchanged(TextDecoder(config), operators)
        graph = TensorRTDecoder(decoder, operators, dtype)
        shape = (n, config.num_key_value_heads, cache_length, config.head_dim)
        buffer = torch.empty(shape, dtype=dtype)
        inputs: dict[str, tuple[Tensor, dict[int, Any]]] = {
            "token_embeds": (torch.empty(n, n, D), {0: B, 1: T}),
            "rope_cos": (torch.empty(n, n, rotary), {0: B, 1: T}),
            "rope_sin": (torch.empty(n, n, rotary), {0: B, 1: T}),
            "visual_rows": (torch.empty(n, n, dtype=torch.int64), {0: B, 1: T}),
            "visual_embeds": (torch.empty(n, D), {0: V}),
            "deepstack_embeds": (torch.empty(DEEPSTACK_LAYERS, n, D), {1: V}),
            "cached_tokens": (torch.empty(n, dtype=torch.int32), {0: B}),
            "output_rows": (torch.empty(n, dtype=torch.int64), {0: R}),
        }
        names = [
            f"{kind}_{layer}"
            for layer in range(config.num_hidden_layers)
            for kind in ("key", "value")
        ]
        inputs |= {f"past_{name}": (buffer.clone(), {0: B}) for name in names}
    model = _traced(
        graph,
        inputs,
        ("hidden_states", *(f"present_{name}" for name in names)),
        weight_prefix="model.language_model.",
    )
    return _finished(model, operators)


def head_graph(config: ModelConfig, *, operators: OperatorSet, width: str) -> ir.Model:
    """`hidden_states` to `logits`."""
    text, dtype = config.text, ir.DataType[_IR_NAMES[width]]
    name = EMBEDDING if text.tie_word_embeddings else HEAD
    float32 = ir.DataType.FLOAT
    hidden = ir.val("hidden_states", float32, ("B", "R", text.hidden_size))
    logits = ir.val("logits", float32, ("B", "R", text.vocab_size))
    weight = ir.val(name, dtype, (text.vocab_size, text.hidden_size))
    narrowed = ir.node("Cast", [hidden], {"to": dtype})
    transpose = ir.node("Transpose", [weight], {"perm": [1, 0]})
    product = ir.node("MatMul", [narrowed.outputs[0], transpose.outputs[0]])
    widened = ir.node("Cast", [product.outputs[0]], {"to": float32}, outputs=[logits])
    for value, kind, shape in (
        (narrowed.outputs[0], dtype, hidden.shape),
        (product.outputs[0], dtype, logits.shape),
    ):
        value.type, value.shape = ir.TensorType(kind), shape
    graph = ir.Graph(
        [hidden],
        [logits],
        nodes=[narrowed, transpose, product, widened],
        initializers=[weight],
        opset_imports={"": OPSETS[operators]},
        name="lm_head",
    )
    return _finished(ir.Model(graph, ir_version=IR_VERSION), operators)


_IR_NAMES = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}


@contextmanager
def _weights_of(dtype: torch.dtype) -> Iterator[None]:
    """Modules made inside have weights of this kind; fake ones cannot be cast afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _finished(model: ir.Model, operators: OperatorSet) -> ir.Model:
    """Of the opset that the operators need: what is traced means the same in all of these."""
    RemoveUnusedOpsetsPass()(model)
    model.graph.opset_imports[""] = OPSETS[operators]
    for node in model.graph:
        node.version = None
    model.ir_version = IR_VERSION
    return model
