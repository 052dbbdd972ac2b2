# SPDX-License-Identifier: Apache-2.0
"""An object's score comes from the tokens of its own numbers and from nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qwen3vl_ros.language.parsing import Answer, parse_answer
from qwen3vl_ros.language.reading import Span
from qwen3vl_ros.language.scoring import LOWEST_SCORE, object_scores
from qwen3vl_ros.language.tokenizer import Tokenizer
from qwen3vl_ros.scene.detections import Task

TEXT = (
    '```json\n[\n\t{"bbox_2d": [10, 20, 300, 400], "label": "mug 7"},\n'
    '\t{"bbox_2d": [1, 2, 3, 4], "label": "red box"}\n]\n```'
)


def answer_of(text: str, task: Task = Task.REFER) -> Answer:
    return parse_answer(text, task=task, width=640, height=480, max_objects=20)


def places(answer: Answer) -> list[tuple[Span, ...]]:
    return [found.number_spans for found in answer.objects]


def test_the_score_is_the_geometric_mean_over_the_digits(tokenizer: Tokenizer):
    """The first box has ten digits, one of which has probability 1/1024; the second is sure."""
    text, spans = tokenizer.decode_with_spans(tokenizer.encode(TEXT))
    logprobs = np.zeros(len(spans))
    logprobs[spans.index((text.index("300"), text.index("300") + 1))] = math.log(2**-10)
    assert object_scores(places(answer_of(text)), spans, logprobs) == pytest.approx((0.5, 1.0))


def test_labels_and_brackets_do_not_count(tokenizer: Tokenizer):
    text, spans = tokenizer.decode_with_spans(tokenizer.encode(TEXT))
    is_coordinate = np.array([text[start:stop].isdigit() for start, stop in spans])
    is_coordinate[spans.index((text.index("7"), text.index("7") + 1))] = False  # of "mug 7"
    for at in range(len(text)):
        if text.startswith("2d", at):
            is_coordinate[spans.index((at, at + 1))] = False
    logprobs = np.where(is_coordinate, math.log(0.25), -50.0)
    assert object_scores(places(answer_of(text)), spans, logprobs) == pytest.approx((0.25, 0.25))


def test_signs_and_decimal_points_of_a_3d_box_count(tokenizer: Tokenizer):
    written = '[{"bbox_3d": [-0.1, 0, 2, 1, 1, 1, 0, 0, 0], "label": "box"}]'
    text, spans = tokenizer.decode_with_spans(tokenizer.encode(written))
    answer = answer_of(text, Task.DETECT_3D)
    sign = next(i for i, (start, stop) in enumerate(spans) if "-" in text[start:stop])
    logprobs = np.zeros(len(spans))
    logprobs[sign] = -12.0  # one of - 0 . 1 0 2 1 1 1 0 0 0
    assert object_scores(places(answer), spans, logprobs) == pytest.approx((math.exp(-1),))


def test_a_score_is_never_zero_nor_above_one(tokenizer: Tokenizer):
    text, spans = tokenizer.decode_with_spans(tokenizer.encode(TEXT))
    certain, hopeless = np.full(len(spans), 1e-7), np.full(len(spans), -np.inf)
    assert object_scores(places(answer_of(text)), spans, certain) == (1.0, 1.0)
    assert object_scores(places(answer_of(text)), spans, hopeless) == (LOWEST_SCORE, LOWEST_SCORE)


def test_an_empty_answer_has_no_scores(tokenizer: Tokenizer):
    text, spans = tokenizer.decode_with_spans(tokenizer.encode("```json\n[]\n```"))
    assert object_scores(places(answer_of(text)), spans, np.zeros(len(spans))) == ()
