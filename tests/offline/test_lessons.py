# SPDX-License-Identifier: Apache-2.0
"""Lessons teach what will be asked: packing, mirroring and weights change nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qwen3vl_ros.image.preprocess import patches_from_image, preprocess_config_from_dict
from qwen3vl_ros.language.tokenizer import Tokenizer, load_tokenizer
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.lessons import (
    IGNORE,
    QuestionPacker,
    answer_weights,
    draw_questions,
    patch_rows,
    pictures_from_shard,
)
from qwen3vl_ros.offline.losses import answer_loss, encode
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
from qwen3vl_ros.offline.tiny import tiny_config
from qwen3vl_ros.offline.tiny_tokenizer import PREPROCESSOR, write_tiny_tokenizer
from qwen3vl_ros.synthetic.dataset import Shard, cache_scenes, read_shards
from qwen3vl_ros.synthetic.questions import corpus


@pytest.fixture(scope="module")
def tokenizer_and_config(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Tokenizer, ModelConfig]:
    directory = tmp_path_factory.mktemp("tokenizer")
    written = write_tiny_tokenizer(corpus(), directory)
    config = tiny_config(
        vocab_size=written.vocab_size,
        image_token_id=written.image_token_id,
        video_token_id=written.video_token_id,
        vision_start_token_id=written.vision_start_token_id,
        vision_end_token_id=written.vision_end_token_id,
    )
    return load_tokenizer(directory), config


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: None) -> Shard:
    directory = tmp_path_factory.mktemp("scenes")
    config = preprocess_config_from_dict(PREPROCESSOR)
    list(cache_scenes(directory, count=6, config=config, processes=1))
    return max(read_shards(directory).values(), key=lambda some: len(some.images))


@pytest.fixture(scope="module")
def monkeypatch_module() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qwen3vl_ros.synthetic.dataset.SHARD", 6)
        yield


def test_patch_rows_are_those_of_the_preprocessor():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    small = {**PREPROCESSOR, "size": {"shortest_edge": 1024, "longest_edge": 76800}}
    expected = patches_from_image(image, preprocess_config_from_dict(small)).pixel_values
    rows = patch_rows(torch.from_numpy(image.astype(np.float32) / 127.5 - 1)[None])[0]
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-6)


def test_a_question_packed_with_others_is_answered_as_if_it_were_asked_alone(
    tokenizer_and_config, shard
):
    tokenizer, config = tokenizer_and_config
    model = ReferenceModel(config)
    init_weights(model, seed=1, std=0.1)
    rng = np.random.default_rng(2)
    pictures = pictures_from_shard(shard, np.array([1]), np.array([False]), jitter=None)
    questions = draw_questions(pictures.objects[0], rng, count=3)
    packer = QuestionPacker(tokenizer, config)
    with torch.no_grad():
        image, taps = encode(model.visual, pictures)

        def losses_by_token(asked):
            batch = packer.pack(pictures, [asked])
            decoder = model.language_model
            hidden = decoder(
                decoder.embed_tokens(batch.input_ids),
                batch.rope_cos,
                batch.rope_sin,
                batch.visual_rows,
                image.flatten(0, 1),
                taps.flatten(1, 2),
                attention_mask=batch.mask,
            )
            learned = batch.labels >= 0
            return torch.nn.functional.cross_entropy(
                model.logits(hidden[learned]), batch.labels[learned], reduction="none"
            )

        together = losses_by_token(questions)
        alone = torch.cat([losses_by_token([question]) for question in questions])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_labels_are_the_answer_and_its_end_and_nothing_else(tokenizer_and_config, shard):
    tokenizer, config = tokenizer_and_config
    pictures = pictures_from_shard(shard, np.array([0]), np.array([False]), jitter=None)
    question = draw_questions(pictures.objects[0], np.random.default_rng(3), count=1)[0]
    batch = QuestionPacker(tokenizer, config).pack(pictures, [[question]])
    learned = batch.labels[batch.labels != IGNORE].tolist()
    text = tokenizer.decode(learned, skip_special_tokens=False)
    assert text == question.answer + "<|im_end|>"


def test_tokens_that_write_a_box_look_at_its_object(tokenizer_and_config, shard):
    tokenizer, config = tokenizer_and_config
    pictures = pictures_from_shard(shard, np.arange(2), np.array([False, True]), jitter=None)
    rng = np.random.default_rng(4)
    asked = [draw_questions(objects, rng, count=4) for objects in pictures.objects]
    batch = QuestionPacker(tokenizer, config).pack(pictures, asked)
    writing = batch.looks_at.sum(-1) > 0
    assert writing.any()
    assert (batch.labels[writing] != IGNORE).all()
    model = ReferenceModel(config)
    init_weights(model, seed=1)
    with torch.no_grad():
        _, looking, found = answer_loss(model, batch, *encode(model.visual, pictures))
    assert 0 < found["looking"] < 1
    assert looking > 0


def test_a_mirrored_picture_has_mirrored_truth(shard):
    straight = pictures_from_shard(shard, np.array([2]), np.array([False]), jitter=None)
    mirrored = pictures_from_shard(shard, np.array([2]), np.array([True]), jitter=None)
    for a, b in zip(straight.objects[0], mirrored.objects[0], strict=True):
        x1, y1, x2, y2 = a.xyxy_norm1000
        np.testing.assert_allclose(b.xyxy_norm1000, [1000 - x2, y1, 1000 - x1, y2], atol=1e-3)
        np.testing.assert_allclose(b.bbox_3d[:3], a.bbox_3d[:3] * [-1, 1, 1])
        np.testing.assert_allclose(b.bbox_3d[3:6], a.bbox_3d[3:6])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[7,", [0.1, 0.25, 0.3], id="one-digit"),
        pytest.param("[412]", [0.1, 1.0, 1.0, 0.25, 0.3], id="three-digits"),
        pytest.param("-1.25,", [1.0, 1.0, 0.1, 1.0, 0.3, 0.3], id="negative-decimal"),
    ],
)
def test_leading_digits_are_worth_more_than_the_last(text, expected):
    np.testing.assert_allclose(answer_weights(text), expected)
