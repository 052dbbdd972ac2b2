# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints: whole, sharded, drawn again alike, and of the shape that was asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch

from qwen3vl_ros import cli
from qwen3vl_ros.errors import CheckpointError, ConfigError
from qwen3vl_ros.image.preprocess import load_preprocess_config
from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline.checkpoint import load_checkpoint, tensor_files
from qwen3vl_ros.offline.family import RELEASED, shrunk
from qwen3vl_ros.offline.random_checkpoint import write_random_checkpoint
from qwen3vl_ros.offline.tiny_tokenizer import WORD_PATTERN, qwen_ranks
from qwen3vl_ros.offline.whole_tokenizer import whole_tokenizer

SHARD_BYTES = 200_000
SMALL = shrunk(RELEASED["8B"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("random") / "checkpoint"
    write_random_checkpoint(SMALL, directory, image_tokens=100, shard_bytes=SHARD_BYTES)
    return directory


def test_it_is_read_as_any_checkpoint_is(written):
    config = load_model_config(written)
    assert (config.text, config.vision) == (SMALL.text, SMALL.vision)
    model = load_checkpoint(written)
    tokenizer = load_tokenizer(written)
    assert tokenizer.decode(tokenizer.encode("the red box")) == "the red box"
    assert config.image_token_id == tokenizer.encode("<|image_pad|>")[0]
    assert load_preprocess_config(written).max_pixels == 100 * 32 * 32
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_it_lies_in_shards_of_which_only_single_tensors_are_larger(written):
    files = tensor_files(written)
    shards = sorted(set(files.values()))
    assert len(shards) > 3
    for shard in shards:
        alone = list(files.values()).count(shard) == 1
        assert alone or shard.stat().st_size < SHARD_BYTES + 10_000
    index = json.loads((written / "model.safetensors.index.json").read_text())
    assert {n: (written / f) for n, f in index["weight_map"].items()} == files
    assert all(shard.stat().st_mode & 0o044 == 0o044 for shard in shards)


def test_every_weight_matters_and_no_two_are_drawn_alike(written):
    weights = load_checkpoint(written).state_dict()
    norm = weights["model.language_model.layers.0.input_layernorm.weight"]
    assert norm.mean() == pytest.approx(1, abs=0.02)
    assert 0.005 < norm.std() < 0.05
    assert weights["model.visual.blocks.0.attn.qkv.bias"].abs().min() > 0
    first, second = (weights[f"model.language_model.layers.{i}.mlp.up_proj.weight"] for i in "01")
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("seed", "is_same"), [pytest.param(0, True, id="again"), pytest.param(1, False, id="another")]
)
def test_a_seed_gives_the_same_bytes(written, tmp_path, seed, is_same):
    write_random_checkpoint(
        SMALL, tmp_path / "again", seed=seed, image_tokens=100, shard_bytes=SHARD_BYTES
    )
    for shard in set(tensor_files(written).values()):
        again = tmp_path / "again" / shard.name
        assert (again.read_bytes() == shard.read_bytes()) is is_same


def test_it_is_not_written_among_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="empty or new directory"):
        write_random_checkpoint(SMALL, tmp_path)


def test_a_vocabulary_too_small_for_any_tokenizer_is_refused(tmp_path):
    text = dataclasses.replace(SMALL.text, vocab_size=64)
    with pytest.raises(ConfigError, match="vocab_size is 64, expected at least"):
        write_random_checkpoint(dataclasses.replace(SMALL, text=text), tmp_path / "checkpoint")


def test_the_command_says_where_how_long_and_how_much_memory(tmp_path, capsys):
    arguments = ["random-checkpoint", "--size", "2B", "--small", "--output", str(tmp_path / "2B")]
    assert cli.main(arguments) == 0
    assert load_model_config(tmp_path / "2B").text.num_hidden_layers == 4
    said, bars = capsys.readouterr()
    assert said.startswith(f"2B: {tmp_path / '2B'}, ")
    assert said.endswith(" GB\n")
    assert bars == ""  # nobody watches


def test_an_unknown_size_is_one_line(tmp_path, capsys):
    arguments = ["random-checkpoint", "--size", "3B", "--output", str(tmp_path / "x")]
    assert cli.main(arguments) == cli.EXIT_FAILED
    assert "--size is '3B', expected one of 2B, 4B, 8B" in capsys.readouterr().err


def test_the_whole_tokenizer_segments_as_another_implementation_does():
    ranks = qwen_ranks()
    tokenizer = whole_tokenizer(ranks)
    full = tiktoken.Encoding(
        "qwen", pat_str=WORD_PATTERN, mergeable_ranks=dict(ranks), special_tokens={}
    )
    for text in (
        '\t{"bbox_2d": [1, 22, 333, 1000], "label": "teapot"},\n',
        "isn't the third-nearest turquoise espresso machine overcomplicated?",
        "椅子 🤖 Ünïcode ================ ))))))))",
    ):
        assert tokenizer.encode(text).ids == full.encode(text)
    ids = [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|image_pad|>")]
    assert ids == [151643, 151655]  # as in released configs
