# SPDX-License-Identifier: Apache-2.0
"""The reference's modules as the `tensorrt` flavour has them: standard ONNX operators only.

Two sets of operators, because TensorRT learned the ones made for language models late
(`tensorrt_operators.py` says when): `fused` has an operator each for normalisation, rotation,
attention and the write into the cache; `plain` spells them out in arithmetic that every
TensorRT 10 reads. Norms and rotations of the plain set are the reference's own.

A cache that TensorRT writes in place is given out under the address it came in by (`fused`). In
the plain set there is no such operator, so a pass gives out the rows that it adds and no others,
and whoever runs it puts them behind those of earlier passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .graph_modules import CachedDecoder
from .graphs import OPSET
from .reference_decoder import RMSNorm, TextAttention
from .reference_experts import SparseMLP
from .reference_rotation import rotated
from .reference_vision import VisionAttention
from .tensorrt_choices import OperatorSet as OperatorSet
from .tensorrt_experts import AllExperts

HIDDEN_KEY = -60000.0  # a score beside which no other matters, still a float16


def exchanged(module: nn.Module, operators: OperatorSet) -> nn.Module:
    """The module with attention, experts, and for `FUSED` norms, exchanged at any depth."""
    fused = operators is OperatorSet.FUSED
    for name, child in list(module.named_children()):
        if isinstance(child, VisionAttention):
            setattr(module, name, _TowerAttention(child, fused=fused))
        elif isinstance(child, TextAttention):
            setattr(module, name, _CachedAttention(child, fused=fused))
        elif isinstance(child, SparseMLP):
            setattr(module, name, AllExperts(child))
        elif isinstance(child, RMSNorm) and fused:
            setattr(module, name, _FusedNorm(child))
        else:
            exchanged(child, operators)
    return module


class _FusedNorm(nn.Module):
    """`RMSNorm` as one operator, which computes in float32 as the reference does."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, *, fused: bool) -> Tensor:
    """(B, heads, N, d) turned by angles (B, N, d/2) float32; in float32, as the reference."""
    if not fused:
        return rotated(x, cos[:, None], sin[:, None])
    return torch.onnx.ops.rotary_embedding(x.float(), cos, sin).to(x.dtype)


