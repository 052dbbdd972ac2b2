# SPDX-License-Identifier: Apache-2.0
"""Questions that are not of place, down the whole path: text, counts, words, times, tool calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.errors import AnswerError, ContextError, QueryError
from qwen3vl_ros.language.chat_template import ChatStyle
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.taught_tasks import TaughtTasks
from qwen3vl_ros.model.zooming import MAX_ZOOMS, zoomed
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.scene.answers import Count, Moment, Step, TextSpan, TimedBox, Zoom, ZoomedAnswer
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.detections import Query, Task, TextLevel
from qwen3vl_ros.scene.tools import Tool
from tests.speaking import ScriptedHead, fenced, model_saying

STAMP_NS = 1_700_000_000_123_456_789
WIDTH, HEIGHT = 640, 480
GRASP = Tool(name="grasp", description="Grasps a thing.", parameters={"type": "object"})

QUERIES = {
    Task.SPOT_TEXT: Query(task=Task.SPOT_TEXT),
    Task.COUNT: Query(task=Task.COUNT, text="apples"),
    Task.ASK: Query(task=Task.ASK, text="What is it?"),
    Task.COMPARE: Query(task=Task.COMPARE, text="What differs?"),
    Task.LOCATE_MOMENT: Query(task=Task.LOCATE_MOMENT, text="it falls"),
    Task.LIST_EVENTS: Query(task=Task.LIST_EVENTS),
    Task.TRACK: Query(task=Task.TRACK, text="the cup"),
    Task.ZOOM: Query(task=Task.ZOOM, text="What does the sign say?"),
    Task.ACT: Query(task=Task.ACT, text="Take the cup.", tools=(GRASP,)),
}


@pytest.fixture
def saying(roomy_engine: Path) -> Callable[..., tuple[Perception, ScriptedHead]]:
    """A perception that will answer with the given texts."""

    def build(
        *answers: str,
        style: ChatStyle = ChatStyle.INSTRUCT,
        taught: TaughtTasks | None = None,
    ) -> tuple[Perception, ScriptedHead]:
        model, head = model_saying(roomy_engine, *answers, style=style)
        return Perception(model, taught=taught), head

    return build


def frame(after_s: float = 0.0) -> Frame:
    pixels = np.random.default_rng(round(after_s * 10)).integers(0, 256, (HEIGHT, WIDTH, 3))
    return Frame(
        image=pixels.astype(np.uint8),
        stamp_ns=STAMP_NS + round(after_s * 1e9),
        frame_id="camera_optical",
    )


def clip() -> Clip:
    """Six frames over five seconds, unevenly."""
    return Clip(frames=tuple(frame(after_s) for after_s in (0.0, 1.0, 2.0, 3.5, 4.0, 5.0)))


def zoom_call(numbers: list[int], **more: object) -> str:
    call = {
        "name": "image_zoom_in_tool",
        "arguments": {"bbox_2d": numbers, "label": "sign", "img_idx": 0, **more},
    }
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def test_text_comes_with_its_place_and_a_score(saying):
    perception, head = saying(fenced('\t{"bbox_2d": [0, 500, 250, 750], "text_content": "EXIT"}'))
    query = Query(task=Task.SPOT_TEXT, text_level=TextLevel.WORD)
    response = perception.ask([frame()], query)
    assert (response.stamp_ns, response.frame_id) == (STAMP_NS, "camera_optical")
    (span,) = response.value
    assert isinstance(span, TextSpan)
    assert span.text == "EXIT"
    np.testing.assert_allclose(span.xyxy_px, [0, 240, 160, 360])
    assert 0.9 < span.score <= 1.0
    assert response.query is query
    assert response.complete
    assert head.is_done


def test_things_are_counted_with_a_point_and_a_score_on_each(saying):
    points = [f'\t{{"point_2d": [{x}, 500], "label": "apple_{x}"}}' for x in (100, 300, 900)]
    perception, _ = saying(fenced(*points))
    value = perception.ask([frame()], QUERIES[Task.COUNT]).value
    assert isinstance(value, Count)
    assert value.number == 3
    np.testing.assert_allclose(value.uv_px[:, 0], [64, 192, 576])
    assert len(value.scores) == 3


def test_counting_none_is_zero_and_saying_nothing_is_an_error(saying):
    perception, _ = saying(fenced(), "There are none, I think.")
    assert perception.ask([frame()], QUERIES[Task.COUNT]).value.number == 0
    with pytest.raises(AnswerError, match="no object with a 'point_2d'"):
        perception.ask([frame()], QUERIES[Task.COUNT])


def test_a_task_that_was_not_taught_is_told_with_its_answer_or_with_its_failure(saying):
    perception, _ = saying(fenced(), "None.", taught=TaughtTasks(tasks=(Task.REFER,)))
    warning = "this engine was not taught 'count'; its answer may be noise; taught: refer"
    assert perception.ask([frame()], QUERIES[Task.COUNT]).warnings == (warning,)
    with pytest.raises(AnswerError, match=warning):
        perception.ask([frame()], QUERIES[Task.COUNT])


def test_a_question_is_answered_in_words(saying):
    perception, _ = saying("A red box.")
    assert perception.ask([frame()], QUERIES[Task.ASK]).value == "A red box."


def test_a_thinkers_words_are_what_follows_its_thought(saying):
    perception, _ = saying("Box? Yes.\n</think>\n\nA red box.", style=ChatStyle.THINKING)
    assert perception.ask([frame()], QUERIES[Task.ASK]).value == "A red box."


def test_several_pictures_are_compared_in_one_prompt(saying):
    perception, _ = saying("The box moved.")
    watch = Stopwatch()
    response = perception.ask([frame(), frame(3.0)], QUERIES[Task.COMPARE], stopwatch=watch)
    assert response.value == "The box moved."
    assert watch.stats().image_tokens == 2 * 70
    assert watch.stats().prompt_tokens > 2 * 70


def test_a_moment_is_told_in_seconds_from_the_first_frame(saying):
    perception, _ = saying("From 1.0 - 2.5 seconds.")
    response = perception.ask([clip()], QUERIES[Task.LOCATE_MOMENT])
    assert response.stamp_ns == STAMP_NS
    assert response.value == (Moment(start_s=1.0, end_s=2.5),)


def test_what_would_happen_after_the_clip_is_no_moment_of_it(saying):
    perception, _ = saying("From 7.0 - 9.0 seconds.")
    with pytest.raises(AnswerError, match="after the end of the video"):
        perception.ask([clip()], QUERIES[Task.LOCATE_MOMENT])


def test_events_of_a_clip_are_listed(saying):
    perception, _ = saying('```json\n{"00:00.00 - 00:01.50": "a box falls"}\n```')
    response = perception.ask([clip()], QUERIES[Task.LIST_EVENTS])
    assert response.value == (Moment(start_s=0.0, end_s=1.5, label="a box falls"),)


def test_a_thing_is_tracked_through_a_clip_with_scores(saying):
    boxes = [
        f'\t{{"time": {t}, "bbox_2d": [0, 0, {x}, 500], "label": "cup"}}'
        for t, x in ((0.5, 100), (3.0, 200))
    ]
    perception, _ = saying(fenced(*boxes))
    first, second = perception.ask([clip()], QUERIES[Task.TRACK]).value
    assert isinstance(first, TimedBox)
    assert (first.time_s, second.time_s) == (0.5, 3.0)
    np.testing.assert_allclose(second.xyxy_px, [0, 0, 128, 240])
    assert 0.9 < first.score <= 1.0


def test_a_clip_is_shown_with_its_true_times(roomy_engine):
    """Two frames to a temporal patch: the times between them, as text before each."""
    model, _ = model_saying(roomy_engine)
    (video,) = model.see(clip(), watch=Stopwatch()).parts
    assert video.times_s == pytest.approx((0.5, 2.75, 4.5))


def test_a_question_may_be_asked_about_a_clip_and_a_picture(saying):
    perception, _ = saying("The same box.")
    response = perception.ask([clip(), frame(9.0)], QUERIES[Task.ASK])
    assert response.value == "The same box."


def test_an_instruction_becomes_calls(saying):
    call = '<tool_call>\n{"name": "grasp", "arguments": {"what": "cup"}}\n</tool_call>'
    perception, _ = saying(f"I take it.\n{call}")
    step = perception.ask([frame()], QUERIES[Task.ACT]).value
    assert isinstance(step, Step)
    assert step.words == "I take it."
    assert [(call.name, dict(call.arguments)) for call in step.calls] == [
        ("grasp", {"what": "cup"})
    ]


def test_the_model_asks_for_a_crop_gets_it_and_answers(saying):
    perception, head = saying(zoom_call([250, 250, 500, 500]), "It says EXIT.")
    watch = Stopwatch()
    response = perception.ask([frame()], QUERIES[Task.ZOOM], stopwatch=watch)
    assert isinstance(response.value, ZoomedAnswer)
    assert response.value.words == "It says EXIT."
    (zoom,) = response.value.zooms
    assert (zoom.picture, zoom.label) == (0, "sign")
    np.testing.assert_allclose(zoom.xyxy_px, [160, 120, 320, 240])
    assert response.answer_text == "It says EXIT."
    assert watch.stats().image_tokens == 70 + 70, "the picture and the crop"
    assert head.is_done


def test_a_crop_that_cannot_be_had_is_told_the_model_which_goes_on(saying):
    bad = zoom_call([250, 250, 500, 500], img_idx=3)
    perception, _ = saying(bad, zoom_call([0, 0, 500, 500]), "It says EXIT.")
    response = perception.ask([frame()], QUERIES[Task.ZOOM])
    assert len(response.value.zooms) == 1
    assert any("not carried out" in note and "img_idx" in note for note in response.notes)


def test_a_tool_that_was_not_offered_is_not_run(saying):
    call = '<tool_call>\n{"name": "shell", "arguments": {}}\n</tool_call>'
    perception, _ = saying(call, "It says EXIT.")
    response = perception.ask([frame()], QUERIES[Task.ZOOM])
    assert response.value == ZoomedAnswer(words="It says EXIT.", zooms=())
    assert any("no tool 'shell'" in note for note in response.notes)


def test_a_model_that_only_zooms_has_not_answered(saying):
    perception, _ = saying(*[zoom_call([0, 0, 500 + i, 500]) for i in range(MAX_ZOOMS + 1)])
    with pytest.raises(AnswerError, match=f"after {MAX_ZOOMS} turns"):
        perception.ask([frame()], QUERIES[Task.ZOOM])


def test_a_crop_shows_the_pixels_it_names_enlarged():
    picture = frame()
    zoom = Zoom(picture=0, xyxy_px=np.array([100.0, 60.0, 612.0, 460.0]), label="sign")
    crop = zoomed(picture, zoom)
    assert crop.image.shape[:2] == (round(400 * 1.13137085), round(512 * 1.13137085))
    large = Zoom(picture=0, xyxy_px=np.array([0.0, 0.0, 640.0, 480.0]), label="all")
    np.testing.assert_array_equal(zoomed(picture, large).image, picture.image)


@pytest.mark.parametrize("task", list(QUERIES), ids=lambda task: task.value)
def test_every_task_says_which_views_it_is_for(saying, task):
    perception, _ = saying()
    wrong = {
        Task.SPOT_TEXT: [frame(), frame()],
        Task.COUNT: [clip()],
        Task.COMPARE: [frame()],
        Task.LOCATE_MOMENT: [frame(), frame(1.0)],
        Task.LIST_EVENTS: [clip(), clip()],
        Task.TRACK: [frame()],
        Task.ZOOM: [clip()],
    }
    views = wrong.get(task, [])
    with pytest.raises(QueryError, match=f"'{task.value}' query was asked about .* expected"):
        perception.ask(views, QUERIES[task])


def test_a_question_of_place_is_sent_to_the_other_door(saying):
    perception, _ = saying()
    with pytest.raises(QueryError, match=r"'refer' query .* `Perception.ground`"):
        perception.ask([frame()], Query(task=Task.REFER, text="the cup"))


def test_an_answer_in_words_that_is_cut_says_so(saying):
    perception, _ = saying("word " * 600)
    response = perception.ask([frame()], QUERIES[Task.ASK])
    assert not response.complete


def test_what_does_not_fit_the_cache_is_refused_before_the_model_runs(random_engines):
    model, _ = model_saying(random_engines["int4"])
    with pytest.raises(ContextError, match=r"of the cache's 384 tokens"):
        Perception(model).ask([frame(float(i)) for i in range(8)], QUERIES[Task.COMPARE])


def test_the_words_are_heard_as_they_come(roomy_engine):
    """Whole characters only, and all of them."""
    from qwen3vl_ros.language.prompt import chat_from_query
    from qwen3vl_ros.model.vision_language_model import AnswerBudget

    answer = "Ein grüner Würfel: 立方体 🧊."
    model, _ = model_saying(roomy_engine, answer)
    sight = model.see(frame(), watch=Stopwatch())
    heard: list[str] = []
    words = model.say(
        chat_from_query(QUERIES[Task.ASK], sight.parts),
        [sight],
        budget=AnswerBudget(least=1, most=None),
        watch=Stopwatch(),
        on_text=heard.append,
    )
    assert words.text == answer
    assert words.ended
    assert len(heard) > 5
    assert "".join(heard) == answer
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in heard)
