# SPDX-License-Identifier: Apache-2.0
"""Questions that are no matter of place, asked once: of a picture, of several, of a video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from action_msgs.msg import GoalStatus

from qwen3vl_ros.action import Ask
from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.model.stopwatch import STAGES
from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.scene.answers import Count, Moment, Step, TextSpan, ZoomedAnswer
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.detections import TextLevel
from qwen3vl_ros.scene.tools import ToolCall
from tests.ros.graph import (
    CAMERA,
    HEIGHT,
    WIDTH,
    ScriptedPerception,
    camera_info_message,
    image_message,
    nanoseconds,
    one_mug,
    response_of,
)

ROOT = Path(__file__).resolve().parents[2]
SUCCEEDED, ABORTED = GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_ABORTED
WHAT = QueryMessage(task="ask", text="What is on the table?", id="goal")
MUGS = QueryMessage(task="count", text="mugs")
WHEN = QueryMessage(task="locate_moment", text="the mug falls")


def saying(value, **parts) -> ScriptedPerception:
    """Answers every question that is no matter of place with one value."""
    return ScriptedPerception(
        one_mug, reply=lambda views, query: response_of(views, query, value, **parts)
    )


def send_at(world, *after_s: float, begin_ns: int | None = None) -> list[int]:
    """Sends pictures whose stamps lie so far after the first, and waits until all have come."""
    begin_ns = world.next_stamp_ns() - 10_000_000_000 if begin_ns is None else begin_ns
    stamps = [begin_ns + round(s * 1e9) for s in after_s]
    (node,) = world.nodes
    for n, stamp_ns in enumerate(stamps):
        shade = np.full((HEIGHT, WIDTH, 3), n, np.uint8)
        before = node._pairing.counts.images
        world.send(image_message(shade), stamp_ns=stamp_ns)
        world.until(lambda n=before: node._pairing.counts.images > n)
    return stamps


def test_a_question_in_words_is_answered_from_the_next_picture_and_the_standing_one_goes_on(
    world, asker
):
    perception = saying("A mug.")
    world.start(perception)
    asking = asker(Ask)
    handle = asking.ask(WHAT)
    stamp_ns = world.send()
    status, result = asking.result(handle)
    assert (status, result.words, result.complete) == (SUCCEEDED, "A mug.", True)
    assert (nanoseconds(result.header.stamp), result.header.frame_id) == (stamp_ns, CAMERA)
    assert json.loads(result.answer_json) == {
        "task": "ask",
        "text": "What is on the table?",
        "categories": [],
        "complete": True,
        "words": "A mug.",
        "notes": [],
        "answer": "as the model said",
    }
    assert asking.stages == ["waiting for image", "decode"]
    told = world.status_of(stamp_ns)
    assert (told.query_id, told.task, told.outcome) == ("goal", "ask", InferenceStatus.OK)
    assert told.answer_text == "as the model said"
    assert world.spin_through_a_picture().query_id == "query-1"
    assert [query.query_id for _, query in perception.seen] == ["query-1"]


@pytest.mark.parametrize(
    ("query", "value", "words", "part"),
    [
        pytest.param(
            MUGS,
            Count(uv_px=np.array([[1.0, 2.0]])),
            "",
            {"count": 1, "points": [{"score": None, "uv_px": [1.0, 2.0]}]},
            id="count",
        ),
        pytest.param(
            QueryMessage(task="spot_text", text_level="word"),
            (TextSpan(text="Café", xyxy_px=np.array([1.0, 2, 3, 4]), score=0.5),),
            "",
            {"texts": [{"text": "Café", "score": 0.5, "xyxy_px": [1, 2, 3, 4]}]},
            id="read",
        ),
        pytest.param(
            QueryMessage(task="spot_text"), (), "", {"texts": []}, id="looked, and found nothing"
        ),
        pytest.param(
            QueryMessage(task="zoom", text="What does it say?"),
            ZoomedAnswer(words="EXIT", zooms=()),
            "EXIT",
            {"words": "EXIT", "zooms": []},
            id="zoom",
        ),
        pytest.param(
            QueryMessage(
                task="act",
                text="Take it.",
                tools_json='[{"name": "grasp", "parameters": {"type": "object"}}]',
            ),
            Step(words="", calls=(ToolCall(name="grasp", arguments={"at": (1, 2)}),)),
            "",
            {"words": "", "calls": [{"name": "grasp", "arguments": {"at": [1, 2]}}]},
            id="act",
        ),
    ],
)
def test_each_kind_of_answer_comes_whole_as_json(world, asker, query, value, words, part):
    perception = saying(value)
    world.start(perception)
    asking = asker(Ask)
    handle = asking.ask(query)
    world.send()
    status, result = asking.result(handle)
    answer = json.loads(result.answer_json)
    assert (status, result.words) == (SUCCEEDED, words)
    assert {key: answer[key] for key in part} == part
    ((_, asked),) = perception.shown
    assert asked.text_level is (TextLevel.WORD if query.text_level else TextLevel.LINE)
    assert [tool.name for tool in asked.tools] == (["grasp"] if query.tools_json else [])


def test_a_video_has_the_true_times_of_its_frames_however_uneven(world, asker):
    perception = saying((Moment(start_s=0.4, end_s=2.0),))
    world.start(perception, video_buffer_s=8.0, max_image_age_s=0.0)
    stamps = send_at(world, 0.0, 0.4, 0.41, 1.7, 2.0, 2.9)
    asking = asker(Ask)
    handle = asking.ask(WHEN, video_s=2.6)
    newest_ns = world.send(stamp_ns=stamps[-1] + 10_000_000)
    status, result = asking.result(handle)
    assert status == SUCCEEDED, result.message
    (((clip,), query),) = perception.shown
    assert isinstance(clip, Clip)
    # Of the last 2.6 s; of two a hundredth of a second apart (4 a second are kept) the first.
    kept = [stamps[n] for n in (1, 3, 4, 5)]
    assert [frame.stamp_ns for frame in clip.frames] == kept
    assert [int(frame.image[0, 0, 0]) for frame in clip.frames] == [1, 3, 4, 5]
    assert nanoseconds(result.header.stamp) == kept[0], "times count from the first frame shown"
    assert json.loads(result.answer_json)["moments"] == [
        {"start_s": 0.4, "end_s": 2.0, "label": ""}
    ]
    assert world.status_of(newest_ns).task == "locate_moment"
    assert query.text == "the mug falls"
    assert world.spin_through_a_picture().query_id == "query-1"


def test_several_pictures_are_spread_evenly_over_the_time_asked(world, asker):
    perception = saying("The mug has gone.")
    world.start(perception, video_buffer_s=8.0, max_image_age_s=0.0)
    stamps = send_at(world, 0.0, 1.0, 1.3, 2.0, 2.6, 4.0)
    asking = asker(Ask)
    query = QueryMessage(task="compare", text="What changed?")
    handle = asking.ask(query, video_s=5.0, pictures=3)
    world.send(stamp_ns=stamps[-1] + 10_000_000)
    status, result = asking.result(handle)
    assert (status, result.words) == (SUCCEEDED, "The mug has gone.")
    ((views, _),) = perception.shown
    assert [view.stamp_ns for view in views] == [stamps[0], stamps[3], stamps[5]]
    assert nanoseconds(result.header.stamp) == stamps[0]


def test_a_video_that_is_shorter_than_asked_says_so(world, asker):
    world.start(saying(()), video_buffer_s=8.0, max_image_age_s=0.0)
    stamps = send_at(world, 0.0, 0.5, 1.0)
    asking = asker(Ask)
    handle = asking.ask(WHEN, video_s=8.0)
    world.send(stamp_ns=stamps[-1] + 10_000_000)
    status, result = asking.result(handle)
    assert (status, result.complete) == (SUCCEEDED, True)
    assert "go back 1.0 s, not 8" in result.message
    assert json.loads(result.answer_json)["notes"] == [result.message]


def test_a_video_after_the_camera_began_anew_holds_nothing_of_before(world, asker):
    perception = saying(())
    world.start(perception, video_buffer_s=8.0, max_image_age_s=0.0)
    send_at(world, 0.0, 0.5, 1.0)
    stamps = send_at(world, 0.0, 0.5, begin_ns=1_000_000_000_000)
    asking = asker(Ask)
    handle = asking.ask(WHEN, video_s=8.0)
    world.send(stamp_ns=stamps[-1] + 10_000_000)
    assert asking.result(handle)[0] == SUCCEEDED
    (((clip,), _),) = perception.shown
    assert [frame.stamp_ns for frame in clip.frames] == stamps


def test_a_video_of_too_few_pictures_is_refused_and_the_node_lives_on(world, asker):
    perception = saying(())
    world.start(perception, video_buffer_s=8.0, max_image_age_s=0.0)
    asking = asker(Ask)
    handle = asking.ask(WHEN, video_s=2.0)
    stamp_ns = world.send()
    status, result = asking.result(handle)
    assert status == ABORTED
    assert "1 pictures of the last 2 s are kept, expected at least 2" in result.message
    assert world.status_of(stamp_ns).outcome == InferenceStatus.BAD_FRAME
    assert not perception.shown
    assert world.spin_through_a_picture().outcome == InferenceStatus.OK


def test_memory_bounds_a_video(world, asker):
    """A megabyte holds two pictures of 500 kB."""
    perception = saying(())
    world.start(perception, video_buffer_s=8.0, video_buffer_mb=1)
    large = np.zeros((400, 416, 3), np.uint8)
    (node,) = world.nodes
    begin_ns = world.next_stamp_ns() - 5_000_000_000
    for n in range(4):
        world.send(image_message(large), stamp_ns=begin_ns + n * 500_000_000)
        world.until(lambda n=n: node._pairing.counts.images > n)
    asking = asker(Ask)
    handle = asking.ask(WHEN, video_s=2.0)
    world.send(image_message(large), stamp_ns=begin_ns + 1_510_000_000)
    assert asking.result(handle)[0] == SUCCEEDED
    (((clip,), _),) = perception.shown
    assert [(f.stamp_ns - begin_ns) // 10**6 for f in clip.frames] == [1000, 1500]


def test_a_distorted_camera_is_asked_about_undistorted_and_told_places_in_its_own_pixels(
    world, asker
):
    perception = saying(Count(uv_px=np.array([[60.0, 45.0]])))
    world.start(perception)
    world.with_depth()
    asking = asker(Ask)
    handle = asking.ask(MUGS)
    world.send(camera_info=camera_info_message(D=(-0.3, 0.1, 0.0, 0.0, 0.0)))
    status, result = asking.result(handle)
    assert status == SUCCEEDED
    ((u, v),) = [point["uv_px"] for point in json.loads(result.answer_json)["points"]]
    assert 50.0 < u < 60.0, "barrel distortion draws it to the middle"
    assert 35.0 < v < 45.0
    ((((frame,), _)),) = perception.shown
    assert frame.image[0, 0, 0] == 90, "black only where the lens did not look"


def test_without_a_buffer_a_video_is_refused_by_the_parameters_name(world, asker):
    world.start(saying(()))
    asking = asker(Ask)
    status, result = asking.result(asking.ask(WHEN, video_s=2.0))
    assert (status, result.words, result.answer_json) == (ABORTED, "", "")
    assert "the node keeps the pictures of 0 s" in result.message
    assert "start the node with a larger video_buffer_s" in result.message
    assert world.spin_through_a_picture().outcome == InferenceStatus.OK


def test_an_answer_that_cannot_be_read_aborts_and_is_never_an_empty_success(world, asker):
    def unreadable(views, query):
        raise AnswerError("the answer is no JSON list; ask again", answer_text="blah")

    world.start(ScriptedPerception(one_mug, reply=unreadable))
    asking = asker(Ask)
    handle = asking.ask(MUGS)
    stamp_ns = world.send()
    status, result = asking.result(handle)
    assert (status, result.answer_json) == (ABORTED, "")
    assert "no JSON list" in result.message
    told = world.status_of(stamp_ns)
    assert (told.outcome, told.answer_text) == (InferenceStatus.UNREADABLE, "blah")
    world.diagnostic("inference", b"\x02", "no JSON list")
    world.spin_through_a_picture()
    world.diagnostic("inference", b"\x00")


def test_an_answer_that_broke_off_is_handed_over_and_said_to_be(world, asker):
    world.start(saying("It is a", complete=False, notes=("cut after 3 tokens",)))
    asking = asker(Ask)
    handle = asking.ask(WHAT)
    stamp_ns = world.send()
    status, result = asking.result(handle)
    assert (status, result.words, result.complete) == (SUCCEEDED, "It is a", False)
    assert "broke off" in result.message
    assert "cut after 3 tokens" in result.message
    assert world.status_of(stamp_ns).outcome == InferenceStatus.TRUNCATED


def test_what_speaks_against_an_answer_goes_to_who_asked_and_into_the_log(world, asker, capfd):
    doubt = "this engine was not taught 'ask'; its answer may be noise; taught: refer"
    world.start(saying("A mug.", warnings=(doubt,), notes=("odd",)))
    asking = asker(Ask)
    handle = asking.ask(WHAT)
    world.send()
    status, result = asking.result(handle)
    assert (status, result.words, result.message) == (SUCCEEDED, "A mug.", f"{doubt} odd")
    assert json.loads(result.answer_json)["notes"] == [doubt, "odd"]
    world.diagnostic("inference", b"\x01", doubt)
    assert capfd.readouterr().err.count(doubt) == 1


def test_what_the_model_says_reaches_the_wire_without_control_characters(world, asker):
    world.start(saying("a\x1b[31mb\nc", answer_text="\x07\ud800"))
    asking = asker(Ask)
    handle = asking.ask(WHAT)
    world.send()
    _, result = asking.result(handle)
    assert result.words == "a[31mb\nc"
    assert json.loads(result.answer_json)["answer"] == "\x07\ud800"
    assert result.answer_json.isascii()
    assert result.answer_json.isprintable()


def test_a_goal_that_waits_or_is_being_answered_can_be_cancelled(world, asker):
    perception = saying("A mug.")
    world.start(perception)
    asking = asker(Ask)
    waiting = asking.ask(WHAT)
    world.until(waiting.cancel_goal_async().done)
    assert asking.result(waiting)[0] == GoalStatus.STATUS_CANCELED
    perception.may_answer.clear()
    busy = asking.ask(WHAT)
    world.send()
    world.until(lambda: perception.shown)
    world.until(busy.cancel_goal_async().done)
    perception.may_answer.set()
    assert asking.result(busy)[0] == GoalStatus.STATUS_CANCELED
    assert len(perception.shown) == 1


def test_both_actions_and_the_standing_question_take_turns(world, asker):
    world.start(saying("A mug."))
    ground, ask = asker(), asker(Ask)
    first = ask.ask(WHAT)
    second = ground.ask(QueryMessage(task="refer", text="the mug", id="place"))
    ids = [world.spin_through_a_picture().query_id for _ in range(3)]
    assert ids == ["goal", "query-1", "place"]
    assert ask.result(first)[1].words == "A mug."
    assert len(ground.result(second)[1].detections_2d.detections) == 1


def test_every_stage_that_a_goal_can_be_told_is_listed_where_clients_read():
    feedback = (ROOT / "action" / "Ask.action").read_text().rpartition("---")[2]
    for stage in ("waiting for image", *STAGES):
        assert (f'"{stage}"' in feedback) == (stage != "lift")
