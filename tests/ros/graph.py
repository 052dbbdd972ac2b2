# SPDX-License-Identifier: Apache-2.0
"""A ROS 2 graph of its own for every test: the node under test, and a probe that speaks to it.

Real rclpy and real middleware; the one thing that may be scripted is the perception. Nothing
sleeps: `World.until` spins until a condition holds, or fails saying what had arrived.
"""

from __future__ import annotations

import array
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.vision_language_model import View
from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.ros import topics
from qwen3vl_ros.ros.asked_model import AskedModel
from qwen3vl_ros.ros.node import GroundingNode
from qwen3vl_ros.scene.answers import Response, ResponseValue
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import BoxSource, Detection2D, Detection3D, Grounding, Query
from qwen3vl_ros.scene.geometry import OrientedBox
from tests.ros.domain import ClaimedDomain

# Generous: a condition that holds is seen at once, one that never holds costs this once.
PATIENCE_S = 30.0
CAMERA = "camera_optical_frame"
WIDTH, HEIGHT = 64, 48


class ScriptedPerception:
    """Answers with what it is given, and remembers what it was shown.

    Attributes:
        answer: makes the answer to a question of place, or raises.
        reply: makes the answer to any other, or raises.
        seen: every frame and query of place, the warm-up's left out.
        shown: what every other query was about, and the query.
        may_answer: cleared, the next answer waits for it.
    """

    def __init__(
        self,
        answer: Callable[[Frame, Query], Grounding] | None = None,
        *,
        reply: Callable[[Sequence[View], Query], Response] | None = None,
    ) -> None:
        self.answer = answer or (lambda frame, query: grounding_of(frame, query))
        self.reply = reply or (lambda views, query: response_of(views, query, "A mug."))
        self.seen: list[tuple[Frame, Query]] = []
        self.shown: list[tuple[Sequence[View], Query]] = []
        self.warmed_up = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def ground(
        self, frame: Frame, query: Query, *, model_boxes: bool, stopwatch: Stopwatch
    ) -> Grounding:
        if not frame.frame_id:
            self.warmed_up += 1
            return grounding_of(frame, query)
        self.seen.append((frame, query))
        with stopwatch.stage("vision"):
            assert self.may_answer.wait(PATIENCE_S)
        return self.answer(frame, query)

    def ask(self, views: Sequence[View], query: Query, *, stopwatch: Stopwatch) -> Response:
        self.shown.append((views, query))
        with stopwatch.stage("decode"):
            assert self.may_answer.wait(PATIENCE_S)
        return self.reply(views, query)


def response_of(
    views: Sequence[View], query: Query, value: ResponseValue, **parts: Any
) -> Response:
    first = views[0] if isinstance(views[0], Frame) else views[0].frames[0]
    parts = {"complete": True, "answer_text": "as the model said", **parts}
    return Response(
        stamp_ns=first.stamp_ns, frame_id=first.frame_id, query=query, value=value, **parts
    )


def detection_2d(label: str = "mug", *xyxy_px: float, score: float = 0.9) -> Detection2D:
    return Detection2D(
        label=label, xyxy_px=np.array(xyxy_px or (10.0, 8.0, 30.0, 28.0)), score=score
    )


def detection_3d(
    label: str = "mug", center_m: tuple[float, float, float] = (0.1, 0.2, 1.0), score: float = 0.9
) -> Detection3D:
    T = np.eye(4)
    T[:3, 3] = center_m
    box = OrientedBox(T_frame_box=T, size_m=np.array([0.1, 0.2, 0.3]))
    return Detection3D(label=label, box=box, score=score, source=BoxSource.DEPTH)


def grounding_of(frame: Frame, query: Query, **parts: Any) -> Grounding:
    return Grounding(stamp_ns=frame.stamp_ns, frame_id=frame.frame_id, query=query, **parts)


