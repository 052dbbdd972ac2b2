# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL in torch, in one sitting: the model that is trained, exported and compared against.

Knows no files, no tokenizer and no position rules: what depends on a grid or on the order of a
prompt (table taps, rotary angles) comes in as tensors, computed by `image/positions.py`;
`reference_generation.py` brings the two together. The forward passes of `VisionTower` and
`TextDecoder` are the graph contracts of the exporter.

Modules are named so that `ReferenceModel.state_dict()` has exactly the tensor names and shapes
of a Hugging Face checkpoint. Dense layers only. Normalisation and rotation run in float32.

Axes: B images or sequences, N patches, T tokens, S cache length, V visual tokens, D hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, ContextError
from ..model_config import ModelConfig, TextConfig, VisionConfig

LAYER_NORM_EPS = 1e-6  # the tower's; not a field of config.json


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` (..., d) turned by angles (..., d/2); dimension j pairs with j + d/2."""
    x1, x2 = x.float().chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).to(x.dtype)


class PatchProjection(nn.Module):
    """One patch to one row: a convolution over a single cell, so a matrix product."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        p, t = config.patch_size, config.temporal_patch_size
        # The released shape, so that the tensor can be read from a checkpoint as it is.
        self.weight = nn.Parameter(torch.empty(config.hidden_size, config.in_channels, t, p, p))
        self.bias = nn.Parameter(torch.empty(config.hidden_size))

    def forward(self, patches: Tensor) -> Tensor:
        return F.linear(patches.to(self.weight.dtype), self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = PatchProjection(config)

    def forward(self, patches: Tensor) -> Tensor:
        rows: Tensor = self.proj(patches)
        return rows


class VisionAttention(nn.Module):
    """Full attention within each image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, N, _ = x.shape
        qkv = self.qkv(x).view(B, N, 3, self.num_heads, self.head_dim)
        # Laid out anew at once: joining rotated halves of a strided view is several times slower.
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # each (B, heads, N, head_dim)
        x = F.scaled_dot_product_attention(rotated(q, cos, sin), rotated(k, cos, sin), v)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(B, N, -1))
        return out


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear_fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear_fc2(F.gelu(self.linear_fc1(x), approximate="tanh"))
        return out


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.attn = VisionAttention(config)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchMerger(nn.Module):
    """Four neighbouring patches, consecutive rows, to one row of the language model.

    The last merger normalises patches, the deepstack mergers normalise groups. Unlike the blocks,
    mergers use the exact GELU.
    """

    def __init__(self, config: VisionConfig, *, norm_groups: bool) -> None:
        super().__init__()
        self.group_size = config.hidden_size * config.spatial_merge_size**2
        self.norm_groups = norm_groups
        norm_size = self.group_size if norm_groups else config.hidden_size
        self.norm = nn.LayerNorm(norm_size, eps=LAYER_NORM_EPS)
        self.linear_fc1 = nn.Linear(self.group_size, self.group_size)
        self.linear_fc2 = nn.Linear(self.group_size, config.out_hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, h) to (B, N/4, D)."""
        grouped = (x.shape[0], -1, self.group_size)
        x = self.norm(x.reshape(grouped)) if self.norm_groups else self.norm(x).reshape(grouped)
        out: Tensor = self.linear_fc2(F.gelu(self.linear_fc1(x)))
        return out


class VisionTower(nn.Module):
    """Patches of B images of one grid to the rows the decoder sees."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.pos_embed = nn.Embedding(config.num_position_embeddings, config.hidden_size)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.merger = PatchMerger(config, norm_groups=False)
        self.deepstack_merger_list = nn.ModuleList(
            PatchMerger(config, norm_groups=True) for _ in config.deepstack_visual_indexes
        )

    def forward(
        self,
        pixel_values: Tensor,
        position_indices: Tensor,
        position_weights: Tensor,
        rotary_cos: Tensor,
        rotary_sin: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            pixel_values: (B, N, 1536), rows in 2x2-block order.
            position_indices: (4, N) int64, rows of the position table around each patch.
            position_weights: (4, N) float32, bilinear weights of those rows.
            rotary_cos: (N, head_dim/2) float32.
            rotary_sin: (N, head_dim/2) float32.

        Returns:
            image_embeds (B, N/4, D) and deepstack_embeds (taps, B, N/4, D).
        """
        x = self.patch_embed(pixel_values)
        taps = F.embedding(position_indices, self.pos_embed.weight)  # (4, N, h)
        x = x + (taps * position_weights.to(taps.dtype)[..., None]).sum(dim=0)
        deepstack, taps_after = [], self.config.deepstack_visual_indexes
        for index, block in enumerate(self.blocks):
            x = block(x, rotary_cos, rotary_sin)
            if index in taps_after:
                deepstack.append(self.deepstack_merger_list[taps_after.index(index)](x))
        return self.merger(x), torch.stack(deepstack)


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
        self.mlp = TextMLP(config)

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
        if config.num_experts:
            raise ConfigError(
                f"the checkpoint has {config.num_experts} experts a layer; the reference model "
                "has dense layers only, use a dense Qwen3-VL checkpoint (2B, 4B, 8B, 32B)"
            )
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


class TowerAndDecoder(nn.Module):
    """The `model.` level of the checkpoint's tensor names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual = VisionTower(config.vision)
        self.language_model = TextDecoder(config.text)


class ReferenceModel(nn.Module):
    """Qwen3-VL. Weights are uninitialised until loaded or `init_weights` is called."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = TowerAndDecoder(config)
        text = config.text
        if not text.tie_word_embeddings:
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

    @property
    def visual(self) -> VisionTower:
        return self.model.visual

    @property
    def language_model(self) -> TextDecoder:
        return self.model.language_model

    @property
    def head_weight(self) -> Tensor:
        """(vocab_size, D): the embedding table itself when the head is tied."""
        if self.config.text.tie_word_embeddings:
            return self.language_model.embed_tokens.weight
        return self.lm_head.weight

    def logits(self, hidden_states: Tensor) -> Tensor:
        """(..., D) to (..., vocab_size)."""
        return F.linear(hidden_states, self.head_weight)


def init_weights(model: ReferenceModel, *, seed: int, std: float = 0.02) -> None:
    """Fill every weight in place: matrices and tables normal, norms one, biases zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif "norm" in name.rsplit(".", 2)[-2]:
                weight.fill_(1.0)
            else:
                weight.normal_(0.0, std, generator=generator)
