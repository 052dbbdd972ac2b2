# SPDX-License-Identifier: Apache-2.0
"""A training run learns, saves, and goes on from where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.offline.losses import Trainee, init_trainee
from qwen3vl_ros.offline.packing import QuestionPacker
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.stages import Recipe
from qwen3vl_ros.offline.training import train

RECIPE = Recipe(
    heads_steps=1,
    tower_steps=3,
    decoder_steps=2,
    joint_steps=2,
    tower_batch=2,
    decoder_batch=2,
    save_every=1,
    watch_every=1,
)


@pytest.fixture
def trainee(tokenizer_and_config) -> Trainee:
    trainee = Trainee(ReferenceModel(tokenizer_and_config[1]))
    init_trainee(trainee, seed=0)
    return trainee


def steps_of(reports: list[Mapping[str, object]]) -> list[tuple[object, object]]:
    """Of the looks at watched pictures; a decoder's answers are looked at in the same step."""
    looks = [(report["stage"], report["step"]) for report in reports if "loss" not in report]
    return list(dict.fromkeys(looks))


def test_the_stages_follow_each_other_and_a_frozen_tower_stays_as_it_is(
    trainee, shard, tokenizer_and_config, tmp_path
):
    tokenizer, config = tokenizer_and_config
    reports: list[Mapping[str, object]] = []
    packer = QuestionPacker(tokenizer, config)
    shards = {shard.images.shape[1:3]: shard}
    before = {name: value.clone() for name, value in trainee.state_dict().items()}
    train(trainee, shards, shards, packer, tmp_path, RECIPE, reports.append)
    assert steps_of(reports) == [
        ("heads", 1),
        ("tower", 1), ("tower", 2), ("tower", 3),
        ("decoder", 1), ("decoder", 2),
        ("joint", 1), ("joint", 2),
    ]  # fmt: skip
    after = {
        stage: torch.load(tmp_path / f"{stage}.pt", weights_only=True)["parameters"]
        for stage in ("heads", "tower", "decoder", "joint")
    }
    patch = "model.model.visual.patch_embed.proj.weight"
    words = "model.model.language_model.embed_tokens.weight"
    head = "head.linear.weight"
    assert {name.split(".")[0] for name in after["heads"]} == {"head", "tap_heads"}
    assert not torch.equal(before[head], after["heads"][head])
    assert not torch.equal(before[patch], after["tower"][patch])
    assert words not in after["tower"]
    assert patch not in after["decoder"]
    assert not torch.equal(before[words], after["decoder"][words])
    assert after["joint"].keys() == before.keys()
    told = [report for report in reports if "watched_answer_iou" in report]
    assert [report["stage"] for report in told] == ["decoder", "decoder", "joint", "joint"]


def test_an_interrupted_run_goes_on_from_its_last_saved_step(
    trainee, shard, tokenizer_and_config, tmp_path
):
    tokenizer, config = tokenizer_and_config
    packer, shards = QuestionPacker(tokenizer, config), {shard.images.shape[1:3]: shard}
    run = replace(RECIPE, heads_steps=0, tower_steps=4, decoder_steps=0, joint_steps=0)

    def interrupted(report: Mapping[str, object]) -> None:
        if report["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(trainee, shards, shards, packer, tmp_path, run, interrupted)
    reports: list[Mapping[str, object]] = []
    train(trainee, shards, shards, packer, tmp_path, run, reports.append)
    assert steps_of(reports) == [("tower", 3), ("tower", 4)]


def test_a_state_of_another_run_is_refused(trainee, shard, tokenizer_and_config, tmp_path):
    tokenizer, config = tokenizer_and_config
    packer, shards = QuestionPacker(tokenizer, config), {shard.images.shape[1:3]: shard}
    run = replace(RECIPE, heads_steps=0, tower_steps=1, decoder_steps=0, joint_steps=0)
    train(trainee, shards, shards, packer, tmp_path, run, lambda report: None)
    with pytest.raises(ConfigError, match=r"tower\.pt is of a run with seed 0, this one has 1"):
        train(trainee, shards, shards, packer, tmp_path, replace(run, seed=1), lambda report: None)


def test_the_same_seed_and_scenes_give_the_same_weights(shard, tokenizer_and_config, tmp_path):
    tokenizer, config = tokenizer_and_config
    packer, shards = QuestionPacker(tokenizer, config), {shard.images.shape[1:3]: shard}

    def weights(directory: str, seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)  # as `train_tiny_checkpoint` does: the detector heads draw from it
        trainee = Trainee(ReferenceModel(config))
        init_trainee(trainee, seed=seed)
        run = replace(RECIPE, seed=seed, heads_steps=0, joint_steps=1, watch_every=9)
        train(trainee, shards, shards, packer, tmp_path / directory, run, lambda report: None)
        return trainee.state_dict()

    first, second, other = weights("first", 0), weights("second", 0), weights("other", 1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
