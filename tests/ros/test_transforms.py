# SPDX-License-Identifier: Apache-2.0
"""Sources of transforms: one contract for all, over real topics; and waiting with a deadline."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from qwen3vl_ros.errors import MissingDependency, TransformError
from qwen3vl_ros.ros.transform_buffer import (
    ConnectivityException,
    InvalidArgumentException,
    LookupException,
    TransformBuffer,
)
from qwen3vl_ros.ros.transform_history import ExtrapolationException
from qwen3vl_ros.ros.transforms import (
    DYNAMIC_QOS,
    STATIC_QOS,
    BuiltinTransformSource,
    Tf2TransformSource,
    TransformSource,
    lookup_with_deadline,
    transform_source,
)
from qwen3vl_ros.scene.geometry import Array
from tests.ros.graph import PATIENCE_S

SECOND = 1_000_000_000
QUARTER_TURN = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))  # about z


def tf2_module() -> ModuleType:
    """tf2_ros where there is one, else what stands in for it."""
    try:
        import tf2_ros
    except ImportError:
        from tests.ros import tf2_ros_stand_in as tf2_ros
    return tf2_ros


def transform(
    parent: str,
    child: str,
    at_s: float = 1.0,
    x: float = 0.0,
    quat_xyzw: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0),
) -> TransformStamped:
    seconds, rest = divmod(round(at_s * SECOND), SECOND)
    stamp = Time(sec=seconds, nanosec=rest)
    stamped = TransformStamped(header=Header(frame_id=parent, stamp=stamp), child_frame_id=child)
    stamped.transform.translation.x = x
    q = stamped.transform.rotation
    q.x, q.y, q.z, q.w = quat_xyzw
    return stamped


class Graph:
    """A node with a source of transforms, and a publisher of them."""

    def __init__(self) -> None:
        rclpy.init()
        self.node, self.robot = Node("listener"), Node("robot")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.robot)
        self.tf = self.robot.create_publisher(TFMessage, "/tf", DYNAMIC_QOS)
        self.tf_static = self.robot.create_publisher(TFMessage, "/tf_static", STATIC_QOS)
        self._marks = 0

    def say(self, source: TransformSource, *moving: TransformStamped) -> None:
        """Publishes, and returns when the source has heard it all."""
        self.until(lambda: self.tf.get_subscription_count() > 0)
        self._marks += 1
        mark = transform("marks", f"mark{self._marks}", at_s=1.0)
        self.tf.publish(TFMessage(transforms=[*moving, mark]))
        self.until(lambda: is_known(source, "marks", f"mark{self._marks}", 1.0))

    def say_static(self, *static: TransformStamped) -> None:
        self.tf_static.publish(TFMessage(transforms=list(static)))

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(PATIENCE_S / 0.05)):
            if condition():
                return
            self.executor.spin_once(timeout_sec=0.05)
        raise AssertionError("the condition never held")

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.robot.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture(params=["built-in", "tf2_ros"])
def listen(
    request: pytest.FixtureRequest, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], TransformSource]:
    """Makes the source, which listens from then on."""
    if request.param == "built-in":
        return lambda: BuiltinTransformSource(graph.node)
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_module())
    return lambda: Tf2TransformSource(graph.node)


@pytest.fixture
def source(listen: Callable[[], TransformSource]) -> TransformSource:
    return listen()


def lookup(source: TransformSource, target: str, child: str, at_s: float) -> Array:
    return source.lookup(target=target, source=child, stamp_ns=round(at_s * SECOND))


def is_known(source: TransformSource, target: str, child: str, at_s: float) -> bool:
    try:
        lookup(source, target, child, at_s)
    except TransformError:
        return False
    return True


# The contract ----------------------------------------------------------------------------------


def test_what_is_published_is_looked_up_at_its_stamp(
    graph: Graph, source: TransformSource
) -> None:
    """The camera is 2 m ahead of base and turned left: its x is base's y."""
    graph.say(source, transform("base", "camera", at_s=5.0, x=2.0, quat_xyzw=QUARTER_TURN))
    T_base_camera = lookup(source, "base", "camera", 5.0)
    expected = [[0, -1, 0, 2], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert T_base_camera.shape == (4, 4)
    assert T_base_camera.dtype == np.float64
    np.testing.assert_allclose(T_base_camera, expected, atol=1e-12)


def test_between_stamps_it_is_interpolated_and_never_the_latest(
    graph: Graph, source: TransformSource
) -> None:
    graph.say(source, *(transform("odom", "base", at_s=s, x=s) for s in (1.0, 2.0, 3.0)))
    assert lookup(source, "odom", "base", 1.25)[0, 3] == pytest.approx(1.25)
    assert lookup(source, "odom", "base", 0.0)[0, 3] == pytest.approx(3.0)


def test_a_static_transform_said_before_we_listened_is_heard(
    graph: Graph, listen: Callable[[], TransformSource]
) -> None:
    graph.say_static(transform("base", "camera", x=0.5))
    source = listen()
    graph.until(lambda: is_known(source, "base", "camera", 99.0))
    assert lookup(source, "base", "camera", 99.0)[0, 3] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("target", "child", "at_s", "error"),
    [
        pytest.param("base", "nowhere", 1.0, LookupException, id="unknown frame"),
        pytest.param("odom", "sun", 1.0, ConnectivityException, id="another tree"),
        pytest.param("odom", "base", 9.0, ExtrapolationException, id="future"),
        pytest.param("odom", "base", 0.5, ExtrapolationException, id="past"),
        pytest.param("", "base", 1.0, InvalidArgumentException, id="no name"),
    ],
)
def test_what_cannot_be_looked_up_raises_its_own_error(
    graph: Graph,
    source: TransformSource,
    target: str,
    child: str,
    at_s: float,
    error: type[TransformError],
) -> None:
    moving = [transform("odom", "base", at_s=s) for s in (1.0, 2.0)]
    graph.say(source, *moving, transform("galaxy", "sun"))
    with pytest.raises(error):
        lookup(source, target, child, at_s)


