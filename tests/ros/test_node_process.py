# SPDX-License-Identifier: Apache-2.0
"""The node as a process among processes: heard by strangers, and gone when told to go."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros import node as grounding_node
from qwen3vl_ros.ros import synthetic_camera, topics
from qwen3vl_ros.srv import SetQuery
from tests.ros.graph import CAMERA, ScriptedPerception, nanoseconds, one_mug

# A stopping node gives the picture in hand two seconds; the rest is middleware.
STOPS_WITHIN_S = 3.0

# Knows vision_msgs and nothing of this package.
OUTSIDER = """
import json, sys
import rclpy
from vision_msgs.msg import Detection2DArray, Detection3DArray
rclpy.init()
node = rclpy.create_node("outsider")
got = {}
def hear(kind, name):
    node.create_subscription(kind, name, lambda message: got.setdefault(name, message), 10)
hear(Detection2DArray, "/qwen3vl/detections_2d")
hear(Detection3DArray, "/qwen3vl/detections_3d")
while len(got) < 2:
    rclpy.spin_once(node, timeout_sec=0.2)
assert not any(name.startswith("qwen3vl_ros") for name in sys.modules)
flat, solid = got["/qwen3vl/detections_2d"], got["/qwen3vl/detections_3d"]
print(json.dumps({
    "frame_id": solid.header.frame_id,
    "stamp": [solid.header.stamp.sec, solid.header.stamp.nanosec],
    "labels": [d.results[0].hypothesis.class_id for d in flat.detections],
    "x": solid.detections[0].bbox.center.position.x,
    "size_z": solid.detections[0].bbox.size.z,
}), flush=True)
"""

# The node with a model that may never come back.
STUCK = """
import sys, time
import rclpy
from qwen3vl_ros.ros.asked_model import AskedModel
from qwen3vl_ros.ros.node import run
from tests.ros.graph import ScriptedPerception, grounding_of
def think(frame, query):
    if query.text == "the bug":
        raise ZeroDivisionError
    if query.text == "the slow one":
        time.sleep(600)
    if query.text == "the last one":
        rclpy.shutdown()  # as a signal does, with the answer still to be published
    return grounding_of(frame, query)
