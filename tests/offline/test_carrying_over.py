# SPDX-License-Identifier: Apache-2.0
"""A trained model goes on with a larger vocabulary: what it knew it still knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as TokenTable

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.offline.carrying_over import carry_over
from qwen3vl_ros.offline.checkpoint import EMBEDDING, load_checkpoint, write_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
from qwen3vl_ros.offline.tiny_tokenizer import write_tiny_tokenizer
from qwen3vl_ros.synthetic.corpus import corpus

CHECKPOINT = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "checkpoint"


@pytest.fixture(scope="module")
def earlier(tokenizer_and_config, tmp_path_factory) -> Path:
    """A checkpoint that was never asked where or how many."""
    directory = tmp_path_factory.mktemp("earlier")
    written = write_tiny_tokenizer([next(corpus())], directory)
    config = tokenizer_and_config[1]
    model = ReferenceModel(
        replace(
            config,
            text=replace(config.text, vocab_size=written.vocab_size),
            image_token_id=written.image_token_id,
            video_token_id=written.video_token_id,
            vision_start_token_id=written.vision_start_token_id,
            vision_end_token_id=written.vision_end_token_id,
        )
    )
    init_weights(model, seed=1, std=0.02)
    write_checkpoint(model, directory, dtype=torch.float32)
    return directory


@pytest.fixture(scope="module")
def carried(earlier, tokenizer_and_config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    write_tiny_tokenizer(corpus(), directory)
    model = ReferenceModel(tokenizer_and_config[1])
    init_weights(model, seed=0, std=0.04)
    new = carry_over(earlier, model, directory / "tokenizer.json")
    return model, directory, new


def test_a_token_that_both_know_keeps_its_row_and_a_new_one_is_as_long(earlier, carried):
    model, directory, new = carried
    old = load_checkpoint(earlier).state_dict()[EMBEDDING]
    table = model.state_dict()[EMBEDDING]
    before = TokenTable.from_file(str(earlier / "tokenizer.json")).get_vocab(True)
    after = TokenTable.from_file(str(directory / "tokenizer.json")).get_vocab(True)
    both = before.keys() & after.keys()
    assert len(both) == len(before)  # nothing that the earlier checkpoint knows is lost
    assert new == len(after) - len(both) > 0
    for token in both:
        assert torch.equal(table[after[token]], old[before[token]])
    fresh = table[[row for token, row in after.items() if token not in before]]
    assert fresh.std().item() == pytest.approx(old.std().item(), rel=0.1)


def test_everything_else_is_taken_as_it_is(earlier, carried):
    model, _, _ = carried
    for name, value in load_checkpoint(earlier).state_dict().items():
        if name != EMBEDDING:
            assert torch.equal(model.state_dict()[name], value)


def test_old_texts_are_cut_as_before_with_other_numbers(earlier, carried):
    _, directory, _ = carried
    before, after = load_tokenizer(earlier), load_tokenizer(directory)
    text = '```json\n[\n\t{"bbox_2d": [12, 345, 678, 1000], "label": "red box"}\n]\n```'

    def pieces(tokenizer):
        return [tokenizer.decode([token]) for token in tokenizer.encode(text)]

    assert pieces(before) == pieces(after)


def test_training_goes_on_from_the_committed_checkpoint_without_a_new_token(tmp_path):
    """A cut of the vocabulary that moves its tokens is allowed; one that loses some is a pity."""
    written = write_tiny_tokenizer(corpus(), tmp_path)
    trained = load_checkpoint(CHECKPOINT)
    assert trained.config.text.vocab_size == written.vocab_size
    assert carry_over(CHECKPOINT, ReferenceModel(trained.config), tmp_path / "tokenizer.json") == 0


def test_a_model_of_another_shape_is_refused(tokenizer_and_config, tmp_path):
    write_tiny_tokenizer(corpus(), tmp_path)
    config = tokenizer_and_config[1]
    other = ReferenceModel(replace(config, text=replace(config.text, num_hidden_layers=4)))
    init_weights(other, seed=0)
    with pytest.raises(ConfigError, match=r"other shapes than the tiny model in 11 tensors"):
        carry_over(CHECKPOINT, other, tmp_path / "tokenizer.json")
