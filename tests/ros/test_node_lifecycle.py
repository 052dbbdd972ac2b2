# SPDX-License-Identifier: Apache-2.0
"""Configure, activate, deactivate, clean up: what each promises, and life without an engine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros.asked_model import AskedModel, load_perception
from qwen3vl_ros.ros.node import GroundingNode
from qwen3vl_ros.srv import SetQuery
from tests.ros.graph import ScriptedPerception, one_mug

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE


def state_of(world) -> str:
    return world.call(GetState, "/qwen3vl/get_state", GetState.Request()).current_state.label


def change(world, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return world.call(ChangeState, "/qwen3vl/change_state", request).success


def test_a_manager_brings_the_node_up_and_down_by_its_services(world):
    perception = ScriptedPerception(one_mug)
    world.start(perception, autostart=False)
    assert state_of(world) == "unconfigured"
    assert perception.warmed_up == 0
    assert change(world, Transition.TRANSITION_CONFIGURE)
    assert perception.warmed_up == 1, "the first picture shall be as fast as the rest"
    assert change(world, Transition.TRANSITION_ACTIVATE)
    world.spin_through_a_picture()
    assert change(world, Transition.TRANSITION_DEACTIVATE)
    assert change(world, Transition.TRANSITION_CLEANUP)
    assert state_of(world) == "unconfigured"
    assert not change(world, Transition.TRANSITION_ACTIVATE), "not without an engine"
    assert state_of(world) == "unconfigured"


def test_an_inactive_node_is_silent_and_answers_no_questions(world):
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    world.spin_through_a_picture()
    assert node.trigger_deactivate() == SUCCESS
    before = len(world.got["~/status"])
    world.send()
    request = SetQuery.Request(query=QueryMessage(task="refer", text="the mug"))
    response = world.call(SetQuery, "/qwen3vl/set_query", request)
    assert not response.success
    assert "not active" in response.message
    # The image came after the first picture's, and was counted; nothing became of it.
    world.until(lambda: "2" in arrivals(world))
    assert len(world.got["~/status"]) == before
    assert len(perception.seen) == 1
    assert node.trigger_activate() == SUCCESS
    world.spin_through_a_picture()
    assert len(perception.seen) == 2, "the picture of before is not looked at late"


def arrivals(world) -> list[str]:
    """What diagnostics have said of images received."""
    return [
        value.value
        for message in world.got["/diagnostics"]
        for value in message.status[0].values
        if value.key == "Events since startup"
    ]


def test_an_answer_that_comes_after_deactivation_is_thrown_away(world):
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    perception.may_answer.clear()
    stamp_ns = world.send()
    world.until(lambda: perception.seen)
    assert node.trigger_deactivate() == SUCCESS
    perception.may_answer.set()
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_through_a_picture()
    assert world.at("~/detections_2d", stamp_ns) == []
    assert world.at("~/status", stamp_ns) == []


def test_nor_does_it_come_when_the_node_was_activated_again_meanwhile(world):
    """The picture is of before; a bag that was started anew is at another time by now."""
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    perception.may_answer.clear()
    stamp_ns = world.send()
    world.until(lambda: perception.seen)
    assert node.trigger_deactivate() == node.trigger_activate() == SUCCESS
    perception.may_answer.set()
    world.spin_through_a_picture()
    assert world.at("~/detections_2d", stamp_ns) == []
    assert world.at("~/status", stamp_ns) == []


def test_many_cycles_leave_nothing_behind(world):
    node = world.start(ScriptedPerception(one_mug))
    world.spin_through_a_picture()

    def entities() -> tuple[int, ...]:
        return (
            threading.active_count(),
            len(list(node.publishers)),
            len(list(node.subscriptions)),
            len(list(node.services)),
            len(list(node.timers)),
            len(list(node.waitables)),
        )

    before = entities()
    for _ in range(10):
        assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    assert entities() == before
    world.spin_through_a_picture()


def test_a_missing_engine_is_one_error_and_the_node_can_be_configured_later(
    world, capfd, tmp_path
):
    """With the real loader: the directory is not there."""
    engine_dir = tmp_path / "engine"
    loaded: list[Path] = []

    def load(path, parameters):
        if loaded:  # as if the engine had been built meanwhile
            return AskedModel(perceiver=ScriptedPerception(one_mug))
        loaded.append(path)
        return load_perception(path, parameters)

    node = world.start(load=load, engine_dir=str(engine_dir))
    assert loaded == [engine_dir]
    assert not node.is_active
    assert state_of(world) == "unconfigured"
    world.diagnostic("engine", b"\x02", str(engine_dir))
    errors = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert "cannot configure" in errors[0]
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_through_a_picture()
    world.diagnostic("engine", b"\x00")


def test_an_engine_that_fails_its_warm_up_is_refused(world):
    class Broken(ScriptedPerception):
        def ground(self, frame, query, **_):
            raise EngineError("the vision engine raised: out of memory")

    node = world.start(Broken(), autostart=False)
    assert node.trigger_configure() == FAILURE
    world.diagnostic("engine", b"\x02", "out of memory")
    assert state_of(world) == "unconfigured"


def test_a_node_whose_engine_is_busy_does_not_come_back_with_a_second_worker(world, monkeypatch):
    """After an error it once said it was unconfigured, while its worker was still at it."""
    monkeypatch.setattr("qwen3vl_ros.ros.node.CLEANUP_S", 0.01)
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    perception.may_answer.clear()
    world.send()
    world.until(lambda: perception.seen)
    assert node.trigger_deactivate() == SUCCESS
    somewhere = LifecycleState(state_id=State.PRIMARY_STATE_UNKNOWN, label="unknown")
    assert node.trigger_cleanup() == FAILURE
    assert node.on_error(somewhere) == FAILURE
    assert node.on_shutdown(somewhere) == FAILURE
    perception.may_answer.set()
    monkeypatch.setattr("qwen3vl_ros.ros.node.CLEANUP_S", 10.0)
    assert node.trigger_cleanup() == SUCCESS


def test_a_node_whose_worker_was_told_to_stop_is_not_active_again_without_one(
    world, monkeypatch, capfd
):
    """A cleanup that fails leaves the node inactive, and its worker stops after the picture in
    hand: activated then, the node once took pictures and goals that nobody answered.
    """
    monkeypatch.setattr("qwen3vl_ros.ros.node.CLEANUP_S", 0.01)
    perception = ScriptedPerception(one_mug)
    node = world.start(perception)
    perception.may_answer.clear()
    world.send()
    world.until(lambda: perception.seen)
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == FAILURE
    perception.may_answer.set()
    assert node.trigger_activate() == FAILURE
    assert not node.is_active
    assert "clean up again, then configure" in capfd.readouterr().err
    monkeypatch.setattr("qwen3vl_ros.ros.node.CLEANUP_S", 10.0)
    assert node.trigger_cleanup() == node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.spin_through_a_picture()


def test_a_bug_in_configure_ends_the_process_instead_of_being_swallowed(world):
    """rclpy turns an exception of a transition into a silent error."""

    def load(path, parameters):
        raise ZeroDivisionError

    node = GroundingNode(load=load)
    node.start()
    assert isinstance(node.crash, ZeroDivisionError)
    node.destroy_node()


def test_a_bug_in_the_worker_ends_the_process_instead_of_a_silent_thread(world):
    def answer(frame, query):
        raise ZeroDivisionError

    world.start(ScriptedPerception(answer))
    world.send()
    with pytest.raises(ZeroDivisionError):
        world.until(lambda: False)
    world.nodes.pop().destroy_node()
