# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are read whole or refused by name, never unpickled, and written for transformers."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from qwen3vl_ros.errors import CheckpointError, ConfigError
from qwen3vl_ros.model_config import ModelConfig, model_config_from_dict
from qwen3vl_ros.offline import checkpoint
from qwen3vl_ros.offline.checkpoint import load_checkpoint, write_checkpoint
from qwen3vl_ros.offline.config_writing import config_dict
from qwen3vl_ros.offline.reference_model import ReferenceModel
from tests.offline.checkpoints import Weights, assert_same_weights, rewrite

EMBEDDING = "model.language_model.embed_tokens.weight"
FINAL_NORM = "model.language_model.norm.weight"


@pytest.fixture(params=[True, False], ids=["tied head", "own head"])
def config(request: pytest.FixtureRequest, small_config: ModelConfig) -> ModelConfig:
    text = dataclasses.replace(small_config.text, tie_word_embeddings=request.param)
    return dataclasses.replace(small_config, text=text)


@pytest.fixture
def directory(
    tmp_path: Path, small_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> Path:
    """A written checkpoint with a tied head."""
    write_checkpoint(random_model(small_config), tmp_path, torch.float32)
    return tmp_path


def test_what_is_written_is_read_back(
    tmp_path: Path, config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> None:
    model = random_model(config)
    write_checkpoint(model, tmp_path, torch.float32)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == config
    assert_same_weights(loaded, model)
    assert ("lm_head.weight" in loaded.state_dict()) is not config.text.tie_word_embeddings
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


def test_transformers_loads_what_is_written(
    tmp_path: Path, config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> None:
    model = random_model(config)
    write_checkpoint(model, tmp_path)
    theirs, info = Qwen3VLForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    assert theirs.dtype == torch.bfloat16
    assert torch.equal(theirs.lm_head.weight, model.head_weight.to(torch.bfloat16))


@pytest.mark.parametrize("shard_size", ["50GB", "100KB"], ids=["one file", "shards"])
def test_what_transformers_writes_is_loaded(
    tmp_path: Path,
    config: ModelConfig,
    random_model: Callable[..., ReferenceModel],
    shard_size: str,
) -> None:
    """transformers 5 writes `rope_parameters` where released checkpoints have `rope_scaling`."""
    model = random_model(config)
    values = config_dict(config, torch.float32)
    theirs = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**values))
    theirs.load_state_dict(model.state_dict(), strict=False)
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "100KB")
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == config
    assert_same_weights(loaded, model)


def test_config_json_says_all_of_the_config(config: ModelConfig) -> None:
    values = json.loads(json.dumps(config_dict(config)))
    assert model_config_from_dict(values) == config


def test_weights_are_cast_when_read(directory: Path) -> None:
    model = load_checkpoint(directory, torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert all(weight.requires_grad for weight in model.parameters())


def test_every_difference_is_named_at_once(directory: Path) -> None:
    def change(weights: Weights) -> None:
        del weights["model.visual.pos_embed.weight"]
        del weights["model.visual.merger.norm.bias"]
        weights["model.visual.blocks.9.norm1.bias"] = torch.zeros(32)
        weights[EMBEDDING] = torch.zeros(63, 24)
        weights[FINAL_NORM] = torch.zeros(24, dtype=torch.int8)

    rewrite(directory, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory)
    for part in (
        "differences (5): ",
        "model.visual.pos_embed.weight is missing",
        "model.visual.merger.norm.bias is missing",
        "model.visual.blocks.9.norm1.bias is not a tensor of this model",
        f"{EMBEDDING} has shape (63, 24), expected (64, 24)",
        f"{FINAL_NORM} holds I8",
        str(directory),
    ):
        assert part in str(caught.value)


def test_a_tied_head_may_be_stored_as_well(directory: Path) -> None:
    model = load_checkpoint(directory)
    rewrite(directory, lambda weights: weights.update({"lm_head.weight": weights[EMBEDDING] + 0}))
    assert_same_weights(load_checkpoint(directory), model)


def test_a_tied_head_that_differs_is_refused(directory: Path) -> None:
    rewrite(directory, lambda weights: weights.update({"lm_head.weight": weights[EMBEDDING] + 1}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from"):
        load_checkpoint(directory)


def test_a_directory_without_a_config_is_refused(directory: Path) -> None:
    (directory / "config.json").unlink()
    with pytest.raises(ConfigError, match="cannot read the model config"):
        load_checkpoint(directory)


def test_writing_that_fails_leaves_the_old_checkpoint(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_checkpoint(directory)

    def half_written(tensors: Weights, file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", half_written)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(model, directory, torch.float32)
    assert sorted(os.listdir(directory)) == ["config.json", "model.safetensors"]
    assert_same_weights(load_checkpoint(directory), model)


def test_of_very_many_differences_the_first_are_named_and_all_are_counted(directory: Path) -> None:
    rewrite(
        directory, lambda weights: weights.update({f"x{i}": torch.zeros(1) for i in range(60)})
    )
    with pytest.raises(CheckpointError, match=r"differences \(60\): x0 is not .*; and 10 more\."):
        load_checkpoint(directory)
