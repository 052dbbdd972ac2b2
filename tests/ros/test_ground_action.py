# SPDX-License-Identifier: Apache-2.0
"""One question to the newest picture: answers, refusals, turns and cancelling."""

from __future__ import annotations

from pathlib import Path

import pytest
from action_msgs.msg import GoalStatus

from qwen3vl_ros.model.stopwatch import STAGES
from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros import goals
from tests.ros.graph import CAMERA, ScriptedPerception, image_message, one_mug

ROOT = Path(__file__).resolve().parents[2]


A_MUG = QueryMessage(task="refer", text="the mug", id="goal")


def test_a_goal_is_answered_from_the_next_picture_and_the_question_stays(world, asker):
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    world.with_depth()
    asking = asker()
    handle = asking.ask(A_MUG)
    assert handle.accepted
    stamp_ns = world.send()
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.complete
    assert result.detections_2d.header.frame_id == CAMERA
    assert len(result.detections_2d.detections) == len(result.detections_3d.detections) == 1
    assert world.status_of(stamp_ns).query_id == "goal"
    assert world.at("~/detections_2d", stamp_ns) == [], "topics hold the standing question's"
    assert asking.stages == ["waiting for image", "vision", "transform"]
    assert world.spin_through_a_picture().query_id == "query-1"
    assert node.get_parameter("text").value == ""


def test_a_goals_answer_is_not_told_as_the_first_on_the_topics(world, asker, capfd):
    world.start(ScriptedPerception(one_mug), categories=None)
    asking = asker()
    handle = asking.ask(A_MUG)
    world.send()
    assert asking.result(handle)[0] == GoalStatus.STATUS_SUCCEEDED
    assert "first answer" not in capfd.readouterr().err


def test_goals_and_the_standing_question_take_turns(world, asker):
    world.start(ScriptedPerception(one_mug))
    asking = asker()
    handles = [asking.ask(A_MUG) for _ in range(2)]
    ids = [world.spin_through_a_picture().query_id for _ in range(3)]
    assert ids == ["goal", "query-1", "goal"]
    assert [asking.result(handle)[0] for handle in handles] == [GoalStatus.STATUS_SUCCEEDED] * 2


@pytest.mark.parametrize("pictures_before", [0, 1], ids=["first", "after-another-goal"])
def test_a_goal_that_sees_no_picture_is_ended_whoevers_turn_it_is(
    world, asker, monkeypatch, pictures_before
):
    """Once, after a goal was answered and the camera stopped, the next goal never ended: it was
    the standing question's turn, and only a goal whose turn it was was ever given up.
    """
    monkeypatch.setattr(goals, "IMAGE_WAIT_S", 0.1)
    world.start(ScriptedPerception(one_mug))
    asking = asker()
    for _ in range(pictures_before):
        handle = asking.ask(A_MUG)
        world.send()
        assert asking.result(handle)[0] == GoalStatus.STATUS_SUCCEEDED
    status, result = asking.result(asking.ask(A_MUG))
    assert status == GoalStatus.STATUS_ABORTED
    assert "no image came" in result.message


def test_a_goal_without_calibration_is_told_why_it_has_nothing_in_3d(world, asker):
    world.start(ScriptedPerception(one_mug))
    asking = asker()
    handle = asking.ask(A_MUG)
    world.send()
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert len(result.detections_2d.detections) == 1
    assert list(result.detections_3d.detections) == []
    assert "no camera_info has come" in result.message


def test_an_empty_question_is_aborted_with_the_reason(world, asker):
    world.start(ScriptedPerception(one_mug))
    asking = asker()
    status, result = asking.result(asking.ask(QueryMessage(task="refer")))
    assert status == GoalStatus.STATUS_ABORTED
    assert "has no text" in result.message
    assert world.spin_through_a_picture().query_id == "query-1"


