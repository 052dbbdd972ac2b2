# SPDX-License-Identifier: Apache-2.0
"""A true answer in the model's own words is right, whatever the task, and a wrong one is not."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.evaluation.case import Case, Number, Place, Span, Wording
from qwen3vl_ros.evaluation.case_score import case_score
from qwen3vl_ros.evaluation.given import given_by
from qwen3vl_ros.evaluation.told_truth import truth_of_answer
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.vision_language_model import Words
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.scene.camera import Frame, Intrinsics
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.detections import SPATIAL_TASKS, Query, Task

K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
FRAME = Frame(
    image=np.full((240, 320, 3), 90, np.uint8),
    stamp_ns=0,
    frame_id="camera",
    intrinsics=Intrinsics(K=K, width=320, height=240),
)
LATER = Frame(image=FRAME.image, stamp_ns=4_000_000_000, frame_id="camera")


def listed(*lines: str) -> str:
    return "```json\n[\n\t" + ",\n\t".join(lines) + "\n]\n```" if lines else "```json\n[]\n```"


BOX = '{"bbox_2d": [100, 200, 300, 400], "label": "red box"}'
OTHER_BOX = '{"bbox_2d": [600, 600, 900, 900], "label": "ball"}'
POINT = '{"point_2d": [200, 300], "label": "red box"}'
SOLID = '{"bbox_3d":[0.10, 0.05, 1.50, 0.20, 0.30, 0.20, 0.00, 0.25, 0.00],"label":"red box"}'
OTHER_SOLID = SOLID.replace("0.10", "0.60")
WORD = '{"bbox_2d": [100, 200, 300, 400], "text_content": "TEA"}'
PLACE = Place(xyxy_px=np.array([40.0, 50, 90, 100]))

CASES = [
    (Query(task=Task.REFER, text="red box"), listed(BOX), listed(OTHER_BOX)),
    (Query(task=Task.REFER, text="red box"), listed(BOX), listed()),
    (Query(task=Task.REFER, text="red box"), listed(), listed(BOX)),
    (
        Query(task=Task.DETECT, categories=("red box", "ball")),
        listed(BOX, OTHER_BOX),
        listed(BOX.replace("red box", "ball"), OTHER_BOX.replace("ball", "red box")),
    ),
    (Query(task=Task.POINT, text="red box"), listed(POINT), listed(POINT.replace("200", "900"))),
    (Query(task=Task.DETECT_3D, text="red box"), listed(SOLID), listed(OTHER_SOLID)),
    (Query(task=Task.COUNT, text="red boxes"), listed(POINT), listed()),
    (Query(task=Task.COUNT, text="red boxes"), listed(), listed(POINT)),
    (Query(task=Task.SPOT_TEXT), listed(WORD), listed(WORD.replace("TEA", "TOE"))),
    (Query(task=Task.ASK, text="Where is it?"), "On the left.", "On the right."),
    (
        Query(task=Task.LOCATE_MOMENT, text="it moves"),
        "1.0 - 2.5 seconds",
        "3.0 - 3.5 seconds",
    ),
]


class Saying:
    """A model that looks as the tiny one does, and says what it is told to."""

    def __init__(self, model: LocalModel, words: str) -> None:
        self._model, self._words = model, words

    @property
    def style(self):
        return self._model.style

    def see(self, view, *, watch):
        return self._model.see(view, watch=watch)

    def say(self, chat, sights, **_):
        return Words(
            text=self._words,
            confidence=None,
            ended=True,
            prompt_tokens=0,
            answer_tokens=0,
            passes=0,
        )


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel.load(tiny_engine_directory(), threads=1)


def answered(model: LocalModel, query: Query, words: str):
    perception = Perception(Saying(model, words))
    if query.task in SPATIAL_TASKS:
        return perception.ground(FRAME, query, model_boxes=False)
    is_timed = query.task is Task.LOCATE_MOMENT
    return perception.ask([Clip(frames=(FRAME, LATER)) if is_timed else FRAME], query)


@pytest.mark.parametrize(
    ("query", "right", "wrong"),
    CASES,
    ids=[f"{query.task.value}-{i}" for i, (query, _, _) in enumerate(CASES)],
)
def test_the_true_answer_is_right_and_a_wrong_one_wrong(model, query, right, wrong):
    truth = truth_of_answer(
        query,
        right,
        width=320,
        height=240,
        places=(PLACE,) if query.task is Task.POINT else (),
    )
    case = Case(
        case_id="1", picture_id="1", group="g", views=lambda: (FRAME,), query=query, truth=truth
    )
    scores = [
        case_score(case, given_by("1", answered(model, query, words), seconds=0.0))
        for words in (right, wrong)
    ]
    assert scores[0] == pytest.approx(1.0)
    assert scores[1] == 0.0
    assert case.is_about_nothing == (right == listed())


def test_what_words_say_is_read_as_the_models_words_are():
    def told(query, words):
        return truth_of_answer(query, words, width=320, height=240)

    box = told(Query(task=Task.REFER, text="the red box"), listed(BOX)).boxes[0]
    np.testing.assert_allclose(box.xyxy_px, [32, 48, 96, 96])
    assert box.label == "the red box"
    count = told(Query(task=Task.COUNT, text="x"), listed(POINT, POINT.replace("200", "250")))
    assert count == Number(number=2)
    asked = told(Query(task=Task.ASK, text="Where?"), "On the left.")
    assert asked == Wording(accepted=("On the left.",))
    when = Query(task=Task.LOCATE_MOMENT, text="it moves")
    assert told(when, "1.0 - 2.5 seconds") == Span(start_s=1.0, end_s=2.5)


def test_true_places_are_taken_for_boxes_that_words_say_less_well():
    place = Place(xyxy_px=np.array([32.4, 48.2, 96.1, 95.9]))
    query = Query(task=Task.REFER, text="red box")
    truth = truth_of_answer(query, listed(BOX), width=320, height=240, places=(place,))
    np.testing.assert_array_equal(truth.boxes[0].xyxy_px, place.xyxy_px)
    with pytest.raises(ValueError, match="2 places for the 1 objects"):
        truth_of_answer(query, listed(BOX), width=320, height=240, places=(place, place))


def test_a_true_answer_that_nobody_can_read_or_score_is_refused():
    with pytest.raises(AnswerError):
        truth_of_answer(Query(task=Task.REFER, text="x"), "there", width=320, height=240)
    with pytest.raises(ValueError, match="names 'ball', which was not asked for"):
        truth_of_answer(
            Query(task=Task.DETECT, categories=("mug", "cup")),
            listed(OTHER_BOX),
            width=320,
            height=240,
        )
    with pytest.raises(ValueError, match="'list_events'"):
        truth_of_answer(Query(task=Task.LIST_EVENTS), "[]", width=320, height=240)
