# SPDX-License-Identifier: Apache-2.0
"""The command a newcomer runs, at its smallest: rendered, trained, written, gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.model.taught_tasks import FILE_NAME, load_taught_tasks
from qwen3vl_ros.offline import tiny_training
from qwen3vl_ros.offline.checkpoint import EMBEDDING, load_checkpoint
from qwen3vl_ros.offline.lessons import LESSONS
from qwen3vl_ros.offline.stages import Recipe
from qwen3vl_ros.offline.tiny_training import (
    NOT_LEARNED,
    TAUGHT_BY_CLIPS,
    TAUGHT_BY_PICTURES,
    recipe_for,
    train_tiny_checkpoint,
)
from qwen3vl_ros.synthetic import clip_shards, shards

CHECKPOINT = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "checkpoint"
RECIPE = Recipe(
    heads_steps=1,
    tower_steps=1,
    decoder_steps=20,  # as often as is reported
    tower_batch=1,
    decoder_batch=1,
    moving_share=0.2,
    watch_every=99,
    rate=1e-5,
    matrix_rate=1e-5,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The committed checkpoint, trained on for a few tiny steps on four pictures and a clip."""
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD", 4)
        patch.setattr(clip_shards, "CLIPS", 1)
        patch.setattr(tiny_training, "WATCHED_SCENES", 4)
        train_tiny_checkpoint(
            work / "checkpoint",
            work=work,
            scenes=4,
            clips=1,
            seed=0,
            threads=1,
            recipe=RECIPE,
            source=CHECKPOINT,
        )
    return work


def test_a_checkpoint_is_written_whole_with_its_tokenizer(trained):
    model, tokenizer = (
        load_checkpoint(trained / "checkpoint"),
        load_tokenizer(trained / "checkpoint"),
    )
    assert model.config.text.vocab_size == tokenizer.vocab_size > 1600
    assert {file.name for file in (trained / "checkpoint").iterdir()} == {
        *(file.name for file in CHECKPOINT.iterdir()),
        FILE_NAME,
    }
    assert sum(file.stat().st_size for file in (trained / "checkpoint").iterdir()) < 20_000_000


def test_a_checkpoint_says_what_it_was_taught(trained):
    taught = load_taught_tasks(trained / "checkpoint")
    assert taught is not None
    assert {*taught.tasks} == {*TAUGHT_BY_PICTURES, *TAUGHT_BY_CLIPS}
    asked = {task for lesson, _ in LESSONS for task, _ in lesson}
    assert {*TAUGHT_BY_PICTURES, *NOT_LEARNED} == asked


def test_what_was_known_is_hardly_shaken_by_so_few_steps(trained):
    before, after = (load_checkpoint(d) for d in (CHECKPOINT, trained / "checkpoint"))
    for name, value in before.state_dict().items():
        if name != EMBEDDING:
            assert (after.state_dict()[name] - value).abs().max() < 0.01
    changed = [
        name
        for name, value in before.state_dict().items()
        if name != EMBEDDING and not torch.equal(after.state_dict()[name], value)
    ]
    assert any(".visual." in name for name in changed)
    assert any(".language_model." in name for name in changed)


def test_the_log_tells_the_stages_the_time_left_and_the_answers_of_the_model(trained):
    rows = [
        json.loads(line) for line in (trained / "train" / "log.jsonl").read_text().splitlines()
    ]
    assert [row["stage"] for row in rows if "watched_color" in row] == ["heads", "tower"]
    assert any("watched_answer_iou" in row for row in rows if row["stage"] == "decoder")
    assert [row["minutes_left"] for row in rows if row.get("step") == 20 and "loss" in row] == [0]


def test_heads_are_learned_first_only_where_a_checkpoint_is_gone_on_from():
    assert recipe_for(None, seed=3, lengths={}) == Recipe(seed=3)
    going_on = recipe_for(CHECKPOINT, seed=3, lengths={"tower": 7, "joint": None})
    assert going_on.heads_steps > 0
    assert (going_on.tower_steps, going_on.joint_steps, going_on.seed) == (7, 0, 3)
    assert going_on.matrix_rate < Recipe().matrix_rate
