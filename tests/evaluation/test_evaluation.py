# SPDX-License-Identifier: Apache-2.0
"""Evaluations from picture to page, by the tiny engine, on scenes of which everything is known."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace

import pytest

from qwen3vl_ros.errors import AnswerError, ContextError, DatasetError, EngineError
from qwen3vl_ros.evaluation.asked_categories import Asked
from qwen3vl_ros.evaluation.asked_engine import engine_identity
from qwen3vl_ros.evaluation.case import DataSet
from qwen3vl_ros.evaluation.coco_data import coco_data
from qwen3vl_ros.evaluation.evaluation import evaluate
from qwen3vl_ros.evaluation.omni3d_data import omni3d_data
from qwen3vl_ros.evaluation.refcoco_data import refcoco_data
from qwen3vl_ros.evaluation.remembering_model import RememberingModel
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.scene.detections import Task
from qwen3vl_ros.synthetic.scene_data import RenderedScene, scene_data
from qwen3vl_ros.synthetic.scene_files import IMAGES, write_scene_data

ENGINE = tiny_engine_directory()
MODEL = {"kind": "engine", "model_type": "qwen3_vl"}
FIRST_SEED = 20_000_000
SCENES = 4


@pytest.fixture(scope="module")
def perception():
    return Perception(RememberingModel(lambda: LocalModel.load(ENGINE, threads=1)))


@pytest.fixture(scope="module")
def scenes():
    seeds = range(FIRST_SEED, FIRST_SEED + SCENES)
    return [RenderedScene.of(seed, width=320, height=240) for seed in seeds]


@pytest.fixture(scope="module")
def written(scenes, tmp_path_factory):
    directory = tmp_path_factory.mktemp("scenes")
    write_scene_data(directory, scenes)
    return directory


def read(written, task) -> DataSet:
    images = written / IMAGES
    if task is Task.DETECT:
        return coco_data(
            written / "instances.json",
            images,
            asked=Asked.PRESENT,
            categories_per_question=3,
            max_objects=100,
        )
    if task is Task.REFER:
        return refcoco_data(written / "refs.json", images, max_objects=100)
    return omni3d_data(written / "omni3d.json", images, asked=Asked.PRESENT, max_objects=100)


TASKS = (Task.DETECT, Task.REFER, Task.DETECT_3D)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.value)
def test_through_files_and_without_them_the_same_is_asked_and_the_same_told(
    task, scenes, written, perception, tmp_path
):
    at_once = scene_data(scenes, task, categories_per_question=3)
    through_files = read(written, task)
    assert [c.query for c in through_files.cases] == [c.query for c in at_once.cases]
    results = [
        evaluate(perception, data, model=MODEL, output=tmp_path / name / "e.json")
        for data, name in ((at_once, "at_once"), (through_files, "files"))
    ]
    numbers = [
        {name: value for name, value in result.groups[task.value].items() if "seconds" not in name}
        for result in results
    ]
    assert numbers[0].keys() == numbers[1].keys()
    for name, value in numbers[0].items():
        assert numbers[1][name] == pytest.approx(value, abs=1e-9), name
    assert numbers[0]["unreadable"] == 0
    scores = [list(result.scores.values()) for result in results]
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)
    assert max(scores[0]) > 0.3  # the tiny engine is right about something


def test_the_report_holds_every_answer_and_a_page_that_needs_nothing_else(
    written, perception, tmp_path
):
    output = tmp_path / "out" / "e.json"
    data = read(written, Task.DETECT_3D)
    results = evaluate(perception, data, model=engine_identity(ENGINE), output=output)
    report = json.loads(output.read_text())
    assert report["groups"] == results.groups
    assert len(report["cases"]) == len(data.cases)
    assert report["model"]["manifest_sha256"] == engine_identity(ENGINE)["manifest_sha256"]
    assert report["data"]["annotations_sha256"]
    page = output.with_suffix(".html").read_text()
    assert page.count("<img ") == min(12, sum(score < 1 for score in results.scores.values()))
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    assert "http" not in page.replace('content="width=device-width, initial-scale=1"', "")


class Failing:
    """A model of which some calls fail: which, `fails` says by the number of the call."""

    def __init__(self, model, fails):
        self._model, self._fails, self.calls, self.looks = model, fails, 0, 0

    @property
    def style(self):
        return self._model.style

    def see(self, view, *, watch):
        self.looks += 1
        return self._model.see(view, watch=watch)

    def say(self, chat, sights, **options):
        self.calls += 1
        if error := self._fails.get(self.calls):
            raise error
        return self._model.say(chat, sights, **options)


@pytest.fixture(scope="module")
def local():
    return LocalModel.load(ENGINE, threads=1)


def test_a_stopped_evaluation_goes_on_where_it_was_and_tells_the_same(written, local, tmp_path):
    data, output = read(written, Task.REFER), tmp_path / "e.json"
    total = len(data.cases)
    broken = Failing(local, {5: EngineError("the engine failed")})
    with pytest.raises(EngineError):
        evaluate(Perception(broken), data, model=MODEL, output=output)
    whole, seen = Failing(local, {}), []
    results = evaluate(
        Perception(whole),
        data,
        model=MODEL,
        output=output,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert whole.calls == total - 4
    assert seen[0] == (4, total)
    assert seen[-1] == (total, total)
    assert len(output.with_suffix(".answers.jsonl").read_text().splitlines()) == 1 + total
    other = evaluate(Perception(local), data, model=MODEL, output=tmp_path / "other.json")
    assert other.groups["refer"]["iou_mean"] == results.groups["refer"]["iou_mean"]


def test_asked_at_once_a_failure_ends_it_and_what_was_answered_is_kept(written, local, tmp_path):
    data, output = read(written, Task.REFER), tmp_path / "e.json"
    pictures = list(dict.fromkeys(case.picture_id for case in data.cases))
    about_first = sum(case.picture_id == pictures[0] for case in data.cases)
    one = Failing(local, {about_first + 1: EngineError("the engine failed")})
    # Two seats, one model: its calls are counted over both, and never overlap.
    lock = threading.Lock()
    seats = [Perception(Locked(one, lock)) for _ in range(2)]
    with pytest.raises(EngineError):
        evaluate(seats[0], data, model=MODEL, output=output, others=seats[1:])
    kept = len(output.with_suffix(".answers.jsonl").read_text().splitlines()) - 1
    seats = [Perception(Locked(Failing(local, {}), lock)) for _ in range(2)]
    at_once = evaluate(seats[0], data, model=MODEL, output=output, others=seats[1:])
    assert kept < len(data.cases)
    in_turn = evaluate(Perception(local), data, model=MODEL, output=tmp_path / "other.json")
    assert at_once.groups["refer"]["iou_mean"] == in_turn.groups["refer"]["iou_mean"]


class Locked:
    """A model that several threads may ask, one after the other."""

    def __init__(self, model, lock):
        self._model, self._lock = model, lock

    @property
    def style(self):
        return self._model.style

    def see(self, view, *, watch):
        with self._lock:
            return self._model.see(view, watch=watch)

    def say(self, chat, sights, **options):
        with self._lock:
            return self._model.say(chat, sights, **options)


def test_answers_of_another_model_are_kept_unless_one_begins_anew(written, local, tmp_path):
    data, output = read(written, Task.REFER), tmp_path / "e.json"
    data = replace(data, cases=data.cases[:2])
    evaluate(Perception(local), data, model=MODEL, output=output)
    other = {**MODEL, "model_type": "another"}
    with pytest.raises(DatasetError, match="of another model: model_type 'qwen3_vl'"):
        evaluate(Perception(local), data, model=other, output=output)
    again = Failing(local, {})
    evaluate(Perception(again), data, model=other, output=output, restart=True)
    assert again.calls == 2


def test_what_a_model_fails_at_is_counted_apart_and_shown_first(written, local, tmp_path):
    data, output = read(written, Task.REFER), tmp_path / "e.json"
    evil = "<script>alert('there')</script>"
    failing = Failing(
        local,
        {
            1: AnswerError("the answer holds no list", answer_text=evil),
            2: ContextError("prompt and answer do not fit"),
        },
    )
    numbers = evaluate(Perception(failing), data, model=MODEL, output=output).groups["refer"]
    assert (numbers["unreadable"], numbers["no_room"]) == (1, 1)
    page = output.with_suffix(".html").read_text()
    assert page.index("unreadable<br>") < page.index("score 0.")
    assert "<script" not in page
    case = json.loads(output.read_text())["cases"][0]
    assert (case["fault"], case["words"], case["score"]) == ("unreadable", evil, 0.0)


def test_a_picture_is_looked_at_once_however_many_questions_follow(written, local, tmp_path):
    data = read(written, Task.REFER)
    looking = Failing(local, {})
    evaluate(
        Perception(RememberingModel(lambda: looking)),
        data,
        model=MODEL,
        output=tmp_path / "e.json",
    )
    assert looking.looks == SCENES < looking.calls == len(data.cases)


def test_what_was_seen_before_is_said_the_same_about(written, local):
    """Remembered, a picture is answered about as if it were looked at anew, also in between."""
    data = read(written, Task.REFER)
    first, second = data.cases[0].views()[0], data.cases[-1].views()[0]
    remembering = RememberingModel(lambda: local)
    watch = Stopwatch()
    sight = remembering.see(first, watch=watch)
    assert remembering.see(first, watch=watch) is sight
    assert remembering.see(second, watch=watch) is not sight
    query = data.cases[0].query
    asked_twice = [Perception(remembering).ground(first, query).answer_text for _ in range(2)]
    assert asked_twice == [Perception(local).ground(first, query).answer_text] * 2
