# SPDX-License-Identifier: Apache-2.0
"""The vision tower in torch: patches of pictures to the rows the decoder sees.

Knows no grid: table taps and rotary angles come in as tensors. The forward pass of `VisionTower`
is the contract of the `vision` graph.

Axes: B images or frames of one grid, N patches, h tower width, D hidden size of the decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model_config import VisionConfig
from .reference_rotation import rotated

LAYER_NORM_EPS = 1e-6  # the tower's; not a field of config.json


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
