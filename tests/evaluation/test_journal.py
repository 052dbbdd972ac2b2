# SPDX-License-Identifier: Apache-2.0
"""Answers on disk: what was written comes back, and nothing of another model is mixed in."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.errors import DatasetError
from qwen3vl_ros.evaluation.given import Fault, Given, given_as_json, given_from_json
from qwen3vl_ros.evaluation.journal import Journal
from qwen3vl_ros.scene.answers import Moment, TextSpan
from qwen3vl_ros.scene.detections import Point2D
from tests.evaluation.cases import box, given, solid

IDENTITY = {
    "model": {"kind": "engine", "manifest_sha256": "abc"},
    "data": {"kind": "coco", "annotations_sha256": "def"},
}

EVERYTHING = given(
    words='```json\n[{"bbox_2d": […]}]\u2028```',
    complete=False,
    notes=("1 object: corners put in order",),
    boxes=(box(0.1, 0.2, 1 / 3, 0.4, label="mög", score=0.1 + 0.2), box(1, 2, 3, 4, score=None)),
    points=(Point2D(label="", uv_px=np.array([1.5, 2.5]), score=None),),
    solids=(solid(0.1, 0.2, 0.3),),
    texts=(TextSpan(text="EXIT", xyxy_px=np.array([0.0, 1, 2, 3]), score=0.5),),
    moments=(Moment(start_s=0.5, end_s=1.5, label="it falls"),),
    number=3,
)
UNREADABLE = given(fault=Fault.UNREADABLE, words="I cannot", remark="no list of objects")


@pytest.mark.parametrize("answer", [EVERYTHING, UNREADABLE, given()], ids=["all", "fault", "[]"])
def test_an_answer_comes_back_number_for_number(answer: Given, tmp_path):
    assert given_as_json(given_from_json(given_as_json(answer))) == given_as_json(answer)
    journal = Journal.open(tmp_path / "answers.jsonl", IDENTITY)
    journal.add(answer)
    again = Journal.open(tmp_path / "answers.jsonl", IDENTITY).given["1/0"]
    assert given_as_json(again) == given_as_json(answer)
    for before, after in zip(answer.boxes, again.boxes, strict=True):
        np.testing.assert_array_equal(before.xyxy_px, after.xyxy_px)


def test_a_line_that_was_cut_off_is_dropped_and_written_anew(tmp_path):
    file = tmp_path / "answers.jsonl"
    journal = Journal.open(file, IDENTITY)
    journal.add(given("1/0"))
    journal.add(given("2/0"))
    file.write_bytes(file.read_bytes()[:-9])  # as a power cut leaves it
    again = Journal.open(file, IDENTITY)
    assert list(again.given) == ["1/0"]
    again.add(given("2/0", number=2))
    assert Journal.open(file, IDENTITY).given["2/0"].number == 2


def test_half_a_surrogate_pair_in_a_models_words_ends_nothing(tmp_path):
    file = tmp_path / "answers.jsonl"
    Journal.open(file, IDENTITY).add(given(words="\ud83d"))
    assert Journal.open(file, IDENTITY).given["1/0"].words == "?"


@pytest.mark.parametrize("part", ["model", "data"])
def test_answers_of_another_model_or_other_data_are_refused_and_say_what_differs(tmp_path, part):
    file = tmp_path / "answers.jsonl"
    Journal.open(file, IDENTITY).add(given())
    other = {**IDENTITY, part: {**IDENTITY[part], "kind": "other"}}
    with pytest.raises(DatasetError, match=f"another {part}: kind '.*', expected kind 'other'"):
        Journal.open(file, other)
    assert "1/0" in Journal.open(file, IDENTITY).given  # and nothing was lost


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[1, 2]\n", id="another JSON"),
        pytest.param("hello\n", id="no JSON"),
        pytest.param('{"a": 1}\n', id="no header"),
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    file = tmp_path / "answers.jsonl"
    file.write_text(content)
    with pytest.raises(DatasetError, match=r"cannot be read .*--restart, or give another"):
        Journal.open(file, IDENTITY)
    assert file.read_text() == content


def test_a_line_that_is_no_answer_is_refused(tmp_path):
    file = tmp_path / "answers.jsonl"
    Journal.open(file, IDENTITY)
    with file.open("a") as stream:
        stream.write('{"case": "1/0"}\n')
    with pytest.raises(DatasetError, match="KeyError"):
        Journal.open(file, IDENTITY)
