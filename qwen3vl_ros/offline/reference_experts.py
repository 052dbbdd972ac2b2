# SPDX-License-Identifier: Apache-2.0
"""Mixture-of-experts layers in torch: a router picks a few small MLPs for each token.

Knows one layer, not which layers of a decoder are of this kind (`TextConfig.is_sparse`).

Expert tensors lie as released checkpoints have them, input-major: `gate_up_proj` (E, D, 2I) with
the gate in the first half of its last axis and the up projection in the second, `down_proj`
(E, I, D). transformers holds them transposed and turns them when it loads.

Axes: N tokens of all sequences together, E experts, k experts of a token, D hidden size, I width
of an expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model_config import TextConfig


class TopKRouter(nn.Module):
    """Which experts see a token, and how much each one counts."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.top_k, self.renormalise = config.num_experts_per_tok, config.norm_topk_prob

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) to shares (N, k), largest first, and experts (N, k) int64.

        The shares come of a softmax over all experts, in float32 whatever the weights are;
        renormalised, those of the chosen ones sum to 1.
        """
        logits = F.linear(x, self.weight)
        shares, experts = logits.softmax(dim=-1, dtype=torch.float32).topk(self.top_k, dim=-1)
        if self.renormalise:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        return shares.to(logits.dtype), experts


class Experts(nn.Module):
    """All experts of a layer; a token costs only those that were chosen for it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        E, D, width = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(E, D, 2 * width))
        self.down_proj = nn.Parameter(torch.empty(E, width, D))

    def forward(self, x: Tensor, shares: Tensor, experts: Tensor) -> Tensor:
        """(N, D), shares (N, k) and experts (N, k) to the weighted sum (N, D)."""
        out = torch.zeros_like(x)
        for expert in experts.unique().tolist():
            token, place = (experts == expert).nonzero(as_tuple=True)
            gate, up = (x[token] @ self.gate_up_proj[expert]).chunk(2, dim=-1)
            rows = (F.silu(gate) * up) @ self.down_proj[expert]
            out = out.index_add(0, token, rows * shares[token, place, None])
        return out


class SparseMLP(nn.Module):
    """Takes the place of `TextMLP` in a sparse layer. No expert is shared by all tokens."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate = TopKRouter(config)
        self.experts = Experts(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        tokens = x.flatten(0, 1)
        out: Tensor = self.experts(tokens, *self.gate(tokens))
        return out.view(x.shape)
