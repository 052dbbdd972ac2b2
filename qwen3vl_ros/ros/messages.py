# SPDX-License-Identifier: Apache-2.0
"""Questions and answers: core values into messages and back.

Knows no topics. A detection message always holds one hypothesis (RViz reads the first without
looking), whose `class_id` is the label in words, and a unit quaternion. Its header, and that of
its array, are the image's; the `frame_id` is the frame the numbers are in.

Everything the model says is untrusted text: labels become one clean line, its answer keeps line
breaks and tabs and loses all other control characters; both are cut before they go on the wire.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import Header
from vision_msgs import msg as vision

from ..errors import QueryError
from ..language.labels import clean_label
from ..msg import Query as QueryMessage
from ..scene.detections import (
    SPATIAL_TASKS,
    Detection2D,
    Detection3D,
    Query,
    Task,
    TextLevel,
)
from ..scene.geometry import OrientedBox, quaternion_from_rotation
from ..scene.tools import tools_from_json

MAX_ANSWER_CHARACTERS = 20_000


def header(*, stamp_ns: int, frame_id: str) -> Header:
    """A header of a moment in a frame."""
    message = Header(frame_id=frame_id)
    message.stamp.sec, message.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def printable(text: str, *, max_characters: int) -> str:
    """Untrusted text as one line without control characters, at most so many characters long."""
    return clean_label(text, longest=max_characters)


def wire_text(text: str) -> str:
    """Untrusted text that keeps its lines and tabs, fit for a ROS string and a terminal."""
    kept = (
        character
        for character in text[:MAX_ANSWER_CHARACTERS]
        if character in "\n\t" or unicodedata.category(character) != "Cc"
    )
    return "".join(kept).encode("utf-8", "replace").decode("utf-8")


def query_from_message(
    message: QueryMessage, *, query_id: str, max_objects: int, of_place: bool
) -> Query:
    """The question of a message.

    Args:
        message: the question as asked.
        query_id: for a question that brings none.
        max_objects: for a question that sets none.
        of_place: whether questions of place are answered here, or all others.

    Raises:
        QueryError: it cannot be asked, or not here; the text says why.
    """
    levels = [level.value for level in TextLevel]
    if message.text_level not in ("", *levels):
        raise QueryError(
            f"text_level is '{message.text_level[:64]}', expected one of {', '.join(levels)}, or "
            "nothing"
        )
    return Query(
        task=_task(message.task, of_place=of_place),
        text=message.text,
        categories=tuple(message.categories),
        query_id=message.id or query_id,
        max_objects=message.max_objects or max_objects,
        text_level=TextLevel(message.text_level or TextLevel.LINE),
        tools=tools_from_json(message.tools_json, what="tools_json") if message.tools_json else (),
    )


def _task(name: str, *, of_place: bool) -> Task:
    answered = [task.value for task in Task if (task in SPATIAL_TASKS) == of_place]
    if name in answered:
        return Task(name)
    expected = f"expected one of {', '.join(answered)}"
    if name in [task.value for task in Task]:
        place = "no matter" if of_place else "a matter"
        raise QueryError(
            f"{Task(name).query} is {place} of place in one picture, {expected}; send it to the "
            f"action {'~/ask' if of_place else '~/ground'}"
        )
    raise QueryError(f"task is '{name[:64]}', {expected}")


def detections_2d_message(
    detections: Iterable[Detection2D], *, header: Header
) -> vision.Detection2DArray:
    """Boxes in pixels; a point is a box of zero size. `header` is the image's."""
    array = vision.Detection2DArray(header=header)
    array.detections = [
        vision.Detection2D(
            header=header,
            results=[_hypothesis(detection.label, detection.score, Pose())],
            bbox=_bounding_box_2d(detection.xyxy_px),
        )
        for detection in detections
    ]
    return array


def detections_3d_message(
    detections: Iterable[Detection3D], *, header: Header
) -> vision.Detection3DArray:
    """Boxes in metres, in the frame that `header` names."""
    array = vision.Detection3DArray(header=header)
    for detection in detections:
        length, width, height = map(float, detection.box.size_m)
        box = vision.BoundingBox3D(
            center=pose_of_box(detection.box), size=Vector3(x=length, y=width, z=height)
        )
        array.detections.append(
            vision.Detection3D(
                header=header,
                results=[
                    _hypothesis(detection.label, detection.score, pose_of_box(detection.box))
                ],
                bbox=box,
            )
        )
    return array


def pose_of_box(box: OrientedBox) -> Pose:
    """The pose of a box's centre."""
    x, y, z = map(float, box.center_m)
    qx, qy, qz, qw = map(float, quaternion_from_rotation(box.T_frame_box[:3, :3]))
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def _bounding_box_2d(xyxy_px: npt.NDArray[np.float64]) -> vision.BoundingBox2D:
    left, top, right, bottom = map(float, xyxy_px)
    box = vision.BoundingBox2D(size_x=right - left, size_y=bottom - top)
    box.center.position.x = (left + right) / 2
    box.center.position.y = (top + bottom) / 2
    return box


def _hypothesis(label: str, score: float | None, pose: Pose) -> vision.ObjectHypothesisWithPose:
    result = vision.ObjectHypothesisWithPose()
    result.hypothesis.class_id = clean_label(label)
    # NaN is "not known" (a server that gives no probabilities); no threshold lets it pass.
    result.hypothesis.score = math.nan if score is None else float(np.clip(score, 0.0, 1.0))
    result.pose.pose = pose
    return result
