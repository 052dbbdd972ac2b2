# SPDX-License-Identifier: Apache-2.0
"""The optimiser: ours against torch's, and what it takes for a matrix."""

from __future__ import annotations

import pytest
import torch

from qwen3vl_ros.offline.optimizer import MatricesAndRest, Muon, is_block_matrix, orthogonalized


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 5, 11), (2, 11, 5)])
def test_singular_values_come_out_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrices))
    assert values.max() < 1.3
    # A value that was almost nothing is on its way up still.
    assert values.median() > 0.6


def test_a_step_is_that_of_torch_up_to_its_bfloat16():
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(12, 20, generator=generator)
    ours, theirs = torch.nn.Parameter(first.clone()), torch.nn.Parameter(first.clone())
    muon = Muon([ours], lr=0.1)
    reference = torch.optim.Muon(
        [theirs], lr=0.1, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        gradient = torch.randn(12, 20, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()
    moved = (theirs - first).detach()
    torch.testing.assert_close(
        (ours - first).detach(), moved, atol=0.03 * moved.abs().max().item(), rtol=0
    )


def test_tables_and_heads_are_not_matrices_and_a_state_goes_on():
    def parameters():
        torch.manual_seed(2)
        return [
            ("visual.blocks.0.mlp.weight", torch.nn.Parameter(torch.randn(4, 6))),
            ("visual.pos_embed.weight", torch.nn.Parameter(torch.randn(4, 6))),
            ("visual.blocks.0.norm.weight", torch.nn.Parameter(torch.randn(6))),
        ]

    first = parameters()
    assert [is_block_matrix(name, p) for name, p in first] == [True, False, False]
    whole, halves = MatricesAndRest(first), MatricesAndRest(second := parameters())
    gradients = [[torch.randn_like(p) for _, p in first] for _ in range(2)]

    def step(optimizer, named, some):
        for (_, parameter), gradient in zip(named, some, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step(matrix_rate=0.1, rate=0.1)

    step(whole, first, gradients[0])
    step(halves, second, gradients[0])
    state = halves.state_dict()
    halves = MatricesAndRest(second)
    halves.load_state_dict(state)
    step(whole, first, gradients[1])
    step(halves, second, gradients[1])
    for (_, a), (_, b) in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)
