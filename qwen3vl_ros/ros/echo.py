# SPDX-License-Identifier: Apache-2.0
"""What comes on a topic, printed as YAML: `ros2 topic echo` for machines without `ros2`.

Knows no topic of ours: its type is asked of whoever publishes it, and so is the QoS.
"""

from __future__ import annotations

import argparse
import array
import importlib
import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import rclpy
import yaml  # rclpy needs it, too
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from ..commands.standard_output import exit_code_of

SPIN_S = 0.2
IMPATIENT_AFTER_S = 3.0
# As `ros2 topic echo` cuts pictures and long texts.
LONGEST = 128
QUEUE_DEPTH = 10


def yaml_of_message(message: Any, *, longest: int | None = LONGEST) -> str:
    """A message as YAML, its fields in their order.

    Args:
        message: of any interface.
        longest: arrays and texts are cut after so many items; None cuts none.
    """
    written: str = yaml.safe_dump(
        _plain(message, longest), sort_keys=False, allow_unicode=True, width=math.inf
    )
    return written


def _plain(value: Any, longest: int | None) -> Any:
    if hasattr(value, "get_fields_and_field_types"):
        return {
            name: _plain(getattr(value, name), longest)
            for name in value.get_fields_and_field_types()
        }
    if isinstance(value, bytes):
        value = value.decode("latin-1")  # one character a byte
    if isinstance(value, str):
        return value if longest is None or len(value) <= longest else f"{value[:longest]}..."
    if isinstance(value, list | tuple | array.array | np.ndarray):
        items = [_plain(item, longest) for item in value[:longest]]
        return items if longest is None or len(value) <= longest else [*items, "..."]
    return value.item() if isinstance(value, np.generic) else value


class Echo(Node):
    """Prints one topic, as soon as somebody publishes it."""

    def __init__(self, topic: str, *, longest: int | None = LONGEST) -> None:
        super().__init__(f"echo_{os.getpid()}", enable_rosout=False)
        self._topic = self.resolve_topic_name(topic)
        self._longest = longest
        self._is_heard = False
        self._began = time.monotonic()
        self._is_impatient = False
        self.printed = 0

    def look(self) -> None:
        """Subscribes where there is a publisher by now; after a while says that there is none."""
        if self._is_heard:
            return
        publishers = self.get_publishers_info_by_topic(self._topic)
        if publishers:
            self.create_subscription(
                _type_named(publishers[0].topic_type), self._topic, self._print, _qos(publishers)
            )
            self._is_heard = True
        elif not self._is_impatient and time.monotonic() - self._began > IMPATIENT_AFTER_S:
            self._is_impatient = True
            known = ", ".join(sorted(name for name, _ in self.get_topic_names_and_types()))
            self.get_logger().warning(
                f"nobody publishes {self._topic} yet, in domain "
                f"{os.environ.get('ROS_DOMAIN_ID', '0')} (ROS_DOMAIN_ID); topics there: {known}"
            )

    def _print(self, message: Any) -> None:
        sys.stdout.write(f"{yaml_of_message(message, longest=self._longest)}---\n")
        sys.stdout.flush()
        self.printed += 1


def _type_named(name: str) -> type[Any]:
    """The interface of a name as ROS writes it, 'vision_msgs/msg/Detection2DArray'."""
    package, kind, interface = name.split("/")
    found: type[Any] = getattr(importlib.import_module(f"{package}.{kind}"), interface)
    return found


def _qos(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """What hears all of them, and asks no more of them than they offer."""
    offered = [publisher.qos_profile for publisher in publishers]
    reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
    latched = all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
    return QoSProfile(
        depth=QUEUE_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Prints a topic until it is told to stop; 0 then, 1 when its type is not installed here."""
    parser = argparse.ArgumentParser(
        prog="python -m qwen3vl_ros.ros.echo", description=__doc__.split("\n")[0]
    )
    parser.add_argument("topic", help="for example /qwen3vl/detections_3d")
    parser.add_argument("--once", action="store_true", help="end after the first message")
    parser.add_argument(
        "--full-length", action="store_true", help=f"also what is longer than {LONGEST} items"
    )
    options = parser.parse_args(arguments)
    rclpy.init()
    node = Echo(options.topic, longest=None if options.full_length else LONGEST)
    try:
        return exit_code_of(lambda: _listen(node, once=options.once))
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _listen(node: Echo, *, once: bool) -> int:
    try:
        # Not rclpy.spin(): on an idle node it can miss the signal and hang.
        while rclpy.ok() and not (once and node.printed):
            node.look()
            rclpy.spin_once(node, timeout_sec=SPIN_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # asked to stop; not an error
    except ModuleNotFoundError as error:
        node.get_logger().error(
            f"messages of this topic are not installed here ({error}); source the workspace that "
            "has them"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
