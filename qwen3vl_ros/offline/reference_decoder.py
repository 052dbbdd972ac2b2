# SPDX-License-Identifier: Apache-2.0
"""The text decoder in torch: tokens and visual rows to hidden states, over a cache if wanted.

Knows no order of a prompt: rotary angles come in as tensors. The forward pass of `TextDecoder` is
the contract of the `decoder` graph. Normalisation and rotation run in float32.

Axes: B sequences, T tokens, S cache length, V visual tokens, D hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ContextError
from ..model_config import TextConfig
from .reference_experts import SparseMLP
from .reference_rotation import rotated


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(dim=-1, keepdim=True) + self.eps)
        # Rounded before the product with the weight, as upstream does in half precision.
        return (self.weight * x32.to(x.dtype)).to(x.dtype)


class KVCache:
    """Keys and values of every layer; mutable, owned by the one generation that made it.

    Attributes:
        keys, values: (layers, B, kv_heads, capacity, head_dim).
        length: tokens of earlier passes; a pass moves it once, after its last layer.
    """

    def __init__(self, text: TextConfig, *, batch: int, capacity: int, like: Tensor) -> None:
        heads, layers = text.num_key_value_heads, text.num_hidden_layers
        self.keys = like.new_zeros(layers, batch, heads, capacity, text.head_dim)
        self.values = torch.zeros_like(self.keys)
        self.capacity, self.length = capacity, 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store this pass's keys and values; return all of that layer's so far."""
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ContextError(
                f"{end} tokens do not fit a cache of {self.capacity}; ask for fewer new tokens "
                "or a larger cache"
            )
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class TextAttention(nn.Module):
    """Grouped-query attention; each head's queries and keys are normalised before rotation."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.queries_per_kv = config.num_attention_heads // config.num_key_value_heads
        q_size = config.num_attention_heads * config.head_dim  # may differ from hidden_size
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, q_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        B, T, _ = x.shape
        heads = (B, T, -1, self.head_dim)
        cos, sin = cos[:, None], sin[:, None]
        q = rotated(self.q_norm(self.q_proj(x).view(heads)).transpose(1, 2), cos, sin)
        k = rotated(self.k_norm(self.k_proj(x).view(heads)).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(heads).transpose(1, 2)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        k = k.repeat_interleave(self.queries_per_kv, dim=1)
        v = v.repeat_interleave(self.queries_per_kv, dim=1)
        causal = mask is None and T > 1
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self.o_proj(x.transpose(1, 2).reshape(B, T, -1))
        return out


class TextMLP(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = TextAttention(config, layer)
        self.mlp = SparseMLP(config) if config.is_sparse(layer) else TextMLP(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """`mask` (B or 1, 1, T, S) bool, True where a token may look; None is causal."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class TextDecoder(nn.Module):
    """Tokens and visual rows in, hidden states after the final norm out."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        token_embeds: Tensor,
        rope_cos: Tensor,
        rope_sin: Tensor,
        visual_rows: Tensor | None = None,
        visual_embeds: Tensor | None = None,
        deepstack_embeds: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        attention_mask: Tensor | None = None,
        layer_outputs: list[Tensor] | None = None,
    ) -> Tensor:
        """Prefill, decode or train.

        Args:
            token_embeds: (B, T, D), rows of `embed_tokens`; those of visual tokens are ignored.
            rope_cos: (B, T, head_dim/2) float32.
            rope_sin: (B, T, head_dim/2) float32.
            visual_rows: (B, T) int64, row of `visual_embeds` for a visual token, -1 for text;
                None when the pass has no visual token.
            visual_embeds: (V, D), shared by the batch; needs V >= 1.
            deepstack_embeds: (taps, V, D).
            cache: keys and values of earlier passes; this pass is appended.
            attention_mask: (B or 1, 1, T, S) bool, True where a token may look; None is causal
                by sequence index, between visual tokens too.
            layer_outputs: given a list, the hidden states after each layer (deepstack added,
                before the final norm) are appended to it.

        Returns:
            (B, T, D) hidden states after the final norm.
        """
        x, T = token_embeds, token_embeds.shape[1]
        if cache is not None and cache.length > 0 and T > 1 and attention_mask is None:
            # Row t of this pass sees the cache and the pass up to itself.
            S = cache.length + T
            steps = torch.arange(S, device=x.device)
            attention_mask = (steps[None] <= steps[-T:, None])[None, None]
        added: list[Tensor] = []  # by deepstack, after layer 0, 1, ...
        if visual_rows is not None:
            assert visual_embeds is not None
            assert deepstack_embeds is not None
            is_visual, rows = (visual_rows >= 0)[..., None], visual_rows.clamp(min=0)
            x = torch.where(is_visual, visual_embeds[rows].to(x.dtype), x)
            added = [torch.where(is_visual, t[rows].to(x.dtype), 0.0) for t in deepstack_embeds]
        for index, layer in enumerate(self.layers):
            x = layer(x, rope_cos, rope_sin, attention_mask, cache)
            if index < len(added):
                x = x + added[index]
            if layer_outputs is not None:
                layer_outputs.append(x)
        if cache is not None:
            cache.length += T
        out: Tensor = self.norm(x)
        return out