asked = AskedModel(perceiver=ScriptedPerception(think))
sys.exit(run(load=lambda engine_dir, parameters: asked))
"""


@pytest.fixture(scope="module")
def slowness_s() -> float:
    """What this machine takes for a bare rclpy process: half a second, or many beside a training.

    A limit in seconds means an idle machine; this much is added for the one at hand.
    """
    began = time.monotonic()
    bare = "import rclpy; rclpy.init(); rclpy.create_node('bare').destroy_node(); rclpy.shutdown()"
    subprocess.run([sys.executable, "-c", bare], check=True, timeout=120)
    return time.monotonic() - began


def test_a_stranger_who_knows_only_vision_msgs_reads_the_detections(world, spawn):
    world.start(ScriptedPerception(one_mug))
    world.with_depth()
    outsider = spawn("-c", OUTSIDER)
    sent = []

    def heard() -> bool:
        sent.append(world.send())
        world.status_of(sent[-1])
        return outsider.popen.poll() is not None

    world.until(heard, timeout_s=120.0)
    outsider.close()
    assert outsider.popen.returncode == 0, "".join(outsider.err)
    said = json.loads("".join(outsider.out))
    assert said.pop("stamp") in [[ns // 10**9, ns % 10**9] for ns in sent]
    assert said == {"frame_id": CAMERA, "labels": ["mug"], "x": 0.1, "size_z": 0.3}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_an_idle_node_goes_when_told_to(world, spawn, tmp_path, slowness_s, signal_number):
    """Without an engine, too, it lives, serves, and ends with 0."""
    node = spawn(
        "-m", "qwen3vl_ros.ros.node", "--ros-args", "-p", f"engine_dir:={tmp_path / 'none'}"
    )
    world.listen(topics.DIAGNOSTICS, wait_for_publisher=False)
    world.until(lambda: world.got["/diagnostics"], timeout_s=120.0)
    took_s = node.stop(signal_number)
    node.close()
    errors = "".join(node.err)
    assert node.popen.returncode == 0, errors
    assert took_s < STOPS_WITHIN_S + slowness_s
    assert errors.count("[ERROR]") == 1
    assert "cannot configure" in errors
    assert "Traceback" not in errors
    assert "terminate called" not in errors


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_node_in_another_process_is_asked_answers_and_goes_even_when_its_model_hangs(
    world, spawn, slowness_s, signal_number
):
    node = spawn("-c", STUCK)
    world.listen(topics.STATUS, wait_for_publisher=False)
    question = SetQuery.Request(query=QueryMessage(task="refer", text="the quick one", id="quick"))
    world.until(lambda: world.image_out.get_subscription_count() > 0, timeout_s=120.0)
    # It serves before it is active, and says so.
    world.until(lambda: world.call(SetQuery, "/qwen3vl/set_query", question).success)

    def answered() -> InferenceStatus | None:
        world.send()
        return world.until_soon(lambda: world.got["~/status"])

    (status, *_) = world.until(answered)
    assert status.query_id == "quick"
    assert nanoseconds(status.header.stamp) <= world.last_stamp_ns
    question.query.text = "the slow one"
    assert world.call(SetQuery, "/qwen3vl/set_query", question).success
    before = len(world.got["~/status"])
    world.send()
    world.send()
    world.until_soon(lambda: len(world.got["~/status"]) > before + 2)
    took_s = node.stop(signal_number)
    node.close()
    errors = "".join(node.err)
    assert node.popen.returncode == 0, errors
    assert took_s < STOPS_WITHIN_S + slowness_s
    assert "Traceback" not in errors
    assert "terminate called" not in errors


def test_a_bug_ends_the_process_with_its_traceback_instead_of_a_node_that_is_deaf(world, spawn):
    node = spawn("-c", STUCK)
    question = SetQuery.Request(query=QueryMessage(task="refer", text="the bug"))
    world.until(lambda: world.image_out.get_subscription_count() > 0, timeout_s=120.0)
    world.until(lambda: world.call(SetQuery, "/qwen3vl/set_query", question).success)

    def ended() -> bool:
        world.send()
        return world.until_soon(lambda: node.popen.poll() is not None)

    world.until(ended)
    node.close()
    assert node.popen.returncode == 1
    assert "ZeroDivisionError" in "".join(node.err)


def test_a_signal_that_comes_while_an_answer_is_published_is_no_error(world, spawn):
    node = spawn("-c", STUCK)
    question = SetQuery.Request(query=QueryMessage(task="refer", text="the last one"))
    world.until(lambda: world.image_out.get_subscription_count() > 0, timeout_s=120.0)
    world.until(lambda: world.call(SetQuery, "/qwen3vl/set_query", question).success)

    def ended() -> bool:
        world.send()
        return world.until_soon(lambda: node.popen.poll() is not None)

    world.until(ended)
    node.close()
    errors = "".join(node.err)
    assert node.popen.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_broken_parameter_ends_the_process_with_one_error(world, spawn):
    node = spawn("-m", "qwen3vl_ros.ros.node", "--ros-args", "-p", "task:=find")
    assert node.popen.wait(timeout=120) == 1
    node.close()
    (line,) = [line for line in node.err if line.strip()]
    assert "[FATAL]" in line
    assert "expected one of detect, refer, point, detect_3d" in line


@pytest.mark.parametrize(
    ("run", "arguments"),
    [
        pytest.param(grounding_node.run, ["-p", "autostart:=false"], id="node"),
        pytest.param(synthetic_camera.run, ["-p", "motion:=static"], id="synthetic camera"),
    ],
)
def test_a_signal_between_asking_and_waiting_is_no_error(monkeypatch, run, arguments):
    """rclpy then finds no context to wait in; it once ended the node with 1 and a traceback."""

    def told_to_go(executor, timeout_sec):
        rclpy.shutdown()
        raise RuntimeError("failed to initialize wait set: the given context is not valid")

    monkeypatch.setattr(SingleThreadedExecutor, "spin_once", told_to_go)
    assert run(["--ros-args", *arguments]) == 0


def test_any_other_error_of_the_middleware_is_not_swallowed(monkeypatch):
    def failing(executor, timeout_sec):
        raise RuntimeError("failed to initialize wait set: out of memory")

    monkeypatch.setattr(SingleThreadedExecutor, "spin_once", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        grounding_node.run(["--ros-args", "-p", "autostart:=false"])