def _attended(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, *, fused: bool) -> Tensor:
    """Attention of (B, heads, T, d) over (B, kv_heads, S, d).

    `hidden` (B, 1, T, S) is added to scores: 0 where a row may look.
    """
    B, heads, T, width = q.shape
    if fused:
        inputs = (q, k, v) if hidden is None else (q, k, v, hidden)
        return torch.onnx.ops.symbolic(
            "Attention",
            inputs,
            {"scale": width**-0.5},
            dtype=q.dtype,
            shape=q.shape,
            version=OPSET,
        )
    # The queries that share a key stand together, so that no key is copied.
    kv_heads, S = k.shape[1], k.shape[2]
    q = (q * width**-0.5).reshape(B, kv_heads, heads // kv_heads * T, width)
    scores = torch.matmul(q, k.transpose(2, 3))
    if hidden is not None:
        scores = (scores.view(B, heads, T, S) + hidden).view(B, kv_heads, -1, S)
    return torch.matmul(scores.softmax(dim=-1), v).view(B, heads, T, width)


class _TowerAttention(nn.Module):
    """`VisionAttention`."""

    def __init__(self, attention: VisionAttention, *, fused: bool) -> None:
        super().__init__()
        self.qkv, self.proj, self.fused = attention.qkv, attention.proj, fused
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, N, h = x.shape
        q, k, v = (
            part.view(B, N, self.num_heads, self.head_dim).transpose(1, 2)
            for part in self.qkv(x).split(h, dim=-1)
        )
        cos, sin = cos.expand(B, -1, -1), sin.expand(B, -1, -1)
        q = _rotated(q, cos, sin, fused=self.fused)
        k = _rotated(k, cos, sin, fused=self.fused)
        rows = _attended(q, k, v, None, fused=self.fused)
        out: Tensor = self.proj(rows.transpose(1, 2).reshape(B, N, h))
        return out


class _Cache:
    """Stands in for `KVCache`: buffers of fixed size, of which `cached_tokens` rows count."""

    def __init__(
        self,
        past: Sequence[Tensor],
        cached_tokens: Tensor,
        new_tokens: int,
        *,
        fused: bool,
    ) -> None:
        self.past, self.present, self.fused = past, list[Tensor](), fused
        self.cached_tokens = cached_tokens.to(torch.int64)
        self.length = 0  # the decoder moves it, and asks for a mask where it is not 0
        new, rows = torch.arange(new_tokens), torch.arange(past[0].shape[2])
        if fused:
            # Row t of this pass sees the cache, and this pass up to itself.
            last = self.cached_tokens[:, None] + new[None]
            may_look = (rows[None, None] <= last[:, :, None])[:, None]
        else:
            cached = (rows[None] < self.cached_tokens[:, None])[:, None, None]
            causal = (new[None] <= new[:, None])[None, None]
            B, S = cached.shape[0], rows.shape[0]
            both = (cached.expand(B, 1, new_tokens, S), causal.expand(B, 1, -1, -1))
            may_look = torch.cat(both, dim=3)
        # Not as booleans: TensorRT-RTX 1.7 fails to compile those for a window of fixed width.
        self.hidden = torch.where(may_look, 0.0, HIDDEN_KEY).to(past[0].dtype)

    def extended(self, index: int, new: Tensor) -> Tensor:
        """Earlier rows and new ones (B, kv_heads, T, d), to be looked at by this pass."""
        past = self.past[index]
        if not self.fused:
            self.present.append(new)
            return torch.cat((past, new), dim=2)
        present = torch.onnx.ops.symbolic(
            "TensorScatter",
            (past, new, self.cached_tokens),
            {"axis": -2, "mode": "linear"},
            dtype=past.dtype,
            shape=past.shape,
            version=OPSET,  # is of 24; the graph gets its opset when it is traced whole
        )
        self.present.append(present)
        return present


class _CachedAttention(nn.Module):
    """`TextAttention` over a `_Cache`."""

    def __init__(self, attention: TextAttention, *, fused: bool) -> None:
        super().__init__()
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.o_proj = attention.v_proj, attention.o_proj
        self.q_norm: nn.Module = _FusedNorm(attention.q_norm) if fused else attention.q_norm
        self.k_norm: nn.Module = _FusedNorm(attention.k_norm) if fused else attention.k_norm
        self.layer, self.width, self.fused = attention.layer, attention.head_dim, fused

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: _Cache
    ) -> Tensor:
        B, T, _ = x.shape
        q = self._heads(self.q_norm(self._split(self.q_proj(x))), cos, sin)
        k = self._heads(self.k_norm(self._split(self.k_proj(x))), cos, sin)
        v = self._split(self.v_proj(x)).transpose(1, 2)
        keys = cache.extended(2 * self.layer, k)
        values = cache.extended(2 * self.layer + 1, v)
        rows = _attended(q, keys, values, cache.hidden, fused=self.fused)
        size = self.q_proj.out_features
        out: Tensor = self.o_proj(rows.transpose(1, 2).reshape(B, T, size))
        return out

    def _split(self, x: Tensor) -> Tensor:
        B, T, size = x.shape
        return x.view(B, T, size // self.width, self.width)

    def _heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return _rotated(x.transpose(1, 2), cos, sin, fused=self.fused)


class TensorRTDecoder(CachedDecoder):
    """`TextDecoder` with the graph's inputs and outputs; float32 rows go in."""

    def __init__(
        self,
        decoder: nn.Module,
        operators: OperatorSet,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(decoder)
        self.operators, self.dtype = operators, dtype

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
        fused = self.operators is OperatorSet.FUSED
        cache: Any = _Cache(past, cached_tokens, token_embeds.shape[1], fused=fused)
        hidden = self.decoder(
            token_embeds.to(self.dtype),
            rope_cos,
            rope_sin,
            visual_rows,
            visual_embeds,
            deepstack_embeds,
            cache=cache,
        )
        return hidden[:, output_rows].float(), *cache.present


class TensorRTTower(nn.Module):
    """`VisionTower` that gives float32 rows whatever it computes in."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.decoder = tower  # under the name that the tracer takes away from weights

    def forward(
        self,
        pixel_values: Tensor,
        position_indices: Tensor,
        position_weights: Tensor,
        rotary_cos: Tensor,
        rotary_sin: Tensor,
    ) -> tuple[Tensor, Tensor]:
        image_embeds, deepstack_embeds = self.decoder(
            pixel_values, position_indices, position_weights, rotary_cos, rotary_sin
        )
        return image_embeds.float(), deepstack_embeds.float()
