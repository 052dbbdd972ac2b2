# SPDX-License-Identifier: Apache-2.0
"""`T_target_source` at a stamp, from /tf and /tf_static: one contract, two sources.

tf2_ros is used where it is installed; elsewhere `BuiltinTransformSource` hears the topics itself
and keeps them in a `TransformBuffer`. Lookups never wait: a wait inside a callback would keep
the very transform that is waited for from arriving. `lookup_with_deadline` waits, and is for the
worker thread only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from ..errors import MissingDependency, TransformError
from ..scene.geometry import Array, transform_from_quaternion
from .transform_buffer import (
    ConnectivityException,
    InvalidArgumentException,
    LookupException,
    TransformBuffer,
)
from .transform_history import ExtrapolationException

# As tf2_ros subscribes.
DYNAMIC_QOS = QoSProfile(depth=100)
STATIC_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
POLL_S = 0.005


class TransformSource(Protocol):
    """Where transforms come from.

    Attributes:
        refused: transforms that meant nothing (NaN, no unit quaternion, bad names), counted.
    """

    refused: int

    def lookup(self, *, target: str, source: str, stamp_ns: int) -> Array:
        """`T_target_source` (4, 4) float64 at a stamp (0: the latest common one), or at once:

        Raises:
            TransformError: as its subclass in `transform_buffer` says.
        """
        ...

    def reset(self) -> None:
        """Forgets all but static transforms: time has jumped back."""
        ...


def transform_source(node: Node) -> TransformSource:
    """tf2's own buffer where tf2_ros is installed, else the built-in one."""
    try:
        import tf2_ros  # noqa: F401  (optional: only to see whether it is there)
    except ImportError:
        return BuiltinTransformSource(node)
    return Tf2TransformSource(node)


def lookup_with_deadline(
    transforms: TransformSource,
    *,
    target: str,
    source: str,
    stamp_ns: int,
    timeout_s: float,
    poll_s: float = POLL_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Array:
    """Looks up until the transform is there, or `timeout_s` of steady time are over.

    Blocks: for the worker thread, never for a callback. Does not wait for what cannot come: a
    stamp older than all that is held, or a name that is none.

    Raises:
        TransformError: the last lookup's, with how long it was waited for.
    """
    started = clock()
    while True:
        try:
            return transforms.lookup(target=target, source=source, stamp_ns=stamp_ns)
        except TransformError as fault:
            waited = clock() - started
            if waited >= timeout_s or not _may_come(fault):
                raise TransformError(
                    f"{fault} (stamp {stamp_ns} ns, waited {waited:.2f} s)"
                ) from fault
            pause(min(poll_s, timeout_s - waited))


def _may_come(fault: TransformError) -> bool:
    if isinstance(fault, ExtrapolationException):
        return not fault.is_past
    return not isinstance(fault, InvalidArgumentException)


class BuiltinTransformSource:
    """Hears /tf and /tf_static of a node, without tf2_ros. Owns its buffer."""

    def __init__(self, node: Node) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise MissingDependency(
                "tf2_msgs", needed_for="transforms", install="make setup (or rosdep install)"
            ) from error
        self.refused = 0
        self._buffer = TransformBuffer()
        self._logger = node.get_logger()
        self._subscriptions = (
            node.create_subscription(TFMessage, "/tf", self._on_dynamic, DYNAMIC_QOS),
            node.create_subscription(TFMessage, "/tf_static", self._on_static, STATIC_QOS),
        )

    def lookup(self, *, target: str, source: str, stamp_ns: int) -> Array:
        """See `TransformSource`."""
        return self._buffer.lookup(target=target, source=source, stamp_ns=stamp_ns)

    def reset(self) -> None:
        """See `TransformSource`."""
        self._buffer.reset()

    def _on_dynamic(self, message: Any) -> None:
        self._insert(message, is_static=False)

    def _on_static(self, message: Any) -> None:
        self._insert(message, is_static=True)

    def _insert(self, message: Any, *, is_static: bool) -> None:
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            stamp = stamped.header.stamp
            try:
                self._buffer.insert(
                    parent=stamped.header.frame_id,
                    child=stamped.child_frame_id,
                    stamp_ns=stamp.sec * 1_000_000_000 + stamp.nanosec,
                    translation=(t.x, t.y, t.z),
                    quat_xyzw=(q.x, q.y, q.z, q.w),
                    is_static=is_static,
                )
            except TransformError as fault:
                self.refused += 1
                self._logger.warning(str(fault), throttle_duration_sec=10.0)


class Tf2TransformSource:
    """tf2_ros' buffer and listener."""

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self.refused = 0  # tf2 says so on its own, in the log
        self._tf2 = tf2_ros
        # With the node, or the buffer would not follow the node's clock when it jumps.
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def lookup(self, *, target: str, source: str, stamp_ns: int) -> Array:
        """See `TransformSource`."""
        tf2 = self._tf2
        try:
            stamped = self._buffer.lookup_transform(
                target, source, Time(nanoseconds=stamp_ns), timeout=Duration()
            )
        except tf2.ExtrapolationException as exc:
            # tf2 says which way only in words.
            raise ExtrapolationException(str(exc), is_past="into the past" in str(exc)) from exc
        except tf2.ConnectivityException as exc:
            raise ConnectivityException(str(exc)) from exc
        except tf2.LookupException as exc:
            raise LookupException(str(exc)) from exc
        except tf2.TransformException as exc:  # invalid arguments, and whatever may be added
            raise InvalidArgumentException(str(exc)) from exc
        t, q = stamped.transform.translation, stamped.transform.rotation
        return transform_from_quaternion(np.array([q.x, q.y, q.z, q.w]), np.array([t.x, t.y, t.z]))

    def reset(self) -> None:
        """See `TransformSource`."""
        self._buffer.clear()
