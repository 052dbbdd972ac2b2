# SPDX-License-Identifier: Apache-2.0
"""An action client of the node, whose futures are waited for by spinning the world."""

from __future__ import annotations

from typing import Any

from rclpy.action import ActionClient

from qwen3vl_ros.msg import Query as QueryMessage
from tests.ros.graph import World


class Asker:
    """Sets goals of one action, and remembers the stages it was told."""

    def __init__(self, world: World, action: type[Any]) -> None:
        self.world = world
        self.action = action
        self.client = ActionClient(world.probe, action, f"/qwen3vl/{action.__name__.lower()}")
        self.stages: list[str] = []
        world.until(self.client.server_is_ready)

    def ask(self, query: QueryMessage, **goal: Any) -> Any:
        """A goal handle, accepted or not."""
        future = self.client.send_goal_async(
            self.action.Goal(query=query, **goal),
            feedback_callback=lambda message: self.stages.append(message.feedback.stage),
        )
        self.world.until(future.done)
        return future.result()

    def result(self, handle: Any) -> tuple[int, Any]:
        """Status and result of an accepted goal."""
        future = handle.get_result_async()
        self.world.until(future.done)
        return future.result().status, future.result().result
