# SPDX-License-Identifier: Apache-2.0
"""Publishes results, and what became of the pictures that had none.

Every header copies the stamp of the image. Knows no pipeline; owns the publishers, which are made
once and live as long as the node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..image.drawing import annotated_image
from ..model.stopwatch import GroundingStats
from ..msg import InferenceStatus
from ..scene.detections import Query
from . import topics
from .first_answer import FirstAnswer
from .images import image_from_rgb
from .markers import UP_IN_OPTICAL_FRAME, UP_IN_ROBOT_FRAME, marker_array
from .messages import detections_2d_message, detections_3d_message, header, wire_text
from .results import Result

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one picture and one question.

    Attributes:
        stamp_ns: of the image.
        frame_id: of the image.
        query: what was asked.
        outcome: one of the constants of InferenceStatus.
        message: a sentence for a person; "" when there is nothing to add.
        answer_text: the model's words, untrusted; "" when it said none.
        stats: how long each stage took, from picking the picture up to handing results over.
        age_s: of the image when it was picked up; None when it has no stamp.
    """

    stamp_ns: int
    frame_id: str
    query: Query
    outcome: int
    message: str = ""
    answer_text: str = ""
    stats: GroundingStats
    age_s: float | None


class ResultPublisher:
    """The node's outgoing topics, except /diagnostics; owns their publishers."""

    def __init__(self, node: Node) -> None:
        def publisher(endpoint: topics.Endpoint) -> Publisher[Any]:
            return node.create_publisher(endpoint.type, endpoint.name, endpoint.qos)

        self._detections_2d = publisher(topics.DETECTIONS_2D)
        self._detections_3d = publisher(topics.DETECTIONS_3D)
        self._markers = publisher(topics.MARKERS)
        self._annotated_image = publisher(topics.ANNOTATED_IMAGE)
        self._status = publisher(topics.STATUS)
        self._namespace = node.get_name()
        self._first_answer = FirstAnswer(
            node.get_logger(),
            topics=tuple(
                one.topic_name for one in (self._detections_2d, self._detections_3d, self._status)
            ),
        )

    def publish_result(self, result: Result, *, marker_lifetime_s: float, seconds: float) -> None:
        """Detections, markers and, where someone looks, the picture; it took `seconds`."""
        self._first_answer.tell(result, seconds=seconds)
        grounding = result.grounding
        camera_header = header(stamp_ns=grounding.stamp_ns, frame_id=grounding.frame_id)
        self._detections_2d.publish(
            detections_2d_message(result.detections_2d, header=camera_header)
        )
        if result.detections_3d is not None:
            header_3d = header(stamp_ns=grounding.stamp_ns, frame_id=result.frame_id)
            self._detections_3d.publish(
                detections_3d_message(result.detections_3d, header=header_3d)
            )
            in_camera = result.frame_id == grounding.frame_id
            self._markers.publish(
                marker_array(
                    result.detections_3d,
                    header=header_3d,
                    namespace=self._namespace,
                    lifetime_s=marker_lifetime_s,
                    up=UP_IN_OPTICAL_FRAME if in_camera else UP_IN_ROBOT_FRAME,
                )
            )
        if self._annotated_image.get_subscription_count():
            frame = result.view.frame
            picture = annotated_image(
                frame.image,
                detections_2d=grounding.detections_2d,
                points=grounding.points,
                detections_3d=grounding.detections_3d,
                intrinsics=frame.intrinsics,
            )
            self._annotated_image.publish(image_from_rgb(picture, header=camera_header))

    def publish_outcome(self, outcome: Outcome, *, result: Result | None = None) -> None:
        """The status of one picture, whether or not there was a result."""
        stats = outcome.stats
        message = InferenceStatus(
            header=header(stamp_ns=outcome.stamp_ns, frame_id=outcome.frame_id),
            query_id=wire_text(outcome.query.query_id),
            task=outcome.query.task.value,
            outcome=outcome.outcome,
            message=wire_text(outcome.message),
            answer_text=wire_text(outcome.answer_text),
            preprocess_s=_seconds(stats.preprocess_s),
            vision_s=_seconds(stats.vision_s),
            prefill_s=_seconds(stats.prefill_s),
            decode_s=_seconds(stats.decode_s),
            lift_s=_seconds(stats.lift_s),
            total_s=stats.total_s,
            age_s=_seconds(outcome.age_s),
            image_tokens=stats.image_tokens,
            prompt_tokens=stats.prompt_tokens,
            answer_tokens=stats.answer_tokens,
            passes=stats.passes,
        )
        if result is not None:
            message.detections_2d = len(result.detections_2d)
            message.detections_3d = len(result.detections_3d or ())
        self._status.publish(message)


def _seconds(duration_s: float | None) -> float:
    """NaN for what was not reached (InferenceStatus.msg)."""
    return math.nan if duration_s is None else duration_s
