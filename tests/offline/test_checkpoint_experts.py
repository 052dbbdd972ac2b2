# SPDX-License-Identifier: Apache-2.0
"""Experts are written as they are released, and read whichever way round they lie."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3VLMoeForConditionalGeneration

from qwen3vl_ros.errors import CheckpointError
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.checkpoint import load_checkpoint, write_checkpoint
from qwen3vl_ros.offline.config_writing import config_dict
from qwen3vl_ros.offline.reference_model import ReferenceModel
from tests.offline.checkpoints import assert_same_weights, rewrite


@pytest.fixture
def experts(
    tmp_path: Path, small_experts_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> tuple[Path, ReferenceModel]:
    """A written checkpoint with sparse layers, and what was written."""
    model = random_model(small_experts_config)
    write_checkpoint(model, tmp_path / "ours", torch.float32)
    return tmp_path / "ours", model


def test_experts_are_written_as_they_are_released_and_read_back(
    experts: tuple[Path, ReferenceModel],
) -> None:
    directory, model = experts
    name = "model.language_model.layers.2.mlp.experts.gate_up_proj"
    assert load_file(directory / "model.safetensors")[name].shape == (8, 24, 40)
    assert json.loads((directory / "config.json").read_text())["architectures"] == [
        "Qwen3VLMoeForConditionalGeneration"
    ]
    loaded = load_checkpoint(directory)
    assert loaded.config == model.config
    assert_same_weights(loaded, model)


def test_experts_may_lie_the_other_way_round_as_transformers_writes_them(
    experts: tuple[Path, ReferenceModel], tmp_path: Path
) -> None:
    directory, model = experts
    theirs = Qwen3VLMoeForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    theirs.save_pretrained(tmp_path / "theirs")
    name = "model.language_model.layers.2.mlp.experts.gate_up_proj"
    assert load_file(tmp_path / "theirs" / "model.safetensors")[name].shape == (8, 40, 24)
    loaded = load_checkpoint(tmp_path / "theirs")
    assert loaded.config == model.config
    assert_same_weights(loaded, model)


@pytest.mark.parametrize("width", [24, 12])
def test_experts_that_could_lie_either_way_are_refused(
    small_experts_config: ModelConfig, tmp_path: Path, width: int
) -> None:
    text = dataclasses.replace(small_experts_config.text, moe_intermediate_size=width)
    model = ReferenceModel(dataclasses.replace(small_experts_config, text=text))
    with pytest.raises(CheckpointError, match=f"moe_intermediate_size {width} have square"):
        write_checkpoint(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_dict(model.config)))
    with pytest.raises(CheckpointError, match=f"moe_intermediate_size {width} have square"):
        load_checkpoint(tmp_path)


def test_misshapen_experts_are_named_with_both_shapes_they_may_have(
    experts: tuple[Path, ReferenceModel],
) -> None:
    directory, _ = experts
    name = "model.language_model.layers.0.mlp.experts.down_proj"
    rewrite(directory, lambda weights: weights.update({name: torch.zeros(8, 21, 24)}))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory)
    shapes = "has shape (8, 21, 24), expected (8, 20, 24) or (8, 24, 20)"
    assert f"{name} {shapes}" in str(caught.value)
