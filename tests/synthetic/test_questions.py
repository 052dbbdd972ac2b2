# SPDX-License-Identifier: Apache-2.0
"""Questions about one picture ask what can be answered; their answers are true and readable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qwen3vl_ros.language.parsing import parse_answer, parse_count
from qwen3vl_ros.language.text_answers import parse_text_spans, parse_words
from qwen3vl_ros.scene.detections import Task, TextLevel
from qwen3vl_ros.synthetic.known_objects import KnownObject
from qwen3vl_ros.synthetic.phrases import Phrase
from qwen3vl_ros.synthetic.questions import (
    ROOM_NAMES,
    plural,
    question_about_absent,
    question_about_any_group,
    question_about_group,
    question_about_phrase,
    question_about_several,
    question_about_words,
)
from qwen3vl_ros.synthetic.small_talk import KINDS, question_in_words


def thing(name: str, u: float, *, word: str = "", away: float = 1.0) -> KnownObject:
    return KnownObject(
        name=name,
        xyxy_norm1000=np.array([u - 40.0, 300, u + 40, 400]),
        bbox_3d=np.array([0, 0, away, 0.1, 0.1, 0.1, 0, 0, 0]),
        uv_norm1000=np.array([u, 380.0]),
        word=word,
        word_xyxy_norm1000=np.array([u - 20, 330, u + 20, 350]) if word else np.full(4, np.nan),
    )


WORLD = (
    thing("red box", 800, word="TEA", away=2.0),
    thing("green box", 200, word="SALT"),
    thing("blue mug", 500, away=3.0),
)


def centers(answer):
    return [round(float(found.xyxy_px[0] + found.xyxy_px[2]) / 2) for found in answer.objects]


def test_all_of_a_kind_are_answered_from_left_to_right():
    question = question_about_group(WORLD, "box", Task.REFER)
    answer = parse_answer(question.answer, task=Task.REFER, width=1000, height=1000, max_objects=9)
    assert centers(answer) == [200, 800]
    assert [found.label for found in answer.objects] == ["box", "box"]
    assert question.targets == (1, 0)


def test_counting_asks_in_the_plural_and_points_at_each_inside():
    question = question_about_group(WORLD, "box", Task.COUNT)
    assert question.query.text == "boxes"
    counted = parse_count(question.answer, width=1000, height=1000, max_objects=9)
    np.testing.assert_array_equal(counted.value.uv_px, [[200, 380], [800, 380]])


def test_a_phrase_is_asked_with_or_without_its_article_and_labelled_by_its_kind():
    phrase = Phrase(text="leftmost box", head="box", index=1)
    question = question_about_phrase(WORLD, phrase, Task.POINT, article="the ")
    assert question.query.text == "the leftmost box"
    answer = parse_answer(question.answer, task=Task.POINT, width=1000, height=1000, max_objects=9)
    assert [(found.label, *found.uv_px) for found in answer.objects] == [("box", 200, 380)]


@pytest.mark.parametrize("seed", range(12))
def test_several_categories_are_answered_in_their_order_and_what_is_absent_is_left_out(seed):
    rng = np.random.default_rng(seed)
    question = question_about_several(WORLD, rng, names=ROOM_NAMES)
    answer = parse_answer(
        question.answer, task=Task.DETECT, width=1000, height=1000, max_objects=9
    )
    categories = question.query.categories
    labels = [found.label for found in answer.objects]
    assert labels == sorted(labels, key=categories.index)
    for category in categories:
        present = [known for known in WORLD if category in (known.name, known.shape)]
        assert labels.count(category) == len(present)


def test_an_absent_thing_is_not_there_and_often_has_the_color_or_shape_of_one_that_is():
    rng = np.random.default_rng(0)
    asked = [
        question_about_absent(WORLD, Task.REFER, rng, names=ROOM_NAMES).query.text
        for _ in range(200)
    ]
    assert not {known.name for known in WORLD} & set(asked)
    words = {"red", "green", "blue", "box", "mug"}
    alike = np.mean([bool(words & set(text.split())) for text in asked])
    assert 0.6 < alike < 0.95


def test_a_group_with_one_that_hides_is_not_asked_about():
    hiding = (WORLD[0], replace(WORLD[1], askable=False), WORLD[2])
    for seed in range(20):
        question = question_about_any_group(hiding, np.random.default_rng(seed), Task.COUNT)
        assert question.query.text not in ("boxes", "objects", "green boxes", "green objects")


@pytest.mark.parametrize("level", TextLevel, ids=lambda level: level.value)
def test_what_is_written_is_read_from_left_to_right(level):
    question = question_about_words(WORLD, level)
    spans = parse_text_spans(question.answer, width=1000, height=1000, max_objects=9).value
    assert [(span.text, span.xyxy_px.tolist()) for span in spans] == [
        ("SALT", [180, 330, 220, 350]),
        ("TEA", [780, 330, 820, 350]),
    ]
    assert question_about_words(WORLD[2:], level).answer == "```json\n[]\n```"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where is the green box?", "On the left."),
        ("What color is the mug?", "Blue."),
        ("Which object is the nearest?", "The green box."),
        ("How many boxes are there?", "Two."),
        ("What is written on the red box?", "TEA."),
    ],
)
def test_small_talk_is_true(text, words):
    said = {}
    for seed in range(10):
        for kind in KINDS:
            for question in kind(WORLD, np.random.default_rng(seed)):
                said[question.query.text] = question.words
    assert said[text] == words
    assert parse_words(words, ended=True).value == words


def test_things_that_are_not_there_are_none_and_no():
    for seed in range(40):
        question = question_in_words(WORLD, np.random.default_rng(seed))
        if question.query.text.startswith("Is there"):
            name = question.query.text.split(" ", 3)[3].rstrip("?")
            assert question.words == ("Yes." if name in {k.name for k in WORLD} else "No.")
        if question.words == "None.":
            assert not question.targets


def test_many_are_spelled_as_people_spell_them():
    assert [plural(words) for words in ("red box", "mug", "object")] == [
        "red boxes",
        "mugs",
        "objects",
    ]
