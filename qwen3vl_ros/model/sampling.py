# SPDX-License-Identifier: Apache-2.0
"""Logits become a token.

Knows no grammar yet and no randomness: a robot that asks twice gets the same answer.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import EngineError


def greedy_token(logits: npt.NDArray[np.float32]) -> tuple[int, float]:
    """The likeliest token and its natural log-probability.

    Args:
        logits: (vocab_size,) float32.

    >>> token, logprob = greedy_token(np.log(np.array([0.25, 0.5, 0.25], np.float32)))
    >>> token, round(float(np.exp(logprob)), 3)
    (1, 0.5)

    Raises:
        EngineError: the logits are not numbers.
    """
    token = int(logits.argmax())
    highest = float(logits[token])  # NaN if any logit is
    if not np.isfinite(highest):
        raise EngineError(
            f"the largest logit is {highest}, expected a finite number; the engine overflows or "
            "its weights are damaged: export it again in float32"
        )
    return token, -float(np.log(np.exp(logits.astype(np.float64) - highest).sum()))
