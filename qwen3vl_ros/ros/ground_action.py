# SPDX-License-Identifier: Apache-2.0
"""The action ~/ground: one question, the newest picture, one answer.

Goals wait in a short queue for the worker, which takes them one by one. Everything that changes a
goal's state runs in the executor's thread; the worker only hands results over. A goal is executed
when its answer is there: an execute callback that waits would block the one executor thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse

from ..action import Ground
from ..errors import QueryError
from ..scene.detections import Query
from . import topics
from .messages import detections_2d_message, detections_3d_message, header, query_from_message
from .results import Result

if TYPE_CHECKING:
    from rclpy.action.server import ServerGoalHandle
    from rclpy.node import Node

MAX_WAITING_GOALS = 4
# A goal that sees no picture for so long is aborted.
IMAGE_WAIT_S = 5.0
# Results hold no pictures; a client that asks later than this has lost interest.
RESULT_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Goal:
    """A goal that waits for its answer.

    Attributes:
        handle: rclpy's.
        query: what is asked.
        frame_id: of the 3D answer; "" for the node's own target frame.
        give_up_at: steady seconds, when it has waited long enough for a picture.
    """

    handle: ServerGoalHandle[Any, Any, Any]
    query: Query
    frame_id: str
    give_up_at: float


class GroundAction:
    """The action server and its queue; owned by the node."""

    def __init__(
        self,
        node: Node,
        *,
        is_active: Callable[[], bool],
        default_max_objects: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self._node = node
        self._is_active = is_active
        self._default_max_objects = default_max_objects
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[Goal] = deque()
        self._accepted = 0
        self._server: ActionServer[Any, Any, Any] = ActionServer(
            node,
            Ground,
            topics.GROUND.name,
            execute_callback=_never_executed_unanswered,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
            result_timeout=RESULT_TIMEOUT_S,
        )

    def next(self) -> Goal | None:
        """The goal that has waited longest, left in the queue."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def take(self, goal: Goal) -> bool:
        """Takes a goal out of the queue, to be answered or aborted; False when it is gone."""
        with self._lock:
            if goal not in self._waiting:
                return False
            self._waiting.remove(goal)
            return True

    def say(self, goal: Goal, stage: str) -> None:
        """Feedback: what the node is doing for a goal."""
        goal.handle.publish_feedback(Ground.Feedback(stage=stage))

    def answer(self, goal: Goal, result: Result) -> None:
        """Hands over the answer of a taken goal; a 3D frame out of reach aborts it."""
        grounding = result.grounding
        camera_header = header(stamp_ns=grounding.stamp_ns, frame_id=grounding.frame_id)
        header_3d = header(stamp_ns=grounding.stamp_ns, frame_id=result.frame_id)
        message = Ground.Result(
            detections_2d=detections_2d_message(result.detections_2d, header=camera_header),
            detections_3d=detections_3d_message(result.detections_3d or (), header=header_3d),
            complete=grounding.complete,
            message=result.transform_fault or result.remarks,
        )
        self._close(goal, message, succeeded=not result.transform_fault)

    def abort(self, goal: Goal, reason: str) -> None:
        """Ends a goal that was taken, without an answer."""
        self._close(goal, Ground.Result(message=reason), succeeded=False)

    def abort_all(self, reason: str) -> None:
        """Ends every goal that waits."""
        while (goal := self.next()) is not None:
            if self.take(goal):
                self.abort(goal, reason)

    def _close(self, goal: Goal, message: Ground.Result, *, succeeded: bool) -> None:
        def finish(handle: ServerGoalHandle[Any, Any, Any]) -> Ground.Result:
            if handle.is_cancel_requested:
                handle.canceled()
            elif succeeded:
                handle.succeed()
            else:
                handle.abort()
            return message

        executor = self._node.executor
        if executor is not None:  # None while the node shuts down: nobody is left to answer
            executor.create_task(goal.handle.execute, finish)

    def _on_goal(self, request: Ground.Goal) -> GoalResponse:
        reason = ""
        if not self._is_active():
            reason = "the node is not active"
        elif len(self._waiting) >= MAX_WAITING_GOALS:
            reason = f"{MAX_WAITING_GOALS} goals wait already"
        if reason:
            self._node.get_logger().warning(
                f"ground goal refused: {reason}", throttle_duration_sec=10.0
            )
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: ServerGoalHandle[Any, Any, Any]) -> None:
        self._accepted += 1
        try:
            query = query_from_message(
                handle.request.query,
                query_id=f"goal-{self._accepted}",
                max_objects=self._default_max_objects(),
            )
        except QueryError as exc:
            reason = str(exc)

            def refuse(handle: ServerGoalHandle[Any, Any, Any]) -> Ground.Result:
                handle.abort()
                return Ground.Result(message=reason)

            handle.execute(refuse)
            return
        goal = Goal(
            handle=handle,
            query=query,
            frame_id=handle.request.frame_id,
            give_up_at=time.monotonic() + IMAGE_WAIT_S,
        )
        with self._lock:
            self._waiting.append(goal)
        self.say(goal, "waiting for image")
        self._wake()

    def _on_cancel(self, handle: ServerGoalHandle[Any, Any, Any]) -> CancelResponse:
        # One that waits ends at once; one that the worker is busy with, when its answer is there.
        with self._lock:
            waiting = next((goal for goal in self._waiting if goal.handle == handle), None)
        if waiting is not None and self.take(waiting):
            self.abort(waiting, "canceled")
        return CancelResponse.ACCEPT


def _never_executed_unanswered(handle: ServerGoalHandle[Any, Any, Any]) -> Ground.Result:
    handle.abort()
    return Ground.Result(message="executed without an answer; this is a bug")
