# SPDX-License-Identifier: Apache-2.0
"""The router's shares by hand, and a layer of experts against every expert asked in turn.

That the numbers are Qwen3-VL's is shown in `test_family_parity.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qwen3vl_ros.model_config import ModelConfig, TextConfig
from qwen3vl_ros.offline.reference_experts import SparseMLP, TopKRouter
from qwen3vl_ros.offline.reference_generation import prompt_hidden_states
from qwen3vl_ros.offline.reference_model import ReferenceModel


def router_of(text: TextConfig, shares: list[float], *, renormalise: bool) -> TopKRouter:
    """A router that gives every token of ones these shares of a softmax."""
    text = dataclasses.replace(
        text, num_experts=len(shares), num_experts_per_tok=2, norm_topk_prob=renormalise
    )
    router = TopKRouter(text)
    with torch.no_grad():
        router.weight.copy_(torch.tensor(shares).log()[:, None] / text.hidden_size)
    return router


@pytest.mark.parametrize(
    ("renormalise", "expected"),
    [
        pytest.param(True, [0.75, 0.25], id="scaled to sum to 1"),
        pytest.param(False, [0.6, 0.2], id="as the softmax has them"),
    ],
)
def test_the_likeliest_experts_share_a_token(
    small_config: ModelConfig, renormalise: bool, expected: list[float]
) -> None:
    router = router_of(small_config.text, [0.1, 0.6, 0.1, 0.2], renormalise=renormalise)
    shares, experts = router(torch.ones(5, small_config.text.hidden_size))
    assert experts.tolist() == [[1, 3]] * 5
    torch.testing.assert_close(shares, torch.tensor([expected] * 5))


def test_shares_are_weighed_in_float32_even_where_the_model_is_half_as_exact(
    small_config: ModelConfig,
) -> None:
    """Summed in bfloat16, 64 shares of 1/64 and their scaling would each be rounded."""
    router = router_of(small_config.text, [1 / 64] * 64, renormalise=True).to(torch.bfloat16)
    shares, _ = router(torch.ones(1, small_config.text.hidden_size, dtype=torch.bfloat16))
    assert shares.dtype == torch.bfloat16
    assert shares.tolist() == [[0.5, 0.5]]


@pytest.fixture
def layer(small_experts_config: ModelConfig) -> SparseMLP:
    layer = SparseMLP(small_experts_config.text)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_(0, 0.3, generator=generator)
    return layer


def test_a_layer_is_the_sum_of_its_chosen_experts(layer: SparseMLP) -> None:
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens = x.flatten(0, 1)
        shares = layer.gate.weight.new_zeros(14, 8).scatter(
            1, *reversed(layer.gate(tokens))
        )  # (N, E), zero for those not chosen
        gate_up, down = layer.experts.gate_up_proj, layer.experts.down_proj
        gate, up = torch.einsum("nd,edi->eni", tokens, gate_up).chunk(2, dim=-1)
        every_expert = torch.einsum("eni,eid->ned", F.silu(gate) * up, down)
        expected = (every_expert * shares[..., None]).sum(dim=1).view(x.shape)
        torch.testing.assert_close(layer(x), expected)
    assert ((shares > 0).sum(dim=1) == 3).all()


def test_a_token_costs_and_teaches_its_own_experts_only(layer: SparseMLP) -> None:
    x = torch.randn(1, 1, 24, generator=torch.Generator().manual_seed(1))
    chosen = layer.gate(x[0])[1][0].tolist()
    layer(x).sum().backward()
    for weight in layer.experts.parameters():
        assert weight.grad is not None
        assert weight.grad.flatten(1).any(dim=1).nonzero().flatten().tolist() == sorted(chosen)


@pytest.mark.parametrize(
    ("changes", "sparse"),
    [
        pytest.param({}, [0, 1, 2, 3], id="all"),
        pytest.param({"mlp_only_layers": (0, 2)}, [1, 3], id="but those named"),
        pytest.param({"decoder_sparse_step": 2}, [1, 3], id="every second"),
        pytest.param({"decoder_sparse_step": 2, "mlp_only_layers": (3,)}, [1], id="both"),
        pytest.param({"num_experts": 0}, [], id="none"),
    ],
)
def test_the_config_says_which_layers_are_sparse(
    small_experts_config: ModelConfig, changes: dict[str, object], sparse: list[int]
) -> None:
    text = dataclasses.replace(small_experts_config.text, **{"mlp_only_layers": ()} | changes)
    model = ReferenceModel(dataclasses.replace(small_experts_config, text=text))
    layers = model.language_model.layers
    assert [i for i, layer in enumerate(layers) if isinstance(layer.mlp, SparseMLP)] == sparse


def test_every_weight_of_a_sparse_model_learns(
    small_experts_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> None:
    model = random_model(small_experts_config)
    ids = np.random.default_rng(0).integers(0, 60, 40)
    hidden = prompt_hidden_states(model, ids)
    F.cross_entropy(model.logits(hidden[0, :-1]), torch.from_numpy(ids[1:])).backward()
    decoder = model.language_model
    idle = [n for n, w in decoder.named_parameters() if w.grad is None or not w.grad.any()]
    assert idle == []
