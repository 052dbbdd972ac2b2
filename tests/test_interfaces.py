# SPDX-License-Identifier: Apache-2.0
"""Our interfaces and the stand-ins for vision_msgs and tf2_msgs, as generated.

RIHS01 hashes (REP 2016) cover names, types and order of all fields, down into nested types;
comments, constants and defaults do not count. Two ends whose hashes differ do not understand each
other, so a slip in a field is seen here first.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

# Generated from the .msg files of ros-perception/vision_msgs 4.1.1 and of ros2/geometry2, not
# from ours.
UPSTREAM_HASHES = {
    "vision_msgs/msg/BoundingBox2D": (
        "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f"
    ),
    "vision_msgs/msg/BoundingBox2DArray": (
        "2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691"
    ),
    "vision_msgs/msg/BoundingBox3D": (
        "bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698"
    ),
    "vision_msgs/msg/BoundingBox3DArray": (
        "a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6"
    ),
    "vision_msgs/msg/Classification": (
        "f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143"
    ),
    "vision_msgs/msg/Detection2D": (
        "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"
    ),
    "vision_msgs/msg/Detection3D": (
        "ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b"
    ),
    "vision_msgs/msg/Detection3DArray": (
        "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    ),
    "vision_msgs/msg/LabelInfo": (
        "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783"
    ),
    "vision_msgs/msg/ObjectHypothesis": (
        "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90"
    ),
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc"
    ),
    "vision_msgs/msg/Point2D": "eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "vision_msgs/msg/Pose2D": "b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "vision_msgs/msg/VisionClass": (
        "1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a"
    ),
    "vision_msgs/msg/VisionInfo": (
        "95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284"
    ),
    "tf2_msgs/msg/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
}

# Version 2. A changed hash is a changed interface: say so in CHANGELOG.md.
OUR_HASHES = {
    "qwen3vl_ros/msg/Query": "cde795dfd7c536e4814b7aae7e8473e830b830713f8a0d4a0b519a3b60132491",
    "qwen3vl_ros/msg/InferenceStatus": (
        "7a6e43c0545a1a41eced3a4d2747f61f66ffe9a8e5d9a037bea1b4abf0fc9b60"
    ),
    "qwen3vl_ros/srv/SetQuery": "2e18c4f54cd30253750ca19279058c3bbe1d9b510a884ee94ffd0426097969d3",
    "qwen3vl_ros/action/Ask": "c382a8c6536ab40cdc895f0e2027e4d29307ab043f7ec2bae382af2f64632956",
    "qwen3vl_ros/action/Ground": (
        "f0cec8e8f359c32ea783680409d24826e46e7c9b4b61620ce0f276107c5d71fe"
    ),
}


def generated_hash(type_name: str) -> str:
    """RIHS01 hash of a type (`package/kind/Name`) in the prefix it was installed to."""
    package, kind, name = type_name.split("/")
    module = importlib.import_module(f"{package}.{kind}")
    for prefix in Path(module.__file__).parents:
        description = prefix / "share" / package / kind / f"{name}.json"
        if description.is_file():
            hashes = json.loads(description.read_text())["type_hashes"]
            return {h["type_name"]: h["hash_string"] for h in hashes}[type_name]
    pytest.skip(f"{package} was generated without type descriptions (before ROS 2 Iron)")


@pytest.mark.parametrize("type_name", [*UPSTREAM_HASHES, *OUR_HASHES])
def test_the_type_hash_is_the_one_the_other_end_has(type_name):
    expected = (UPSTREAM_HASHES | OUR_HASHES)[type_name]
    assert generated_hash(type_name) == f"RIHS01_{expected}"


def test_the_tasks_of_a_query_are_those_of_the_core():
    from qwen3vl_ros.msg import Query
    from qwen3vl_ros.scene.detections import Task, TextLevel

    for constant in (*Task, *TextLevel):
        assert getattr(Query, constant.name) == constant.value


def test_every_outcome_has_a_number_of_its_own():
    from qwen3vl_ros.msg import InferenceStatus

    names = ("OK", "TRUNCATED", "UNREADABLE", "BAD_FRAME", "BAD_QUERY", "NO_TRANSFORM")
    numbers = [getattr(InferenceStatus, name) for name in (*names, "ENGINE_FAILED")]
    assert numbers == list(range(7))


ASKER = """
import rclpy
from qwen3vl_ros.srv import SetQuery

rclpy.init()
node = rclpy.create_node("asker")
client = node.create_client(SetQuery, "set_query")
assert client.wait_for_service(timeout_sec=30), "no service"
request = SetQuery.Request()
request.query.task, request.query.text = request.query.REFER, "the réd cube"
future = client.call_async(request)
rclpy.spin_until_future_complete(node, future, timeout_sec=30)
print(future.result().success, future.result().query_id)
node.destroy_node()
rclpy.try_shutdown()
"""


def test_two_processes_exchange_a_query(monkeypatch):
    import rclpy

    from qwen3vl_ros.srv import SetQuery

    heard = []

    def answer(request, response):
        heard.append(request.query.text)
        response.success, response.query_id = True, "q1"
        return response

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", "83")
    context = rclpy.Context()
    context.init()
    node = rclpy.create_node("answerer", context=context)
    node.create_service(SetQuery, "set_query", answer)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        asker = subprocess.Popen([sys.executable, "-c", ASKER], stdout=subprocess.PIPE, text=True)
        while asker.poll() is None:
            executor.spin_once(timeout_sec=0.2)
        assert asker.stdout.read().split() == ["True", "q1"]
        assert heard == ["the réd cube"]
    finally:
        asker.stdout.close()
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
