# SPDX-License-Identifier: Apache-2.0
"""How sure the model was of each object: a score from its own coordinates' tokens.

Knows token places and log-probabilities, not what the tokens say. Qwen3-VL prints no confidence
and its own evaluations give every box 1.0; this is the geometric mean of the probabilities of the
tokens that spell the object's numbers (each digit is one): exp of the mean log-probability. It
does not depend on how many digits there are, and not on brackets and labels, which are nearly
certain. It ranks objects; it is not a calibrated probability of being right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .reading import Span

LOWEST_SCORE = 1e-6  # a score is never 0: 0 would say "certainly nothing"


def object_scores(
    number_spans: Sequence[Sequence[Span]],
    token_spans: Sequence[Span],
    logprobs: npt.NDArray[np.floating],
) -> tuple[float, ...]:
    """A score in (0, 1] for each object of an answer.

    Args:
        number_spans: for each object, where its numbers stand in the text that the tokens spell,
            (start, stop) characters.
        token_spans: (start, stop) characters of each generated token in that text, as
            `Tokenizer.decode_with_spans` gives them.
        logprobs: (T,) natural log-probability of each token.
    """
    assert len(token_spans) == len(logprobs), "one span and one log-probability for each token"
    values = np.asarray(logprobs, np.float64)
    assert not np.isnan(values).any(), "the decoder refuses logits that are no numbers"
    starts, stops = np.array(token_spans, np.int64).reshape(-1, 2).T
    return tuple(_score(values[_tokens_of_spans(starts, stops, spans)]) for spans in number_spans)


def _tokens_of_spans(
    starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64], spans: Sequence[Span]
) -> npt.NDArray[np.bool_]:
    """(T,) which tokens hold a character of any of the spans."""
    chosen = np.zeros(len(starts), np.bool_)
    for start, stop in spans:
        chosen |= (starts < stop) & (stops > start)
    return chosen


def _score(logprobs: npt.NDArray[np.float64]) -> float:
    assert len(logprobs), "the answer was parsed from another text than the tokens spell"
    return float(np.clip(np.exp(logprobs.mean()), LOWEST_SCORE, 1.0))
