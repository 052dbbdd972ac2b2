# SPDX-License-Identifier: Apache-2.0
"""`python -m qwen3vl_ros.ros.echo`: what comes on a topic, as a stranger would see it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseWithCovariance
from std_msgs.msg import String

from qwen3vl_ros.commands.standard_output import EXIT_UNREAD
from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.ros.echo import yaml_of_message
from tests.ros.graph import CAMERA, ScriptedPerception, image_message, one_mug

ECHO = ("-m", "qwen3vl_ros.ros.echo")


def test_fields_stand_in_their_order_and_nest():
    status = DiagnosticStatus(
        level=DiagnosticStatus.WARN, message="warm: 40 °C", values=[KeyValue(key="a", value="1")]
    )
    assert yaml_of_message(status) == (
        "level: \"\\x01\"\nname: ''\nmessage: 'warm: 40 °C'\nhardware_id: ''\n"
        "values:\n- key: a\n  value: '1'\n"
    )


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        pytest.param(InferenceStatus(lift_s=float("nan")), "lift_s", ".nan", id="not a number"),
        pytest.param(InferenceStatus(passes=7), "passes", "7", id="a number"),
        pytest.param(String(data="a\nb"), "data", '"a\\nb"', id="lines"),
    ],
)
def test_every_kind_of_value_can_be_read_back(message, field, value):
    shown = yaml_of_message(message)
    assert yaml.safe_load(f"{field}: {value}")[field] == pytest.approx(
        yaml.safe_load(shown)[field], nan_ok=True
    )


def test_arrays_of_fixed_length_are_plain_numbers():
    assert yaml.safe_load(yaml_of_message(PoseWithCovariance()))["covariance"] == [0.0] * 36


def test_what_is_long_is_cut_unless_all_of_it_is_wanted():
    image = image_message()
    data = yaml.safe_load(yaml_of_message(image))["data"]
    assert data == [*image.data[:128], "..."]
    assert yaml.safe_load(yaml_of_message(image, longest=None))["data"] == list(image.data)
    assert yaml.safe_load(yaml_of_message(String(data="x" * 129)))["data"] == "x" * 128 + "..."
    assert yaml.safe_load(yaml_of_message(String(data="x" * 128)))["data"] == "x" * 128


def test_once_prints_one_message_of_the_node_and_ends(world, spawn):
    world.start(ScriptedPerception(one_mug))
    echo = spawn(*ECHO, "/qwen3vl/detections_2d", "--once")

    def ended() -> bool:
        world.send()
        return world.until_soon(lambda: echo.popen.poll() is not None)

    world.until(ended, timeout_s=120.0)
    echo.close()
    assert echo.popen.returncode == 0, "".join(echo.err)
    (said,) = yaml.safe_load_all("".join(echo.out).removesuffix("---\n"))
    assert said["header"]["frame_id"] == CAMERA
    (found,) = said["detections"]
    assert found["results"][0]["hypothesis"] == {"class_id": "mug", "score": 0.9}


def test_what_was_published_before_it_began_is_heard_where_the_publisher_keeps_it(world, spawn):
    world.send_transform("base_link", CAMERA, (1.0, 2.0, 3.0))
    echo = spawn(*ECHO, "tf_static", "--once")
    world.until(lambda: echo.popen.poll() is not None, timeout_s=120.0)
    echo.close()
    (transform,) = yaml.safe_load("".join(echo.out).removesuffix("---\n"))["transforms"]
    assert transform["transform"]["translation"] == {"x": 1.0, "y": 2.0, "z": 3.0}


def test_where_nobody_publishes_it_says_so_once_and_waits(world, spawn):
    echo = spawn(*ECHO, "/qwen3vl/nothing")
    world.until(lambda: echo.err, timeout_s=120.0)
    echo.stop(signal.SIGINT)
    echo.close()
    said = "".join(echo.err)
    assert echo.popen.returncode == 0, said
    assert said.count("nobody publishes /qwen3vl/nothing yet") == 1
    assert f"in domain {world.domain.domain_id} (ROS_DOMAIN_ID); topics there: /image, " in said


def test_a_reader_who_has_enough_is_not_told_so(world):
    """As in `... | head`."""
    world.start(ScriptedPerception(one_mug))
    echo = subprocess.Popen(
        [sys.executable, *ECHO, "/qwen3vl/status"],
        env={**os.environ, "ROS_DOMAIN_ID": str(world.domain.domain_id)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.set_blocking(echo.stdout.fileno(), False)

    def said() -> str:
        world.send()
        world.until_soon(lambda: False)
        return echo.stdout.readline()

    assert world.until(said, timeout_s=120.0) == "header:\n"
    echo.stdout.close()

    def ended() -> bool:
        world.send()
        return world.until_soon(lambda: echo.poll() is not None)

    world.until(ended)
    errors = echo.stderr.read()
    echo.stderr.close()
    assert (echo.returncode, errors) == (EXIT_UNREAD, "")
