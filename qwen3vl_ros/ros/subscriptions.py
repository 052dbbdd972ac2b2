# SPDX-License-Identifier: Apache-2.0
"""The subscriptions of one camera: count what comes, move it into the pairing, nothing else.

Knows no decoding. Messages are counted for diagnostics also while the node is inactive, so that an
operator sees whether the camera speaks before anything depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from sensor_msgs.msg import CameraInfo, Image

from . import topics
from .camera_pairing import CameraPairing, stamp_ns
from .diagnostics import Diagnostics
from .gate import Gate
from .parameters import NodeParameters
from .recent_pictures import RecentPictures

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    from rclpy.node import Node


# Measured: 640x480 images overflow Fast DDS's default shared memory, and take /tf with them.
LOST = (
    "messages are lost on their way: pictures are larger than the middleware's buffers, or the "
    "machine is too busy; start camera and node with FASTDDS_DEFAULT_PROFILES_FILE (before Kilted "
    "FASTRTPS_DEFAULT_PROFILES_FILE) set to launch/params/fastdds_large_images.xml of this package"
)


class CameraSubscriptions:
    """`image`, `depth` and `camera_info` of one camera; owned by the node."""

    def __init__(
        self,
        node: Node,
        *,
        parameters: NodeParameters,
        gate: Gate,
        pairing: CameraPairing,
        recent: RecentPictures,
        diagnostics: Diagnostics,
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._gate = gate
        self._pairing = pairing
        self._recent = recent
        self._diagnostics = diagnostics
        self._image = self._subscription(topics.IMAGE, pairing.put_image, needed=True)
        self._depth = self._subscription(topics.DEPTH, pairing.put_depth, needed=False)
        self._camera_info = self._subscription(
            topics.CAMERA_INFO, pairing.put_camera_info, needed=False
        )
        self.note_publishers()

    def note_publishers(self) -> None:
        """Tells the pairing whether anyone publishes depth and calibration."""
        self._pairing.expect(
            depth=self._node.count_publishers(self._depth.topic_name) > 0,
            camera_info=self._node.count_publishers(self._camera_info.topic_name) > 0,
        )

    def _subscription(
        self, endpoint: topics.Endpoint, put: Callable[[Any], None], *, needed: bool
    ) -> Any:
        name = endpoint.name

        def arrived(message: Image | CameraInfo) -> None:
            stamp = stamp_ns(message)
            now = self._node.get_clock().now().nanoseconds
            self._diagnostics.arrived(name, age_s=(now - stamp) / 1e9 if stamp else None)
            if not self._gate.is_open:
                return
            if endpoint is topics.IMAGE:
                self.note_publishers()
                self._recent.put(message)
            put(message)

        def incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            message = (
                f"a publisher of '{name}' offers another QoS ({policy}) than this node asks for, "
                "so nothing arrives from it; set input_reliability to 'best_effort', or make the "
                "publisher reliable"
            )
            if self._diagnostics.fault(name, message):
                self._node.get_logger().error(message)

        def lost(event: Any) -> None:
            if self._diagnostics.lost(name, LOST, total=event.total_count):
                self._node.get_logger().warning(f"{event.total_count} of '{name}' so far: {LOST}")

        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self._parameters.input_queue_depth,
            reliability=ReliabilityPolicy.BEST_EFFORT
            if self._parameters.input_reliability == "best_effort"
            else ReliabilityPolicy.RELIABLE,
        )
        subscription = self._node.create_subscription(
            endpoint.type,
            name,
            arrived,
            qos,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=incompatible, message_lost=lost
            ),
        )
        self._diagnostics.watch_topic(name, topic=subscription.topic_name, needed=needed)
        return subscription
