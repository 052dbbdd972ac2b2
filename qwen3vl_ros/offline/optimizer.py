# SPDX-License-Identifier: Apache-2.0
"""The optimiser of the tiny checkpoint: Muon for the matrices of the blocks, AdamW for the rest.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) steps by the momentum with all
its singular values set to about one. The tower learned as much in 100 such steps as in 250 of
AdamW (docs/LOG.md). `torch.optim.Muon` computes in bfloat16, which a CPU without bfloat16 units
runs at a quarter of the speed of float32; this one stays in float32 and takes equal shapes
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

MOMENTUM = 0.95
DECAY = 0.02
# Coefficients of the quintic iteration, from the post named above.
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Orthogonalised momentum, for 2D parameters.

    The step of an (r, c) matrix is scaled by 0.2 sqrt(max(r, c)), so that its elements move about
    as far as AdamW's would at the same rate (Liu et al. 2025, arXiv 2502.16982).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                ahead = torch.stack([self._momentum(parameter) for parameter in parameters])
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))
                for parameter, update in zip(parameters, orthogonalized(ahead), strict=True):
                    parameter.mul_(1 - group["lr"] * DECAY).sub_(update, alpha=rate)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov: the gradient mixed into the momentum that already holds it."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(state["momentum"], MOMENTUM)


class MatricesAndRest:
    """Two optimisers that step, rest and are saved as one."""

    def __init__(self, module_parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in module_parameters:
            (matrices if is_block_matrix(name, parameter) else rest).append(parameter)
        # Rates are set before every step. Heads alone have no matrices of blocks.
        self.parts: dict[str, Optimizer] = {}
        if matrices:
            self.parts["muon"] = Muon(matrices, lr=0.0)
        if rest:
            self.parts["adamw"] = AdamW(rest, lr=0.0, betas=(0.9, 0.98), weight_decay=DECAY)

    def step(self, *, matrix_rate: float, rate: float) -> None:
        """Move the matrices of the blocks and the rest by a rate each; forget the gradients."""
        for name, optimizer in self.parts.items():
            for group in optimizer.param_groups:
                group["lr"] = matrix_rate if name == "muon" else rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, object]:
        return {name: optimizer.state_dict() for name, optimizer in self.parts.items()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        for name, optimizer in self.parts.items():
            optimizer.load_state_dict(state[name])


def is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix inside a transformer block; tables, heads, mergers and the
    patch embedding are not."""
    return parameter.ndim == 2 and (".blocks." in name or ".layers." in name)


def orthogonalized(matrices: Tensor) -> Tensor:
    """(n, r, c) float32 with every singular value moved to about one (0.7 to 1.2)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = x.transpose(1, 2) if tall else x
    return out
