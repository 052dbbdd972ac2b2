# SPDX-License-Identifier: Apache-2.0
"""The demo's ears: hears camera, truth, transforms and the node's answers, sorted by stamp.

An outside listener: of the node it knows topics, service and standard messages only. Messages it
reads with the package's own code (`images.py`, `calibration.py`, `transforms.py`). What
is heard is kept for a bounded number of pictures, because answers come later than pictures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3D, Detection3DArray

from ..errors import TransformError
from ..msg import InferenceStatus
from ..scene.detections import Detection2D as Found2D
from ..scene.geometry import Array, OrientedBox, transform_box, transform_from_quaternion
from ..srv import SetQuery
from .calibration import calibration_from_info
from .camera_pairing import stamp_ns
from .demo_findings import Finding, Sighting, Truth
from .images import rgb_from_image
from .transforms import transform_source

# Pictures kept; at 640x480 about 1 MB each.
MAX_PICTURES = 150
ENGINE_STATUS = "qwen3vl: engine"
# Asked for are things that a person would see at once: little hidden, not tiny.
MIN_VISIBILITY = 0.75
MIN_AREA_PX = 1500.0


@dataclass(slots=True)
class Heard:
    """What was heard about one stamp; None is what has not come. Owned by the witness."""

    image: Image | None = None
    camera_info: CameraInfo | None = None
    truth_2d: Detection2DArray | None = None
    truth_3d: Detection3DArray | None = None
    detections_2d: Detection2DArray | None = None
    detections_3d: Detection3DArray | None = None
    status: InferenceStatus | None = None
    T_map_base: Array | None = None
    T_base_camera: Array | None = None

    @property
    def is_scene_known(self) -> bool:
        """Picture, calibration, truth and transforms are all there."""
        parts = (self.image, self.camera_info, self.truth_2d, self.truth_3d, self.T_map_base)
        return all(part is not None for part in parts) and self.T_base_camera is not None

    @property
    def is_answered(self) -> bool:
        """The node answered about the picture; else it said why it could not, or has not yet."""
        answers = (InferenceStatus.OK, InferenceStatus.TRUNCATED)
        return self.status is not None and self.status.outcome in answers


class Witness(Node):
    """Listens; asks nothing but what it is told to ask."""

    def __init__(
        self, *, map_frame: str, base_frame: str, camera: str = "/synthetic_camera"
    ) -> None:
        super().__init__("demo")
        self._map_frame, self._base_frame = map_frame, base_frame
        self._heard: OrderedDict[int, Heard] = OrderedDict()
        self.engine_fault = ""
        self.engine_is_active = False
        self._transforms = transform_source(self)
        reliable = QoSProfile(depth=10)
        self._hear(Image, "image", "image", qos_profile_sensor_data)
        self._hear(CameraInfo, "camera_info", "camera_info", qos_profile_sensor_data)
        self._hear(Detection2DArray, f"{camera}/ground_truth_2d", "truth_2d", reliable)
        self._hear(Detection3DArray, f"{camera}/ground_truth", "truth_3d", reliable)
        self._hear(Detection2DArray, "/qwen3vl/detections_2d", "detections_2d", reliable)
        self._hear(Detection3DArray, "/qwen3vl/detections_3d", "detections_3d", reliable)
        self._hear(InferenceStatus, "/qwen3vl/status", "status", reliable)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable)
        self.set_query = self.create_client(SetQuery, "/qwen3vl/set_query")

    def _hear(self, kind: type[Any], topic: str, part: str, qos: QoSProfile) -> None:
        def arrived(message: Any) -> None:
            stamp = stamp_ns(message)
            heard = self._heard.setdefault(stamp, Heard())
            setattr(heard, part, message)
            while len(self._heard) > MAX_PICTURES:
                self._heard.popitem(last=False)

        self.create_subscription(kind, topic, arrived, qos)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == ENGINE_STATUS:
                is_fault = status.level == DiagnosticStatus.ERROR
                self.engine_fault = status.message if is_fault else ""
                state = {pair.key: pair.value for pair in status.values}.get("state", "")
                self.engine_is_active = state == "active"

    def look_up_transforms(self) -> None:
        """Completes what was heard with the transforms at its stamps, as far as they are here."""
        for stamp, heard in self._heard.items():
            if heard.truth_3d is None or heard.T_map_base is not None:
                continue
            camera_frame = heard.truth_3d.header.frame_id
            try:
                heard.T_base_camera = self._transforms.lookup(
                    target=self._base_frame, source=camera_frame, stamp_ns=stamp
                )
                heard.T_map_base = self._transforms.lookup(
                    target=self._map_frame, source=self._base_frame, stamp_ns=stamp
                )
            except TransformError:
                continue  # not yet here, or gone; who needs it waits with a deadline

    def latest(self, wanted: Callable[[Heard], bool]) -> tuple[int, Heard] | None:
        """The newest stamp of which what was heard is as wanted."""
        newest_first = sorted(self._heard.items(), key=lambda item: -item[0])
        return next((item for item in newest_first if wanted(item[1])), None)

    def names_seen(self) -> set[str]:
        """Names of all things in the truth of any moment kept."""
        messages = (heard.truth_2d for heard in self._heard.values() if heard.truth_2d is not None)
        return {_name(detection) for message in messages for detection in message.detections}

    def answers_to(self, query_id: str) -> list[tuple[int, Heard]]:
        """What was heard of the pictures that a question was asked of, oldest first."""
        return [
            (stamp, heard)
            for stamp, heard in sorted(self._heard.items())
            if heard.status is not None and heard.status.query_id == query_id
        ]


def plain_things(heard: Heard) -> list[str]:
    """Names of what stands in plain sight at a moment, by the truth; the largest first."""
    if heard.truth_2d is None:
        return []
    area = {
        _name(truth): truth.bbox.size_x * truth.bbox.size_y
        for truth in heard.truth_2d.detections
        # The truth's score is the share of the outline that shows.
        if truth.results[0].hypothesis.score >= MIN_VISIBILITY
    }
    return sorted((n for n in area if area[n] >= MIN_AREA_PX), key=lambda name: -area[name])


def finding_from_heard(name: str, stamp_ns: int, heard: Heard, *, pictures: int) -> Finding | None:
    """The answer about one picture held against the truth of its stamp; None if parts of it miss.

    Args:
        name: what was asked for.
        pictures: how many have been looked at, this one included.
    """
    status, found_2d, found_3d = heard.status, heard.detections_2d, heard.detections_3d
    if not heard.is_scene_known or status is None or found_2d is None:
        return None
    if status.detections_3d and found_3d is None:
        return None
    # The scene is known, so all of these are.
    assert heard.image is not None
    assert heard.camera_info is not None
    assert heard.T_map_base is not None
    assert heard.T_base_camera is not None
    best_2d = max(found_2d.detections, key=_score, default=None)
    best_3d = max(found_3d.detections if found_3d else (), key=_score, default=None)
    return Finding(
        name=name,
        truth=_truth(name, heard),
        sighting=Sighting(
            stamp_ns=stamp_ns,
            image=rgb_from_image(heard.image),
            intrinsics=calibration_from_info(
                heard.camera_info,
                width=heard.image.width,
                height=heard.image.height,
                image_is_rectified=False,
            ).intrinsics,
            T_map_base=heard.T_map_base,
            T_base_camera=heard.T_base_camera,
        ),
        found_2d=None if best_2d is None else _value_2d(best_2d),
        found_3d=None if best_3d is None else _box(best_3d),
        others=max(len(found_2d.detections) - 1, 0),
        pictures=pictures,
        answer_s=status.total_s,
        remark=status.message,
    )


def _truth(name: str, heard: Heard) -> Truth | None:
    assert heard.truth_2d is not None
    assert heard.truth_3d is not None
    assert heard.T_base_camera is not None
    for in_picture, in_space in zip(
        heard.truth_2d.detections, heard.truth_3d.detections, strict=True
    ):
        if _name(in_picture) == name:
            return Truth(
                xyxy_px=_value_2d(in_picture).xyxy_px,
                box=transform_box(heard.T_base_camera, _box(in_space)),
            )
    return None


def _name(detection: Detection2D) -> str:
    return str(detection.results[0].hypothesis.class_id)


def _score(detection: Detection2D | Detection3D) -> float:
    return float(detection.results[0].hypothesis.score)


def _value_2d(detection: Detection2D) -> Found2D:
    hypothesis, box = detection.results[0].hypothesis, detection.bbox
    center = np.array([box.center.position.x, box.center.position.y])
    half = np.array([box.size_x, box.size_y]) / 2
    return Found2D(
        label=hypothesis.class_id,
        xyxy_px=np.concatenate([center - half, center + half]),
        score=hypothesis.score,
    )


def _box(detection: Detection3D) -> OrientedBox:
    p, q = detection.bbox.center.position, detection.bbox.center.orientation
    size = detection.bbox.size
    return OrientedBox(
        T_frame_box=transform_from_quaternion(
            np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z])
        ),
        size_m=np.array([size.x, size.y, size.z]),
    )
