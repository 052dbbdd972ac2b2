# SPDX-License-Identifier: Apache-2.0
"""The reference's modules as the `onnxruntime` flavour has them, weights shared.

Four stand in a graph's way and are exchanged: attention in the decoder (its cache is a buffer of
fixed size, written in place), attention in the tower (no N x N matrix), RMSNorm (one operator
instead of six), and experts (which ones are computed depends on the data). They can be traced and
not run: ONNX Runtime has their operators, torch does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reference_decoder import RMSNorm, TextAttention
from .reference_experts import SparseMLP
from .reference_vision import VisionAttention


def exchanged(module: nn.Module) -> nn.Module:
    """The module, with those parts that stand in a graph's way exchanged, at any depth."""
    for name, child in list(module.named_children()):
        if isinstance(child, VisionAttention):
            setattr(module, name, _TowerAttention(child))
        elif isinstance(child, TextAttention):
            setattr(module, name, _CachedAttention(child))
        elif isinstance(child, RMSNorm):
            setattr(module, name, _Norm(child))
        elif isinstance(child, SparseMLP):
            setattr(module, name, _RoutedExperts(child))
        else:
            exchanged(child)
    return module


class _Norm(nn.Module):
    """`RMSNorm` as one operator."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class _RoutedExperts(nn.Module):
    """`SparseMLP` as one operator: softmax, choice, and the chosen experts alone.

    The operator wants experts output-major; `expert_operators.py` turns them when weights are
    attached, here they are as the checkpoint has them.
    """

    def __init__(self, mlp: SparseMLP) -> None:
        super().__init__()
        self.gate, self.experts = mlp.gate, mlp.experts

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MoE",
            (
                x,
                F.linear(x, self.gate.weight).flatten(0, 1),
                self.experts.gate_up_proj,
                None,  # no biases
                self.experts.down_proj,
            ),
            {
                "k": self.gate.top_k,
                "normalize_routing_weights": int(self.gate.renormalise),
                # silu(gate) * up, in the terms of an operator that has more of them.
                "activation_type": "swiglu",
                "activation_alpha": 1.0,
                "activation_beta": 0.0,
                "swiglu_fusion": 1,
            },
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )
        return out


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

    def __init__(self, attention: TextAttention) -> None:
        super().__init__()
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.o_proj = attention.v_proj, attention.o_proj
        self.q_norm, self.k_norm = _Norm(attention.q_norm), _Norm(attention.k_norm)
        self.layer, width = attention.layer, attention.head_dim
        self.heads = (self.q_proj.out_features // width, self.k_proj.out_features // width)

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


class CachedDecoder(nn.Module):
    """`TextDecoder` with the graph's inputs and outputs."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
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
