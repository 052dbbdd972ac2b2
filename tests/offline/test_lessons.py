# SPDX-License-Identifier: Apache-2.0
"""Lessons teach what will be asked: packing, mirroring and weights change nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen3vl_ros.image.preprocess import patches_from_image, preprocess_config_from_dict
from qwen3vl_ros.offline.lessons import LESSONS, Asked, draw_lesson, draw_questions
from qwen3vl_ros.offline.losses import answer_loss, encode
from qwen3vl_ros.offline.packing import (
    IGNORE,
    OPENING_WEIGHT,
    QuestionPacker,
    answer_weights,
)
from qwen3vl_ros.offline.pictures import patch_rows, pictures_from_shard
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
from qwen3vl_ros.offline.tiny_tokenizer import PREPROCESSOR
from qwen3vl_ros.scene.detections import Task
from qwen3vl_ros.synthetic.phrases import SUPERLATIVES
from qwen3vl_ros.synthetic.questions import question_about_group

ONE, ABSENT, SEVERAL = Asked.ONE, Asked.ABSENT, Asked.SEVERAL
MIXED = (
    (Task.REFER, ONE),
    (Task.DETECT_3D, ONE),
    (Task.DETECT, SEVERAL),
    (Task.COUNT, Asked.GROUP),
    (Task.REFER, Asked.PHRASE),
    (Task.ASK, Asked.WORDS),
    (Task.REFER, ABSENT),
)


@pytest.fixture(scope="module")
def one_picture(shard):
    """A picture with two things that can be asked for by names of their own."""
    for index in range(len(shard.images)):
        pictures = pictures_from_shard(shard, np.array([index]), np.array([False]), jitter=None)
        names = [known.name for known in pictures.objects[0] if known.askable]
        if len(set(names)) == len(names) >= 2:
            return pictures
    raise AssertionError("no such picture among the shard's")


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
    questions = draw_questions(pictures.objects[0], MIXED, rng)
    packer = QuestionPacker(tokenizer, config)
    with torch.no_grad():
        image, taps = encode(model.visual, pictures.shown)

        def losses_by_token(asked):
            batch = packer.pack(pictures.shown, [asked])
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


def test_labels_are_the_answer_and_its_end_and_nothing_else(tokenizer_and_config, one_picture):
    tokenizer, config = tokenizer_and_config
    pictures = one_picture
    question = draw_questions(pictures.objects[0], MIXED, np.random.default_rng(3))[0]
    batch = QuestionPacker(tokenizer, config).pack(pictures.shown, [[question]])
    learned = batch.labels[batch.labels != IGNORE].tolist()
    text = tokenizer.decode(learned, skip_special_tokens=False)
    assert text == question.answer + "<|im_end|>"


def test_a_shortened_answer_ends_with_its_numbers_and_nothing_absent_is_shortened(
    tokenizer_and_config, one_picture
):
    tokenizer, config = tokenizer_and_config
    pictures = one_picture
    packer = QuestionPacker(tokenizer, config)
    for what, end in ((ONE, "],"), (ABSENT, "[]\n```<|im_end|>")):
        questions = draw_questions(
            pictures.objects[0], ((Task.REFER, what),), np.random.default_rng(3)
        )
        batch = packer.pack(pictures.shown, [questions], whole=[[False]])
        learned = batch.labels[batch.labels != IGNORE].tolist()
        text = tokenizer.decode(learned, skip_special_tokens=False)
        assert (questions[0].answer + "<|im_end|>").startswith(text)
        assert text.endswith(end)


@pytest.mark.parametrize(
    "lesson", [pytest.param(some, id=some[0][0].value) for some, _ in LESSONS]
)
def test_a_lesson_asks_about_every_object_once_and_then_for_absent_ones(lesson, shard):
    pictures = pictures_from_shard(shard, np.arange(4), np.zeros(4, bool), jitter=None)
    for objects in pictures.objects:
        asked = draw_questions(objects, lesson, np.random.default_rng(5))
        for question, (task, about) in zip(asked, lesson, strict=True):
            instead = about is Asked.WORDS and not question.words
            assert question.query.task is task or (instead and question.query.task is Task.REFER)
        one = [
            (q.query.task, q.targets)
            for q, (_, about) in zip(asked, lesson, strict=True)
            if about is ONE and q.targets
        ]
        assert len(set(one)) == len(one)
        names = {known.name for known in objects}
        for question, (_, about) in zip(asked, lesson, strict=True):
            if not question.targets and about in (ONE, ABSENT, Asked.PHRASE):
                assert {question.query.text, *question.query.categories}.isdisjoint(names)


def test_the_token_that_says_whether_there_is_anything_is_told_where_to_look(
    tokenizer_and_config, one_picture
):
    tokenizer, config = tokenizer_and_config
    pictures = one_picture
    lesson = ((Task.REFER, ONE), (Task.REFER, ABSENT))
    questions = draw_questions(pictures.objects[0], lesson, np.random.default_rng(6))
    batch = QuestionPacker(tokenizer, config).pack(pictures.shown, [questions])
    starts, there = batch.starts[0], batch.looks_at[0].sum(-1) > 0
    first_digits, one_more = 4, 1
    assert starts.sum() == 1 + first_digits + one_more + 1
    # Nothing to look at, but told to look nowhere: no second object, and the absent one.
    assert (starts & ~there).sum() == 2
    assert (batch.numbers[0][starts] >= 0).all()
    named = [tokenizer.decode(batch.input_ids[0][row].tolist()) for row in batch.reads[0][starts]]
    assert {name.strip() for name in named} == {q.query.text for q in questions}


def test_placing_things_is_asked_more_often_later_on():
    rng = np.random.default_rng(7)

    def share_in_3d(progress: float) -> float:
        drawn = [draw_lesson(rng, progress=progress) for _ in range(400)]
        return np.mean([lesson[0][0] is Task.DETECT_3D for lesson in drawn])

    assert share_in_3d(0.0) == pytest.approx(0.15, abs=0.06)
    assert share_in_3d(0.9) == pytest.approx(0.30, abs=0.08)


def test_the_centre_of_a_3d_box_weighs_more_than_its_turn(tokenizer_and_config, one_picture):
    tokenizer, config = tokenizer_and_config
    pictures = one_picture
    lesson = ((Task.DETECT_3D, ONE),)
    questions = draw_questions(pictures.objects[0], lesson, np.random.default_rng(8))
    batch = QuestionPacker(tokenizer, config).pack(pictures.shown, [questions])
    # Not the tokens that say whether there is something, or something more.
    starts, numbers = batch.starts[0] & (batch.weights[0] != OPENING_WEIGHT), batch.numbers[0]
    weights = [batch.weights[0][starts & (numbers == n)].item() for n in range(9)]
    assert weights == pytest.approx([1.0] * 3 + [0.6] * 3 + [0.3] * 3)


def test_tokens_that_write_a_box_look_at_its_object(tokenizer_and_config, shard):
    tokenizer, config = tokenizer_and_config
    pictures = pictures_from_shard(shard, np.arange(2), np.array([False, True]), jitter=None)
    rng = np.random.default_rng(4)
    asked = [draw_questions(objects, MIXED, rng) for objects in pictures.objects]
    batch = QuestionPacker(tokenizer, config).pack(pictures.shown, asked)
    writing = batch.looks_at.sum(-1) > 0
    assert writing.any()
    assert (batch.labels[writing] != IGNORE).all()
    model = ReferenceModel(config)
    init_weights(model, seed=1)
    with torch.no_grad():
        _, looking, found = answer_loss(model, batch, *encode(model.visual, pictures.shown))
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
        np.testing.assert_allclose(b.uv_norm1000, a.uv_norm1000 * [-1, 1] + [1000, 0], atol=1e-3)
        assert b.word == ""


def test_what_was_leftmost_is_rightmost_in_the_mirror(shard):
    several = [i for i in range(len(shard.images)) if (shard.colors[i] >= 0).sum() >= 2]
    straight, mirrored = (
        pictures_from_shard(shard, np.array(several), np.full(len(several), m), jitter=None)
        for m in (False, True)
    )
    left, right = SUPERLATIVES.index("leftmost"), SUPERLATIVES.index("rightmost")
    of_all = 2 * len(SUPERLATIVES)
    a, b = straight.dense.ranks[..., of_all:], mirrored.dense.ranks[..., of_all:]
    torch.testing.assert_close(a[..., left], b[..., right], equal_nan=True)
    assert torch.isfinite(a[..., left]).any()


def test_whether_there_is_one_more_is_decided_by_one_token_that_looks_at_the_next(
    tokenizer_and_config, one_picture
):
    tokenizer, config = tokenizer_and_config
    objects = one_picture.objects[0]
    question = question_about_group(objects, "object", Task.COUNT)
    batch = QuestionPacker(tokenizer, config).pack(one_picture.shown, [[question]])
    deciding = batch.weights[0] == OPENING_WEIGHT
    told = [
        tokenizer.decode([token], skip_special_tokens=False)
        for token in batch.labels[0][deciding].tolist()
    ]
    assert [text.strip() for text in told] == ["["] + ['"},'] * (len(question.lines) - 1) + ['"}']
    looks = (batch.looks_at[0][deciding].sum(-1) > 0).tolist()
    assert looks == [True] * len(question.lines) + [False]


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


def test_words_are_asked_for_where_there_are_some_and_seldom_elsewhere(shard):
    pictures = pictures_from_shard(shard, np.arange(4), np.zeros(4, bool), jitter=None)
    objects = next(some for some in pictures.objects if len(some) > 2)
    written = (replace(objects[0], word="TEA", word_xyxy_norm1000=np.arange(4.0)), *objects[1:])
    spot = ((Task.SPOT_TEXT, Asked.WORDS),)
    for some, least, most in ((objects, 0.15, 0.35), (objects[:1], 0.15, 0.35), (written, 1, 1)):
        asked = [draw_questions(some, spot, np.random.default_rng(i))[0] for i in range(200)]
        share = np.mean([question.query.task is Task.SPOT_TEXT for question in asked])
        assert least <= share <= most
