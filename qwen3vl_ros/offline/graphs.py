# SPDX-License-Identifier: Apache-2.0
"""The three ONNX graphs, tower and decoder traced from the reference model: sizes, no weights.

Knows the graph contracts and the `onnxruntime` flavour's operators; knows no files. Tracing is on
fake tensors, so an 8B graph costs no more memory than a tiny one; initializers carry the tensor
names of the checkpoint and no data, which `export.py` streams in.

The reference's modules are traced as they are, but for three that stand in a graph's way and are
exchanged for ones that share their weights: attention in the decoder (its cache is a buffer of
fixed size, written in place), attention in the tower, and RMSNorm (one operator instead of six).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants_ir
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

from ..model_config import ModelConfig, TextConfig, VisionConfig
from ..runtime.engine import is_resident
from .checkpoint import EMBEDDING, HEAD
from .reference_model import (
    RMSNorm,
    TextAttention,
    TextDecoder,
    VisionAttention,
    VisionTower,
)

OPSET = 23  # the first with RMSNormalization and RotaryEmbedding
DEEPSTACK_LAYERS = 3
EXAMPLE = 2  # length of a varying axis while tracing; 0 and 1 would be taken as constants


def vision_graph(config: VisionConfig) -> ir.Model:
    """`pixel_values` and positions to `image_embeds` and `deepstack_embeds`."""
    merge = config.spatial_merge_size**2
    patches, dim, rotary = EXAMPLE * merge, config.patch_dim, config.head_dim // 2
    B, N = Dim("B", min=1), merge * Dim("image_tokens", min=1)
    with FakeTensorMode():
        tower = VisionTower(config)
        for block in tower.blocks:
            block.attn = _TowerAttention(block.attn)
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
        graph = _CachedDecoder(TextDecoder(config))
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


class _Norm(nn.Module):
    """`RMSNorm` as one operator."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class _TowerAttention(nn.Module):
    """`VisionAttention` as one operator that never holds an N x N matrix."""

    def __init__(self, attention: VisionAttention) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads = attention.num_heads

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, N, h = x.shape
        q, k, v = self.qkv(x).split(h, dim=-1)
        cos, sin = cos.expand(B, -1, -1), sin.expand(B, -1, -1)
        q = torch.onnx.ops.rotary_embedding(q, cos, sin, num_heads=self.num_heads)
        k = torch.onnx.ops.rotary_embedding(k, cos, sin, num_heads=self.num_heads)
        x = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (q, k, v),
            {"num_heads": self.num_heads},
            dtype=q.dtype,
            shape=(B, N, h),
            version=1,
        )
        out: Tensor = self.proj(x)
        return out


class _BoundCache:
    """Stands in for `KVCache`: buffers of fixed size, each bound as past and present at once."""

    def __init__(self, past: Sequence[Tensor], cached_tokens: Tensor, new_tokens: int) -> None:
        self.past, self.present = past, list[Tensor]()
        # GroupQueryAttention wants the index of each sequence's last token, and the longest.
        self.last_index = (cached_tokens + (new_tokens - 1)).to(torch.int32)
        self.total_length = (cached_tokens.max() + new_tokens).to(torch.int32)
        self.length = 0  # the decoder moves it, and asks for a mask where it is not 0

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, heads: tuple[int, int]
    ) -> Tensor:
        past_key, past_value = self.past[2 * layer : 2 * layer + 2]
        out, key, value = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (q, k, v, past_key, past_value, self.last_index, self.total_length),
            # Rotation is done before: the operator's own counts positions along one axis.
            {"num_heads": heads[0], "kv_num_heads": heads[1], "do_rotary": 0},
            dtypes=(q.dtype, q.dtype, q.dtype),
            shapes=(q.shape, past_key.shape, past_value.shape),
            version=1,
        )
        self.present += [key, value]
        return out


class _CachedAttention(nn.Module):
    """`TextAttention` over a `_BoundCache`."""

    def __init__(self, attention: TextAttention, config: TextConfig) -> None:
        super().__init__()
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.o_proj = attention.v_proj, attention.o_proj
        self.q_norm, self.k_norm = _Norm(attention.q_norm), _Norm(attention.k_norm)
        self.layer = attention.layer
        self.heads = (config.num_attention_heads, config.num_key_value_heads)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: _BoundCache
    ) -> Tensor:
        q = _normed_heads(self.q_proj(x), self.q_norm, self.heads[0])
        k = _normed_heads(self.k_proj(x), self.k_norm, self.heads[1])
        q = torch.onnx.ops.rotary_embedding(q, cos, sin, num_heads=self.heads[0])
        k = torch.onnx.ops.rotary_embedding(k, cos, sin, num_heads=self.heads[1])
        out: Tensor = self.o_proj(cache.attend(self.layer, q, k, self.v_proj(x), self.heads))
        return out


def _normed_heads(x: Tensor, norm: _Norm, heads: int) -> Tensor:
    """(B, T, heads * head_dim), each head normalised. Sizes are spelled out: -1 traces slowly."""
    B, T, size = x.shape
    out: Tensor = norm(x.view(B, T, heads, size // heads)).view(B, T, size)
    return out


class _CachedDecoder(nn.Module):
    """`TextDecoder` with the graph's inputs and outputs."""

    def __init__(self, decoder: TextDecoder) -> None:
        super().__init__()
        for layer in decoder.layers:
            layer.self_attn = _CachedAttention(layer.self_attn, decoder.config)
            layer.input_layernorm = _Norm(layer.input_layernorm)
            layer.post_attention_layernorm = _Norm(layer.post_attention_layernorm)
        decoder.norm = _Norm(decoder.norm)
        self.decoder = decoder

    def forward(
        self,
        token_embeds: Tensor,
        rope_cos: Tensor,
        rope_sin: Tensor,
        visual_rows: Tensor,
        visual_embeds: Tensor,
        deepstack_embeds: Tensor,
        cached_tokens: Tensor,
        output_rows: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        cache: Any = _BoundCache(past, cached_tokens, token_embeds.shape[1])
        hidden = self.decoder(
            token_embeds,
            rope_cos,
            rope_sin,
            visual_rows,
            visual_embeds,
            deepstack_embeds,
            cache=cache,
        )
        return hidden[:, output_rows], *cache.present


def _traced(
    module: nn.Module,
    inputs: dict[str, tuple[Tensor, dict[int, Any]]],
    outputs: Sequence[str],
    *,
    weight_prefix: str,
) -> ir.Model:
    """An ONNX model whose initializers have a name, a shape, and no data."""
    axes: list[Any] = [dims for _, dims in inputs.values()]
    if isinstance(module, _CachedDecoder):  # its last argument is the tuple of buffers
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
