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
from qwen3vl_ros.offline.checkpoint import EMBEDDING, load_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
from qwen3vl_ros.offline.tiny_tokenizer import write_tiny_tokenizer
from qwen3vl_ros.synthetic.corpus import corpus

CHECKPOINT = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "checkpoint"


@pytest.fixture(scope="module")
def carried(tokenizer_and_config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("vocabulary")
    write_tiny_tokenizer(corpus(), directory)
    model = ReferenceModel(tokenizer_and_config[1])
    init_weights(model, seed=0, std=0.04)
    new = carry_over(CHECKPOINT, model, directory / "tokenizer.json")
    return model, directory, new


def test_a_token_that_both_know_keeps_its_row_and_a_new_one_is_as_long_as_they_are(carried):
    model, directory, new = carried
    old = load_checkpoint(CHECKPOINT).state_dict()[EMBEDDING]
    table = model.state_dict()[EMBEDDING]
    before = TokenTable.from_file(str(CHECKPOINT / "tokenizer.json")).get_vocab(True)
    after = TokenTable.from_file(str(directory / "tokenizer.json")).get_vocab(True)
    both = before.keys() & after.keys()
    assert len(both) == len(before)  # nothing that the committed checkpoint knows is lost
    assert new == len(after) - len(both)
    for token in both:
        assert torch.equal(table[after[token]], old[before[token]])
    fresh = table[[row for token, row in after.items() if token not in before]]
    assert fresh.std().item() == pytest.approx(old.std().item(), rel=0.1)


def test_everything_else_is_taken_as_it_is(carried):
    model, _, _ = carried
    for name, value in load_checkpoint(CHECKPOINT).state_dict().items():
        if name != EMBEDDING:
            assert torch.equal(model.state_dict()[name], value)


def test_old_texts_are_cut_as_before_with_other_numbers(carried):
    _, directory, _ = carried
    before, after = load_tokenizer(CHECKPOINT), load_tokenizer(directory)
    text = '```json\n[\n\t{"bbox_2d": [12, 345, 678, 1000], "label": "red box"}\n]\n```'

    def pieces(tokenizer):
        return [tokenizer.decode([token]) for token in tokenizer.encode(text)]

    assert pieces(before) == pieces(after)


def test_a_model_of_another_shape_is_refused(tokenizer_and_config, tmp_path):
    write_tiny_tokenizer(corpus(), tmp_path)
    config = tokenizer_and_config[1]
    other = ReferenceModel(replace(config, text=replace(config.text, num_hidden_layers=4)))
    init_weights(other, seed=0)
    with pytest.raises(ConfigError, match=r"other shapes than the tiny model in 11 tensors"):
        carry_over(CHECKPOINT, other, tmp_path / "tokenizer.json")