@pytest.mark.parametrize(("at_s", "is_past"), [(0.5, True), (9.0, False)], ids=["past", "future"])
def test_the_past_is_told_from_the_future(
    graph: Graph, source: TransformSource, at_s: float, is_past: bool
) -> None:
    graph.say(source, *(transform("odom", "base", at_s=s) for s in (1.0, 2.0)))
    with pytest.raises(ExtrapolationException) as caught:
        lookup(source, "odom", "base", at_s)
    assert caught.value.is_past is is_past


def test_after_a_reset_the_past_may_be_said_again_and_static_transforms_stand(
    graph: Graph, source: TransformSource
) -> None:
    graph.say_static(transform("base", "camera", x=0.5))
    graph.say(source, transform("odom", "base", at_s=100.0, x=7.0))
    graph.until(lambda: is_known(source, "odom", "camera", 100.0))
    source.reset()
    assert not is_known(source, "odom", "base", 100.0)
    graph.say(source, transform("odom", "base", at_s=3.0, x=1.0))
    assert lookup(source, "odom", "camera", 3.0)[0, 3] == pytest.approx(1.5)


# The built-in one alone, and the choice --------------------------------------------------------


def test_a_transform_that_means_nothing_is_counted_and_the_rest_of_the_message_taken(
    graph: Graph,
) -> None:
    source = BuiltinTransformSource(graph.node)
    bad = transform("base", "camera", x=float("nan"))
    graph.say(source, bad, transform("base", "base"), transform("base", "arm", x=1.0))
    assert source.refused == 2
    assert not is_known(source, "base", "camera", 1.0)
    assert lookup(source, "base", "arm", 1.0)[0, 3] == 1.0


