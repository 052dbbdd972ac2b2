# SPDX-License-Identifier: Apache-2.0
"""Goals of the node's actions: accepted, kept in one short queue, answered or ended.

Goals wait for the worker, which takes them one by one, whichever action they came by. Everything
that changes a goal's state runs in the executor's thread; the worker only hands results over. A
goal is executed when its answer is there: an execute callback that waits would block the one
executor thread. Knows no question; `ground_action.py` and `ask_action.py` do.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from rclpy.action import ActionServer, CancelResponse, GoalResponse

from ..errors import QueryError
from ..scene.detections import Query
from . import topics

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
        action: the interface it came by, whose feedback has a `stage`, whose result a `message`.
        handle: rclpy's.
        query: what is asked.
        give_up_at: steady seconds, when it has waited long enough for a picture.
    """

    action: ClassVar[type[Any]]
    handle: ServerGoalHandle[Any, Any, Any]
    query: Query
    give_up_at: float = field(default_factory=lambda: time.monotonic() + IMAGE_WAIT_S)


# From an accepted handle and the id of a question that brings none; QueryError refuses it.
GoalReader = Callable[["ServerGoalHandle[Any, Any, Any]", str], Goal]


class Goals:
    """The action servers and their queue; owned by the node."""

    def __init__(
        self, node: Node, *, is_active: Callable[[], bool], wake: Callable[[], None]
    ) -> None:
        self._node = node
        self._is_active = is_active
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[Goal] = deque()
        self._accepted = 0
        self._servers: list[ActionServer[Any, Any, Any]] = []

    def serve(self, endpoint: topics.Endpoint, read: GoalReader) -> None:
        """Takes goals of one action in, from now on."""

        def accepted(handle: ServerGoalHandle[Any, Any, Any]) -> None:
            self._on_accepted(handle, endpoint.type, read)

        def unanswered(handle: ServerGoalHandle[Any, Any, Any]) -> Any:
            handle.abort()
            return endpoint.type.Result(message="executed without an answer; this is a bug")

        self._servers.append(
            ActionServer(
                self._node,
                endpoint.type,
                endpoint.name,
                execute_callback=unanswered,
                goal_callback=self._on_goal,
                handle_accepted_callback=accepted,
                cancel_callback=self._on_cancel,
                result_timeout=RESULT_TIMEOUT_S,
            )
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
        goal.handle.publish_feedback(goal.action.Feedback(stage=stage))

    def answer(self, goal: Goal, message: Any, *, succeeded: bool = True) -> None:
        """Hands over the result of a taken goal."""

        def finish(handle: ServerGoalHandle[Any, Any, Any]) -> Any:
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

    def abort(self, goal: Goal, reason: str) -> None:
        """Ends a goal that was taken, without an answer."""
        self.answer(goal, goal.action.Result(message=reason), succeeded=False)

    def abort_all(self, reason: str) -> None:
        """Ends every goal that waits."""
        while (goal := self.next()) is not None:
            if self.take(goal):
                self.abort(goal, reason)

    def _on_goal(self, request: Any) -> GoalResponse:
        reason = ""
        if not self._is_active():
            reason = "the node is not active"
        elif len(self._waiting) >= MAX_WAITING_GOALS:
            reason = f"{MAX_WAITING_GOALS} goals wait already"
        if reason:
            self._node.get_logger().warning(f"goal refused: {reason}", throttle_duration_sec=10.0)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(
        self, handle: ServerGoalHandle[Any, Any, Any], action: type[Any], read: GoalReader
    ) -> None:
        self._accepted += 1
        try:
            goal = read(handle, f"goal-{self._accepted}")
        except QueryError as exc:
            reason = str(exc)

            def refuse(handle: ServerGoalHandle[Any, Any, Any]) -> Any:
                handle.abort()
                return action.Result(message=reason)

            handle.execute(refuse)
            return
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
