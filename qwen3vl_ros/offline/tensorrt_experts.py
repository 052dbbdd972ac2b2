# SPDX-License-Identifier: Apache-2.0
"""Experts in standard operators: all of them computed, those not chosen counted as nothing.

Knows one sparse layer and the operators that every TensorRT 10 reads. Standard ONNX can gather the
chosen experts' matrices for each token, which for the rows of a prompt, or of a decode window,
copies more than there are; so each expert sees each token, in two products over all of them, and
its share decides what counts. Exact, and dear: a pass reads every expert, E / k times what is
chosen (16 times for 128 experts and 8). The other flavour has an operator that does not.

Axes: N tokens of all sequences together, E experts, k of a token, D hidden size, I width of one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reference_experts import SparseMLP, TopKRouter
from .stored_weights import Float32, StoredWeights

ROUTER = ".mlp.gate.weight"  # stays float32: it is small, and a wrong choice is not a small error


class _WholeRouter(nn.Module):
    """A router's weight in float32, whatever the others are in; its numbers come later."""

    def __init__(self, router: TopKRouter) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty_like(router.weight, dtype=torch.float32))


class AllExperts(nn.Module):
    """`SparseMLP`, weights shared but the router's."""

    def __init__(self, mlp: SparseMLP) -> None:
        super().__init__()
        self.gate, self.experts = _WholeRouter(mlp.gate), mlp.experts
        self.top_k, self.renormalise = mlp.gate.top_k, mlp.gate.renormalise

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        tokens = x.reshape(B * T, D)
        E, width, _ = self.experts.down_proj.shape
        gate, up = torch.matmul(tokens[None], self.experts.gate_up_proj).split(width, dim=-1)
        shares = self._shares(x.float()).to(x.dtype)
        rows = F.silu(gate) * up * shares.transpose(0, 1)[:, :, None]  # (E, N, I)
        # One product over the widths of all experts sums what they say.
        said = torch.matmul(
            rows.transpose(0, 1).reshape(B * T, E * width),
            self.experts.down_proj.reshape(E * width, D),
        )
        return said.view(B, T, D)

    def _shares(self, x: Tensor) -> Tensor:
        """(B, T, D) float32 to (N, E): shares of the k chosen experts, 0 for the others."""
        # Of three axes, else the product is traced as a Gemm.
        shares = F.linear(x, self.gate.weight).softmax(dim=-1).flatten(0, 1)
        mine, other = shares[:, :, None], shares[:, None, :]
        places = torch.arange(shares.shape[1])
        # Of two alike the first is taken, as top-k takes it.
        is_earlier = places[None] < places[:, None]
        # In floats: ONNX Runtime has no Where of booleans.
        ahead = torch.where(is_earlier, (other >= mine).float(), (other > mine).float())
        rank = ahead.sum(dim=-1)
        shares = torch.where(rank < self.top_k, shares, 0.0)
        if self.renormalise:
            shares = shares / shares.sum(dim=-1, keepdim=True)
        return shares


def expert_pieces(weights: StoredWeights, name: str, in_features: int) -> Iterator[Float32]:
    """(1, in, out) of each expert, whichever way round the checkpoint has them."""
    for rows in weights.expert_rows(name, in_features=in_features):
        yield rows.T[None]
