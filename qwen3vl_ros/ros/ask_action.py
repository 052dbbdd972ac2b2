# SPDX-License-Identifier: Apache-2.0
"""The action ~/ask: one question that is no matter of place, asked once; its answer as JSON.

Says what a goal wants to be shown, and refuses at once what can never be answered; what is shown
in the end, `shown.py` finds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..action import Ask
from ..errors import QueryError
from ..scene.answers import Response, Step, ZoomedAnswer
from ..scene.as_json import response_as_json
from ..scene.detections import ONE_PICTURE_TASKS, VIDEO_TASKS, Query, Task
from .goals import Goal
from .messages import header, query_from_message, wire_text
from .parameters import NodeParameters

if TYPE_CHECKING:
    from rclpy.action.server import ServerGoalHandle


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AskGoal(Goal):
    """A goal of ~/ask.

    Attributes:
        video_s: of the last seconds kept, so many are shown; 0 for the newest picture alone.
        pictures: 0 for a video; else as so many stills, at least 2.
    """

    action: ClassVar[type[Any]] = Ask
    video_s: float = 0.0
    pictures: int = 0


def ask_goal(
    handle: ServerGoalHandle[Any, Any, Any], *, query_id: str, parameters: NodeParameters
) -> AskGoal:
    """What a handle asks for.

    Raises:
        QueryError: it cannot be asked, is a matter of place, or wants to be shown what the node
            does not keep.
    """
    request = handle.request
    query = query_from_message(
        request.query,
        query_id=query_id,
        max_objects=parameters.max_objects,
        of_place=False,
    )
    _require_shown(query, request.video_s, request.pictures, parameters)
    return AskGoal(
        handle=handle,
        query=query,
        video_s=request.video_s,
        pictures=request.pictures if request.video_s else 0,
    )


def _require_shown(
    query: Query, video_s: float, pictures: int, parameters: NodeParameters
) -> None:
    task, kept_s = query.task, parameters.video_buffer_s
    if not (math.isfinite(video_s) and video_s >= 0):
        raise QueryError(f"video_s is {video_s}, expected 0 or more seconds")
    if video_s > kept_s:
        raise QueryError(
            f"video_s is {video_s:g}, and the node keeps the pictures of {kept_s:g} s; ask for "
            "less, or start the node with a larger video_buffer_s"
        )
    if (video_s and pictures == 1) or (not video_s and pictures > 1):
        raise QueryError(
            f"pictures is {pictures} with video_s {video_s:g}, expected at least 2 pictures, "
            "spread over a video_s above 0; or pictures 0, for a video or the newest picture"
        )
    if task in VIDEO_TASKS and (pictures or not video_s):
        raise QueryError(
            f"{task.query} is about a video, expected a video_s above 0 and pictures 0, "
            f"got video_s {video_s:g} and pictures {pictures}"
        )
    if task in ONE_PICTURE_TASKS and video_s:
        raise QueryError(
            f"{task.query} is about one picture, expected video_s 0, got video_s "
            f"{video_s:g} and pictures {pictures}"
        )
    if task is Task.ZOOM and video_s and not pictures:
        raise QueryError(
            f"a 'zoom' query looks closer at pictures, expected video_s 0 or pictures of at least "
            f"2, got video_s {video_s:g} and pictures 0"
        )
    if task is Task.COMPARE and pictures < 2:
        raise QueryError(
            f"a 'compare' query is about several pictures, expected pictures of at least 2, "
            f"spread over a video_s above 0, got pictures {pictures} and video_s {video_s:g}"
        )


def ask_result(response: Response, *, message: str) -> Ask.Result:
    """The answer as it is sent; `message` says what was otherwise than asked."""
    return Ask.Result(
        header=header(stamp_ns=response.stamp_ns, frame_id=response.frame_id),
        words=wire_text(_words(response)),
        # ASCII, as json writes by default: whatever the model said fits into a ROS string.
        answer_json=json.dumps(response_as_json(response), allow_nan=False),
        complete=response.complete,
        message=wire_text(message),
    )


def _words(response: Response) -> str:
    value = response.value
    if isinstance(value, str):
        return value
    return value.words if isinstance(value, ZoomedAnswer | Step) else ""
