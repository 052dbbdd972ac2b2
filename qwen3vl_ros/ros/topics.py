# SPDX-License-Identifier: Apache-2.0
"""Every topic, service and action of the node, declared once: name, type, QoS, meaning.

The node creates its endpoints from here, and the table in the README is made from here. Names are
relative (`image`, to be remapped) or private (`~/detections_2d`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from ..action import Ask, Ground
from ..msg import InferenceStatus
from ..srv import SetQuery


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One end of a ROS interface.

    Attributes:
        name: relative or private.
        type: message, service or action class.
        kind: "subscribes", "publishes", "serves" or "acts".
        meaning: one or two sentences for the README.
        reliable: for publishers; subscriptions follow the parameter `input_reliability`.
        depth: for publishers, messages kept for a slow subscriber.
        latched: for publishers, True where the last message waits for those who come later.
    """

    name: str
    type: type[Any]
    kind: str
    meaning: str
    reliable: bool = True
    depth: int = 10
    latched: bool = False

    @property
    def qos(self) -> QoSProfile:
        """For a publisher."""
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=self.depth,
            reliability=ReliabilityPolicy.RELIABLE
            if self.reliable
            else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if self.latched
            else DurabilityPolicy.VOLATILE,
        )

    @property
    def type_name(self) -> str:
        """As `ros2 topic info` says it, for example `sensor_msgs/msg/Image`."""
        package, kind = self.type.__module__.split(".")[:2]
        return f"{package}/{kind}/{self.type.__name__}"


IMAGE = Endpoint(
    name="image",
    type=Image,
    kind="subscribes",
    meaning="Colour or grey, any usual encoding. The newest wins.",
)
DEPTH = Endpoint(
    name="depth",
    type=Image,
    kind="subscribes",
    meaning="Registered to `image`: 32FC1 metres or 16UC1 millimetres. Optional.",
)
CAMERA_INFO = Endpoint(
    name="camera_info",
    type=CameraInfo,
    kind="subscribes",
    meaning="Calibration of `image`. Without it nothing becomes 3D.",
)
DETECTIONS_2D = Endpoint(
    name="~/detections_2d",
    type=Detection2DArray,
    kind="publishes",
    meaning="Boxes in pixels of `image`, with its header. Empty: looked, and saw nothing.",
)
DETECTIONS_3D = Endpoint(
    name="~/detections_3d",
    type=Detection3DArray,
    kind="publishes",
    meaning="Oriented boxes in `target_frame` (or the camera optical frame), at the image's "
    "stamp. Silent while nothing can be placed.",
)
MARKERS = Endpoint(
    name="~/markers",
    type=MarkerArray,
    kind="publishes",
    meaning="The 3D boxes with their labels, for RViz and Foxglove.",
)
ANNOTATED_IMAGE = Endpoint(
    name="~/annotated_image",
    type=Image,
    kind="publishes",
    meaning="The (rectified) picture with boxes and labels; drawn only while someone subscribes.",
    reliable=False,
    depth=1,
)
STATUS = Endpoint(
    name="~/status",
    type=InferenceStatus,
    kind="publishes",
    meaning="What became of each picture: outcome, the model's words, times.",
)
DIAGNOSTICS = Endpoint(
    name="/diagnostics",
    type=DiagnosticArray,
    kind="publishes",
    meaning="Once a second: inputs, engine, inference, transforms.",
)
SET_QUERY = Endpoint(
    name="~/set_query",
    type=SetQuery,
    kind="serves",
    meaning="Replaces the question asked of every picture; refuses one that cannot be asked.",
)
GROUND = Endpoint(
    name="~/ground",
    type=Ground,
    kind="acts",
    meaning="One question of place to the newest picture; the standing question stays.",
)
ASK = Endpoint(
    name="~/ask",
    type=Ask,
    kind="acts",
    meaning="One question of any other kind (`docs/tasks.md`) to the newest picture, several "
    "recent ones, or the last seconds as a video; the standing question stays.",
)
ENDPOINTS: tuple[Endpoint, ...] = (
    IMAGE,
    DEPTH,
    CAMERA_INFO,
    DETECTIONS_2D,
    DETECTIONS_3D,
    MARKERS,
    ANNOTATED_IMAGE,
    STATUS,
    DIAGNOSTICS,
    SET_QUERY,
    GROUND,
    ASK,
)


def endpoint_table(endpoints: Iterable[Endpoint]) -> str:
    """Endpoints as a Markdown table, for the README."""
    rows = ["| | name | type | meaning |", "|---|---|---|---|"]
    rows += [f"| {e.kind} | `{e.name}` | `{e.type_name}` | {e.meaning} |" for e in endpoints]
    return "\n".join(rows)
