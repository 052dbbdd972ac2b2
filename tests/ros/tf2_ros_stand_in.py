# SPDX-License-Identifier: Apache-2.0
"""As much of tf2_ros as `Tf2TransformSource` uses, for machines without it (it is not on PyPI).

Names, arguments, exceptions and message types are tf2_ros'; the answers are our own buffer's,
which `test_transform_buffer.py` holds against tf2. So this tests the adapter, not tf2.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from qwen3vl_ros.errors import TransformError
from qwen3vl_ros.ros.transform_buffer import TransformBuffer
from qwen3vl_ros.scene.geometry import quaternion_from_rotation


class TransformException(Exception):
    pass


class LookupException(TransformException):
    pass


class ConnectivityException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


class InvalidArgumentException(TransformException):
    pass


class Buffer:
    def __init__(self, *, node: Node) -> None:
        self.ours = TransformBuffer()

    def clear(self) -> None:
        self.ours.reset()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration
    ) -> TransformStamped:
        assert timeout.nanoseconds == 0, "a wait in here blocks the executor"
        try:
            T = self.ours.lookup(
                target=target_frame, source=source_frame, stamp_ns=time.nanoseconds
            )
        except TransformError as fault:
            raise globals()[type(fault).__name__](str(fault)) from fault
        stamped = TransformStamped()
        t, q = stamped.transform.translation, stamped.transform.rotation
        t.x, t.y, t.z = T[:3, 3].tolist()
        q.x, q.y, q.z, q.w = quaternion_from_rotation(T[:3, :3]).tolist()
        return stamped


class TransformListener:
    def __init__(self, buffer: Buffer, node: Node, *, spin_thread: bool = False) -> None:
        self._buffer = buffer
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(TFMessage, "/tf", lambda m: self._hear(m, False), 100)
        node.create_subscription(TFMessage, "/tf_static", lambda m: self._hear(m, True), latched)

    def _hear(self, message: Any, is_static: bool) -> None:
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            self._buffer.ours.insert(
                parent=stamped.header.frame_id,
                child=stamped.child_frame_id,
                stamp_ns=Time.from_msg(stamped.header.stamp).nanoseconds,
                translation=(t.x, t.y, t.z),
                quat_xyzw=(q.x, q.y, q.z, q.w),
                is_static=is_static,
            )