def test_a_question_of_another_kind_is_sent_on_to_ask(world, asker):
    world.start(ScriptedPerception(one_mug))
    asking = asker()
    status, result = asking.result(asking.ask(QueryMessage(task="count", text="mugs")))
    assert status == GoalStatus.STATUS_ABORTED
    assert "no matter of place in one picture" in result.message
    assert "send it to the action ~/ask" in result.message


def test_a_frame_that_cannot_be_reached_aborts_instead_of_answering_in_another(world, asker):
    world.start(ScriptedPerception(one_mug), tf_timeout_s=0.0)
    world.with_depth()
    asking = asker()
    handle = asking.ask(A_MUG, frame_id="base_link")
    world.send()
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert "base_link" in result.message
    assert list(result.detections_3d.detections) == []


def test_a_frame_that_cannot_be_reached_aborts_also_with_nothing_to_place(world, asker):
    """Without depth there is nothing to transform; the asker counts on the frame all the same."""
    world.start(ScriptedPerception(), tf_timeout_s=0.0)
    asking = asker()
    handle = asking.ask(A_MUG, frame_id="base_link")
    stamp_ns = world.send()
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert "spelled as in /tf" in result.message
    assert world.status_of(stamp_ns).outcome == InferenceStatus.NO_TRANSFORM


def test_an_empty_answer_is_in_the_frame_that_the_goal_names(world, asker):
    world.start(ScriptedPerception())
    world.send_transform("base_link", CAMERA, (0.0, 0.0, 0.0))
    asking = asker()
    handle = asking.ask(A_MUG, frame_id="base_link")
    world.send()
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.detections_3d.header.frame_id == "base_link"
    assert list(result.detections_3d.detections) == []


def test_every_stage_that_a_goal_can_be_told_is_listed_where_clients_read():
    text = (ROOT / "action" / "Ground.action").read_text()
    feedback = text.rpartition("---")[2]
    for stage in ("waiting for image", *STAGES, "transform"):
        assert f'"{stage}"' in feedback


def test_a_picture_that_cannot_be_read_aborts_with_the_reason(world, asker):
    world.start(ScriptedPerception(one_mug))
    asking = asker()
    handle = asking.ask(A_MUG)
    world.send(image_message(encoding="foo8"))
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert "foo8" in result.message


def test_a_waiting_goal_is_cancelled_at_once(world, asker):
    perception = ScriptedPerception(one_mug)
    world.start(perception)
    asking = asker()
    handle = asking.ask(A_MUG)
    future = handle.cancel_goal_async()
    world.until(future.done)
    status, _ = asking.result(handle)
    assert status == GoalStatus.STATUS_CANCELED
    world.spin_through_a_picture()
    assert [query.query_id for _, query in perception.seen] == ["query-1"]


def test_a_goal_that_the_model_is_busy_with_is_cancelled_when_it_is_done(world, asker):
    perception = ScriptedPerception(one_mug)
    world.start(perception)
    perception.may_answer.clear()
    asking = asker()
    handle = asking.ask(A_MUG)
    world.send()
    world.until(lambda: perception.seen)
    future = handle.cancel_goal_async()
    world.until(future.done)
    perception.may_answer.set()
    status, _ = asking.result(handle)
    assert status == GoalStatus.STATUS_CANCELED


def test_a_goal_that_the_model_is_busy_with_is_aborted_by_deactivation(world, asker):
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    perception.may_answer.clear()
    asking = asker()
    handle = asking.ask(A_MUG)
    world.send()
    world.until(lambda: perception.seen)
    node.trigger_deactivate()
    perception.may_answer.set()
    status, result = asking.result(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert list(result.detections_2d.detections) == []
    assert "deactivated" in result.message


def test_the_queue_of_goals_is_short_and_an_inactive_node_takes_none(world, asker):
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    asking = asker()
    handles = [asking.ask(A_MUG) for _ in range(5)]
    assert [handle.accepted for handle in handles] == [True] * 4 + [False]
    node.trigger_deactivate()
    assert {asking.result(handle)[0] for handle in handles[:4]} == {GoalStatus.STATUS_ABORTED}
    assert not asking.ask(A_MUG).accepted
