# SPDX-License-Identifier: Apache-2.0
"""Qwen's own tokenizer, all 151,643 pieces of it, rebuilt from its published ranks.

Workshop only: needs PyPI `dashscope` for the ranks. Ranks name the pieces; a tokenizer file also
names the two halves that each was joined from, which are found by joining with lower ranks only.
"""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Tokenizer

from .tiny_tokenizer import byte_level_tokenizer, merges_of_word


def whole_tokenizer(ranks: Mapping[bytes, int]) -> Tokenizer:
    """A byte-level tokenizer of every piece in `ranks`, ids as there; added tokens follow."""
    tokens = sorted(ranks, key=lambda token: ranks[token])
    merges = [merges_of_word(token, ranks)[-1] for token in tokens if len(token) > 1]
    return byte_level_tokenizer(tokens, merges)
