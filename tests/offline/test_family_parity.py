# SPDX-License-Identifier: Apache-2.0
"""Every released shape, shrunk in size and not in structure, is transformers' number for number.

`make parity` measures the same and writes docs/parity.md. Preprocessing and the tiny checkpoint
are held against transformers in `test_transformers_parity.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qwen3vl_ros.offline.checkpoint import write_checkpoint
from qwen3vl_ros.offline.family import RELEASED, shrunk
from qwen3vl_ros.offline.parity import (
    INPUTS,
    NEW_TOKENS,
    Pair,
    agreement,
    conversation,
    half_precision,
    load_pair,
    our_outcome,
    random_reference,
)
from qwen3vl_ros.offline.reference_experts import SparseMLP
from qwen3vl_ros.offline.reference_generation import generate_greedy
from qwen3vl_ros.offline.reference_model import ReferenceModel

TOLERANCE = 1e-4  # float32; logits absolute, hidden states relative
SPREAD = 1.0  # least standard deviation of logits: flat ones would agree whatever a model did
# bfloat16 has 8 bits. Through these few layers it moves logits by some per cent of their size, in
# transformers as here: the two may be as far apart as rounding alone takes either from float32.
HALF_PRECISION_BOUND = 0.05
HALF_PRECISION_RATIO = 1.5

# One shape of each kind by default: small tower and tied head, large tower, experts.
SHAPES = [
    pytest.param(shape, marks=[] if shape in ("2B", "8B", "30B-A3B") else pytest.mark.slow)
    for shape in RELEASED
]


@pytest.fixture(scope="module", params=SHAPES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    model = random_reference(shrunk(RELEASED[request.param]), seed=0)
    write_checkpoint(model, directory, torch.float32)
    return directory


@pytest.fixture(scope="module")
def pair(checkpoint: Path) -> Pair:
    return load_pair(checkpoint)


@pytest.mark.parametrize("kind", INPUTS)
def test_logits_hidden_states_and_greedy_tokens_are_those_of_transformers(
    pair: Pair, kind: str
) -> None:
    found = agreement(pair, kind)
    assert found.logit_std > SPREAD
    assert found.max_abs < TOLERANCE
    assert found.max_rel < TOLERANCE
    assert found.equal_tokens == NEW_TOKENS


def test_in_bfloat16_the_two_are_as_close_as_rounding_allows(pair: Pair, checkpoint: Path) -> None:
    found = half_precision(pair, load_pair(checkpoint, torch.bfloat16), "three images")
    assert found.apart < HALF_PRECISION_BOUND
    assert found.ours < HALF_PRECISION_RATIO * found.theirs


@pytest.fixture(scope="module")
def sparse() -> ReferenceModel:
    """The smaller of the shapes with experts, for tests that break something on purpose."""
    return random_reference(shrunk(RELEASED["30B-A3B"]), seed=0)


def gate_taken_for_up(layer: SparseMLP) -> None:
    weight = layer.experts.gate_up_proj
    weight.copy_(torch.cat(weight.chunk(2, dim=-1)[::-1], dim=-1))


def shares_not_scaled(layer: SparseMLP) -> None:
    layer.gate.renormalise = False


def an_expert_less(layer: SparseMLP) -> None:
    layer.gate.top_k -= 1


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(gate_taken_for_up, id="gate taken for up"),
        pytest.param(shares_not_scaled, id="shares not scaled to 1"),
        pytest.param(an_expert_less, id="seven experts of eight"),
    ],
)
def test_parity_would_notice_a_mistake_with_experts(
    sparse: ReferenceModel, mistake: Callable[[SparseMLP], None]
) -> None:
    broken = copy.deepcopy(sparse)
    with torch.no_grad():
        mistake(broken.language_model.layers[2].mlp)
    talk, _ = conversation(sparse, "one image", seed=0)
    difference = our_outcome(broken, talk).logits - our_outcome(sparse, talk).logits
    assert difference.abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("kind", INPUTS)
def test_answers_wander_so_that_equal_tokens_mean_something(
    sparse: ReferenceModel, kind: str
) -> None:
    talk, cache = conversation(sparse, kind, seed=0)
    tokens = generate_greedy(
        sparse,
        talk.input_ids,
        talk.pixel_values,
        talk.grid_thw,
        max_new_tokens=NEW_TOKENS,
        cache=cache,
    )
    assert len(set(tokens)) > NEW_TOKENS / 8
