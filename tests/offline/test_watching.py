# SPDX-License-Identifier: Apache-2.0
"""What is watched while training is what the model itself writes, held against the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3vl_ros.image.preprocess import preprocess_config_from_dict
from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
from qwen3vl_ros.offline.tiny_tokenizer import PREPROCESSOR
from qwen3vl_ros.offline.watching import watched_answers
from qwen3vl_ros.synthetic import shards
from qwen3vl_ros.synthetic.dataset import WATCHED_SEED
from qwen3vl_ros.synthetic.shards import cache_pictures, read_shards

CHECKPOINT = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "checkpoint"


@pytest.fixture(scope="module")
def plain_pictures(tmp_path_factory):
    """Plain scenes only, which the committed checkpoint knows."""
    directory = tmp_path_factory.mktemp("watched")
    config = preprocess_config_from_dict(PREPROCESSOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD", 6)
        patch.setattr(shards, "PLAIN_EVERY", 1)
        job = (directory, WATCHED_SEED, 6, config)
        shards._render_shard(job)
        assert list(cache_pictures(directory, count=6, config=config, first_seed=WATCHED_SEED,
                                   processes=1)) == [6]  # fmt: skip
        return read_shards(directory, count=6, first_seed=WATCHED_SEED)


def test_the_committed_checkpoint_boxes_what_it_is_asked_for(plain_pictures):
    told = watched_answers(load_checkpoint(CHECKPOINT), load_tokenizer(CHECKPOINT), plain_pictures)
    assert told["watched_answers_readable"] == 1
    assert told["watched_answer_iou"] > 0.45  # measured 0.53, on these few


def test_a_model_that_knows_nothing_boxes_nothing(plain_pictures):
    trained = load_checkpoint(CHECKPOINT)
    model = ReferenceModel(trained.config)
    init_weights(model, seed=0)
    told = watched_answers(model, load_tokenizer(CHECKPOINT), plain_pictures)
    assert told["watched_answer_iou"] < 0.1