def test_without_tf2_ros_the_built_in_source_serves(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    assert isinstance(transform_source(graph.node), BuiltinTransformSource)


def test_with_tf2_ros_it_is_used(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_module())
    assert isinstance(transform_source(graph.node), Tf2TransformSource)


def test_without_tf2_msgs_it_says_what_to_install(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    with pytest.raises(MissingDependency, match="tf2_msgs") as caught:
        BuiltinTransformSource(graph.node)
    assert caught.value.package == "tf2_msgs"


# Waiting with a deadline -----------------------------------------------------------------------


class Waiting:
    """Time that passes only in pauses; what is pending is inserted when its time has come."""

    def __init__(self, *, arrives_after_s: float | None = None) -> None:
        self.now_s, self.lookups = 50.0, 0
        self.buffer = TransformBuffer()
        self.arrives_s = None if arrives_after_s is None else self.now_s + arrives_after_s
        self.hear(at_s=1.0)
        self.hear(at_s=2.0)

    def hear(self, *, at_s: float) -> None:
        self.buffer.insert(
            parent="odom",
            child="base",
            stamp_ns=round(at_s * SECOND),
            translation=(at_s, 0.0, 0.0),
            quat_xyzw=(0.0, 0.0, 0.0, 1.0),
        )

    def lookup(self, *, target: str, source: str, stamp_ns: int) -> Array:
        self.lookups += 1
        return self.buffer.lookup(target=target, source=source, stamp_ns=stamp_ns)

    def reset(self) -> None:
        self.buffer.reset()

    def pause(self, duration_s: float) -> None:
        assert duration_s > 0
        self.now_s += duration_s
        if self.arrives_s is not None and self.now_s >= self.arrives_s:
            self.hear(at_s=3.0)

    def wait_for(self, at_s: float, *, timeout_s: float, **asked: Any) -> Array:
        return lookup_with_deadline(
            self,
            **({"target": "odom", "source": "base"} | asked),
            stamp_ns=round(at_s * SECOND),
            timeout_s=timeout_s,
            poll_s=0.01,
            clock=lambda: self.now_s,
            pause=self.pause,
        )


def test_a_transform_that_comes_in_time_is_waited_for() -> None:
    waiting = Waiting(arrives_after_s=0.055)
    assert waiting.wait_for(2.5, timeout_s=0.2)[0, 3] == pytest.approx(2.5)
    assert waiting.now_s == pytest.approx(50.06)


def test_a_transform_that_does_not_come_is_given_up_at_the_deadline() -> None:
    waiting = Waiting(arrives_after_s=5.0)
    with pytest.raises(TransformError, match=r"into the future.*waited 0\.20 s") as caught:
        waiting.wait_for(2.5, timeout_s=0.2)
    assert waiting.now_s == pytest.approx(50.2)
    assert isinstance(caught.value.__cause__, ExtrapolationException)


def test_a_frame_not_yet_heard_of_is_waited_for() -> None:
    waiting = Waiting()
    with pytest.raises(TransformError, match=r"does not exist.*waited 0\.20 s"):
        waiting.wait_for(1.5, timeout_s=0.2, source="arm")


@pytest.mark.parametrize(
    ("at_s", "asked"),
    [pytest.param(0.5, {}, id="past"), pytest.param(1.5, {"target": ""}, id="no name")],
)
def test_what_cannot_come_is_not_waited_for(at_s: float, asked: dict[str, str]) -> None:
    waiting = Waiting()
    with pytest.raises(TransformError, match=r"waited 0\.00 s"):
        waiting.wait_for(at_s, timeout_s=0.2, **asked)
    assert waiting.lookups == 1


def test_without_a_timeout_it_is_looked_up_once() -> None:
    waiting = Waiting()
    with pytest.raises(TransformError):
        waiting.wait_for(2.5, timeout_s=0.0)
    assert waiting.lookups == 1
