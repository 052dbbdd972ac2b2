# SPDX-License-Identifier: Apache-2.0
"""The action ~/ground: one question of place, the newest picture, one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..action import Ground
from .goals import Goal
from .messages import (
    detections_2d_message,
    detections_3d_message,
    header,
    query_from_message,
)
from .parameters import NodeParameters
from .results import Result

if TYPE_CHECKING:
    from rclpy.action.server import ServerGoalHandle


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroundGoal(Goal):
    """A goal of ~/ground.

    Attributes:
        frame_id: of the 3D answer; "" for the node's own target frame.
    """

    action: ClassVar[type[Any]] = Ground
    frame_id: str


def ground_goal(
    handle: ServerGoalHandle[Any, Any, Any], *, query_id: str, parameters: NodeParameters
) -> GroundGoal:
    """What a handle asks for.

    Raises:
        QueryError: it cannot be asked, or is no matter of place.
    """
    query = query_from_message(
        handle.request.query,
        query_id=query_id,
        max_objects=parameters.max_objects,
        of_place=True,
    )
    return GroundGoal(handle=handle, query=query, frame_id=handle.request.frame_id)


def ground_result(result: Result) -> Ground.Result:
    """The answer as it is sent."""
    grounding = result.grounding
    camera_header = header(stamp_ns=grounding.stamp_ns, frame_id=grounding.frame_id)
    header_3d = header(stamp_ns=grounding.stamp_ns, frame_id=result.frame_id)
    return Ground.Result(
        detections_2d=detections_2d_message(result.detections_2d, header=camera_header),
        detections_3d=detections_3d_message(result.detections_3d or (), header=header_3d),
        complete=grounding.complete,
        message=result.transform_fault or result.remarks,
    )
