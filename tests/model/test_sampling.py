# SPDX-License-Identifier: Apache-2.0
"""Logits become a token."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.sampling import greedy_token


@pytest.mark.parametrize(
    ("logits", "token", "probability"),
    [
        pytest.param([0.0, 0.0, 0.0, 0.0], 0, 0.25, id="a-tie-goes-to-the-first"),
        pytest.param([1.0, 1.0 + np.log(3.0)], 1, 0.75, id="three-to-one"),
        pytest.param([-1e4, 0.0], 1, 1.0, id="certain"),
        pytest.param([3e38, -3e38], 0, 1.0, id="no-overflow"),
        pytest.param([-np.inf, 2.0], 1, 1.0, id="a-token-ruled-out"),
    ],
)
def test_the_likeliest_token_wins_with_its_probability(logits, token, probability):
    got, logprob = greedy_token(np.array(logits, np.float32))
    assert got == token
    assert np.exp(logprob) == pytest.approx(probability, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "inf"])
def test_logits_that_are_not_numbers_are_an_engines_fault_and_no_answer(bad):
    with pytest.raises(EngineError, match="export it again"):
        greedy_token(np.array([0.0, bad, 1.0], np.float32))