def one_mug(frame: Frame, query: Query) -> Grounding:
    """A mug, in 3D too where there are depth and calibration."""
    can_lift = frame.depth_m is not None and frame.intrinsics is not None
    return grounding_of(
        frame,
        query,
        detections_2d=(detection_2d(),),
        detections_3d=(detection_3d(),) if can_lift else (),
        answer_text='[{"bbox_2d": [156, 167, 469, 583], "label": "mug"}]',
    )


class World:
    """One ROS graph: a probe, and the nodes a test starts in it."""

    def __init__(self) -> None:
        self.domain = ClaimedDomain()
        rclpy.init(domain_id=self.domain.domain_id)
        self.executor = SingleThreadedExecutor()
        self.nodes: list[GroundingNode] = []
        self.probe = Node("probe")
        self.executor.add_node(self.probe)
        self.got: dict[str, list[Any]] = defaultdict(list)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.image_out = self.probe.create_publisher(Image, "image", qos_profile_sensor_data)
        self.depth_out: Any = None
        self.camera_info_out: Any = None
        self.tf_static_out = self.probe.create_publisher(TFMessage, "/tf_static", latched)
        self._stamp_ns = 0
        self.last_stamp_ns = 0

    def start(
        self, perception: Any = None, *, load: Any = None, listen: bool = True, **parameters: Any
    ) -> GroundingNode:
        """A node, configured and activated unless told otherwise, that hears and is heard."""
        parameters = {"categories": ["mug"], **parameters}
        perception = perception or ScriptedPerception(one_mug)
        node = GroundingNode(
            load=load or (lambda engine_dir, parameters: AskedModel(perceiver=perception)),
            parameter_overrides=[
                Parameter(name, value=v) for name, v in parameters.items() if v is not None
            ],
        )
        self.nodes.append(node)
        self.executor.add_node(node)
        node.start()
        if listen:
            for endpoint in (
                topics.DETECTIONS_2D,
                topics.DETECTIONS_3D,
                topics.MARKERS,
                topics.STATUS,
                topics.DIAGNOSTICS,
            ):
                self.listen(endpoint)
        self.until(lambda: self.image_out.get_subscription_count() > 0)
        return node

    def listen(self, endpoint: topics.Endpoint, *, wait_for_publisher: bool = True) -> None:
        """Collects what comes on a topic in `got`, by its name."""
        name = endpoint.name.replace("~", "/qwen3vl")
        inbox = self.got[endpoint.name]
        subscription = self.probe.create_subscription(
            endpoint.type, name, inbox.append, endpoint.qos
        )
        if not wait_for_publisher:
            return
        publisher = next(
            p
            for node in self.nodes
            for p in node.publishers
            if p.topic_name == subscription.topic_name
        )
        self.until(lambda: publisher.get_subscription_count() > 0)

    def with_depth(self) -> None:
        """The probe publishes depth and calibration from now on."""
        self.depth_out = self.probe.create_publisher(Image, "depth", qos_profile_sensor_data)
        self.camera_info_out = self.probe.create_publisher(
            CameraInfo, "camera_info", qos_profile_sensor_data
        )
        if self.nodes:
            self.until(lambda: self.depth_out.get_subscription_count() > 0)
            self.until(lambda: self.camera_info_out.get_subscription_count() > 0)

    def next_stamp_ns(self) -> int:
        """Now, and later than any stamp before."""
        self._stamp_ns = max(time.time_ns(), self._stamp_ns + 1_000_000)
        return self._stamp_ns

    def send(
        self,
        image: Image | None = None,
        *,
        depth: Image | None = None,
        camera_info: CameraInfo | None = None,
        stamp_ns: int | None = None,
    ) -> int:
        """Publishes a moment of the camera; returns its stamp."""
        stamp_ns = self.next_stamp_ns() if stamp_ns is None else stamp_ns
        self.last_stamp_ns = stamp_ns
        if self.depth_out is not None:
            info = camera_info or camera_info_message()
            info.header = header(stamp_ns)
            self.camera_info_out.publish(info)
            depth = depth or depth_message(np.ones((HEIGHT, WIDTH), np.float32))
            depth.header = header(stamp_ns)
            self.depth_out.publish(depth)
        image = image or image_message()
        image.header = header(stamp_ns)
        self.image_out.publish(image)
        return stamp_ns

    def send_transform(self, target: str, source: str, translation: tuple[float, ...]) -> None:
        """Publishes T_target_source, turned 90 degrees about z, as static."""
        transform = TransformStamped(header=header(0, target), child_frame_id=source)
        t = transform.transform.translation
        t.x, t.y, t.z = translation
        q = transform.transform.rotation
        q.z = q.w = float(np.sqrt(0.5))
        self.tf_static_out.publish(TFMessage(transforms=[transform]))

    def until(self, condition: Callable[[], Any], *, timeout_s: float = PATIENCE_S) -> Any:
        """Spins until `condition` holds; its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            for node in self.nodes:
                if node.crash is not None:
                    raise node.crash
            if time.monotonic() > deadline:
                arrived = {name: len(messages) for name, messages in self.got.items()}
                raise AssertionError(f"not within {timeout_s:g} s; arrived: {arrived}")
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def until_soon(self, condition: Callable[[], Any], *, within_s: float = 1.0) -> Any:
        """Spins until `condition` holds or a short time has passed; its value then."""
        deadline = time.monotonic() + within_s
        while not (value := condition()) and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def spin_through_a_picture(self) -> InferenceStatus:
        """Sends a picture, and waits for what became of it."""
        stamp_ns = self.send()
        return self.status_of(stamp_ns)

    def status_of(self, stamp_ns: int) -> InferenceStatus:
        """What became of the picture with a stamp."""

        def status() -> InferenceStatus | None:
            return next(
                (s for s in self.got["~/status"] if nanoseconds(s.header.stamp) == stamp_ns), None
            )

        return self.until(status)

    def at(self, topic: str, stamp_ns: int) -> list[Any]:
        """Messages on a topic that carry a stamp."""
        return [m for m in self.got[topic] if nanoseconds(m.header.stamp) == stamp_ns]

    def at_markers(self, stamp_ns: int) -> list[Any]:
        """Marker arrays whose markers carry a stamp."""
        arrays = self.got["~/markers"]
        return [a for a in arrays if nanoseconds(a.markers[0].header.stamp) == stamp_ns]

    def diagnostic(self, name: str, level: bytes, words: str = "") -> DiagnosticStatus:
        """Waits until a status of /diagnostics has a level, and says these words."""

        def status() -> DiagnosticStatus | None:
            for message in reversed(self.got["/diagnostics"]):
                for status in message.status:
                    if status.name == f"qwen3vl: {name}":
                        is_it = status.level == level and words in status.message
                        return status if is_it else None
            return None

        return self.until(status)

    def call(self, service: type[Any], name: str, request: Any) -> Any:
        """The answer of a service."""
        client = self.probe.create_client(service, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        self.probe.destroy_client(client)
        return future.result()

    def close(self) -> None:
        for node in self.nodes:
            assert node.stop(timeout_s=PATIENCE_S)
            assert node.crash is None, node.crash
        self.executor.shutdown()
        for node in [*self.nodes, self.probe]:
            node.destroy_node()
        rclpy.try_shutdown()
        self.domain.release()


def nanoseconds(stamp: Time) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def header(stamp_ns: int, frame_id: str = CAMERA) -> Header:
    seconds, rest = divmod(stamp_ns, 1_000_000_000)
    return Header(frame_id=frame_id, stamp=Time(sec=seconds, nanosec=rest))


def image_message(rgb: npt.NDArray[np.uint8] | None = None, encoding: str = "rgb8") -> Image:
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8) if rgb is None else rgb
    message = Image(height=rgb.shape[0], width=rgb.shape[1], encoding=encoding)
    message.step = rgb[0].nbytes
    message.data = array.array("B", rgb.tobytes())
    return message


def depth_message(depth: npt.NDArray[Any]) -> Image:
    return image_message(depth, "32FC1" if depth.dtype == np.float32 else "16UC1")


def camera_info_message(focal: float = 60.0, D: tuple[float, ...] = ()) -> CameraInfo:
    cx, cy = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=list(D))
    message.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message
