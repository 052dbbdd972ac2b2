# SPDX-License-Identifier: Apache-2.0
"""The half-trained checkpoint is there to be gone on with: small, whole, of today's vocabulary."""

from __future__ import annotations

from pathlib import Path

from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.offline.carrying_over import carry_over
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.tiny_tokenizer import write_tiny_tokenizer
from qwen3vl_ros.synthetic.corpus import corpus

NEXT = Path(__file__).resolve().parents[1] / "engines" / "tiny-next" / "checkpoint"


def test_it_is_small_enough_to_live_in_the_repository():
    assert sum(file.stat().st_size for file in NEXT.iterdir()) <= 20_000_000


def test_training_goes_on_from_it_without_a_new_token(tmp_path):
    """A cut of the vocabulary that moves its tokens is allowed; one that loses some is a pity."""
    written = write_tiny_tokenizer(corpus(), tmp_path)
    trained = load_checkpoint(NEXT)
    assert trained.config.text.vocab_size == written.vocab_size == load_tokenizer(NEXT).vocab_size
    model = ReferenceModel(trained.config)
    assert carry_over(NEXT, model, tmp_path / "tokenizer.json") == 0
