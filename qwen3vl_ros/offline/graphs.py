# SPDX-License-Identifier: Apache-2.0
"""The three ONNX graphs, tower and decoder traced from the reference model: sizes, no weights.

Knows the graph contracts and the `onnxruntime` flavour's operators; knows no files. Tracing is on
fake tensors, so an 8B graph costs no more memory than a tiny one; initializers carry the tensor
names of the checkpoint and no data, which `export.py` streams in.

What is traced is the reference's own forward pass, with the few modules of `graph_modules.py` in
place of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants_ir
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from ..model_config import ModelConfig, TextConfig, VisionConfig
from ..runtime.engine import is_resident
from .checkpoint import EMBEDDING, HEAD
from .graph_modules import CachedDecoder, exchanged
from .reference_decoder import TextDecoder
from .reference_vision import VisionTower

OPSET = 23  # the first with RMSNormalization and RotaryEmbedding
DEEPSTACK_LAYERS = 3
EXAMPLE = 2  # length of a varying axis while tracing; 0 and 1 would be taken as constants


def vision_graph(config: VisionConfig) -> ir.Model:
    """`pixel_values` and positions to `image_embeds` and `deepstack_embeds`."""
    merge = config.spatial_merge_size**2
    patches, dim, rotary = EXAMPLE * merge, config.patch_dim, config.head_dim // 2
    B, N = Dim("B", min=1), merge * Dim("image_tokens", min=1)
    with FakeTensorMode():
        tower = exchanged(VisionTower(config))
        inputs = {
            "pixel_values": (torch.empty(EXAMPLE, patches, dim), {0: B, 1: N}),
            "position_indices": (torch.empty(4, patches, dtype=torch.int64), {1: N}),
            "position_weights": (torch.empty(4, patches), {1: N}),
            "rotary_cos": (torch.empty(patches, rotary), {0: N}),
            "rotary_sin": (torch.empty(patches, rotary), {0: N}),
        }
    outputs = ("image_embeds", "deepstack_embeds")
    model = _traced(tower, inputs, outputs, weight_prefix="model.visual.")
    rows = ("B", "image_tokens", config.out_hidden_size)
    taps = len(config.deepstack_visual_indexes)
    for value, shape in zip(model.graph.outputs, (rows, (taps, *rows)), strict=True):
        value.shape = ir.Shape(shape)  # the tracer gives the quotient of an axis a made-up name
    return model


def decoder_graph(config: TextConfig) -> ir.Model:
    """Token and visual rows to `hidden_states` at `output_rows`, over a cache bound in place.

    Beside the inputs of `TextDecoder.forward`: `cached_tokens` (B) int32, tokens in the cache
    before this pass; `output_rows` (R) int64, the rows whose hidden states are wanted; and
    `past_key_<layer>`, `past_value_<layer>` (B, kv_heads, cache_length, head_dim), which share
    their memory with the outputs `present_...`.
    """
    n, D, rotary = EXAMPLE, config.hidden_size, config.head_dim // 2
    B, T, V, R, S = (Dim(name, min=1) for name in ("B", "T", "V", "R", "cache_length"))
    with FakeTensorMode():
        graph = CachedDecoder(exchanged(TextDecoder(config)))
        buffer = torch.empty(n, config.num_key_value_heads, n, config.head_dim)
        inputs = {
            "token_embeds": (torch.empty(n, n, D), {0: B, 1: T}),
            "rope_cos": (torch.empty(n, n, rotary), {0: B, 1: T}),
            "rope_sin": (torch.empty(n, n, rotary), {0: B, 1: T}),
            "visual_rows": (torch.empty(n, n, dtype=torch.int64), {0: B, 1: T}),
            "visual_embeds": (torch.empty(n, D), {0: V}),
            "deepstack_embeds": (torch.empty(DEEPSTACK_LAYERS, n, D), {1: V}),
            "cached_tokens": (torch.empty(n, dtype=torch.int32), {0: B}),
            "output_rows": (torch.empty(n, dtype=torch.int64), {0: R}),
        }
        buffers = [
            f"{kind}_{layer}"
            for layer in range(config.num_hidden_layers)
            for kind in ("key", "value")
        ]
        inputs |= {f"past_{name}": (buffer.clone(), {0: B, 2: S}) for name in buffers}
    return _traced(
        graph,
        inputs,
        ("hidden_states", *(f"present_{name}" for name in buffers)),
        weight_prefix="model.language_model.",
    )


def head_graph(config: ModelConfig) -> ir.Model:
    """`hidden_states` to `logits`; its one weight is the embedding table where they are tied."""
    text = config.text
    name = EMBEDDING if text.tie_word_embeddings else HEAD
    float32 = ir.DataType.FLOAT
    hidden = ir.val("hidden_states", float32, ("B", "R", text.hidden_size))
    weight = ir.val(name, float32, (text.vocab_size, text.hidden_size))
    transpose = ir.node("Transpose", [weight], {"perm": [1, 0]})
    logits = ir.val("logits", float32, ("B", "R", text.vocab_size))
    product = ir.node("MatMul", [hidden, transpose.outputs[0]], outputs=[logits])
    graph = ir.Graph(
        [hidden],
        [logits],
        nodes=[transpose, product],
        initializers=[weight],
        opset_imports={"": OPSET},
        name="lm_head",
    )
    return ir.Model(graph, ir_version=10)


def _traced(
    module: nn.Module,
    inputs: dict[str, tuple[Tensor, dict[int, Any]]],
    outputs: Sequence[str],
    *,
    weight_prefix: str,
) -> ir.Model:
    """An ONNX model whose initializers have a name, a shape, and no data."""
    axes: list[Any] = [dims for _, dims in inputs.values()]
    if isinstance(module, CachedDecoder):  # its last argument is the tuple of buffers
        fixed = sum(not is_resident(name) for name in inputs)
        axes = [*axes[:fixed], tuple(axes[fixed:])]
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(tensor for tensor, _ in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(axes),
            opset_version=OPSET,
            optimize=False,  # it would read weights that are not there
            verbose=False,
        )
        assert program is not None
        model = program.model
        for name, weight in list(model.graph.initializers.items()):
            weight.const_value = None
            _rename_initializer(model, name, weight_prefix + name.removeprefix("decoder."))
        fold_constants_ir(model)
        passes.CommonSubexpressionEliminationPass()(model)
        passes.RemoveUnusedNodesPass()(model)
        passes.ClearMetadataAndDocStringPass()(model)
    return model


def _rename_initializer(model: ir.Model, old: str, new: str) -> None:
    weight = model.graph.initializers.pop(old)
    weight.name = new
    model.graph.initializers[new] = weight


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on operators we have not and names it gave axes itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
