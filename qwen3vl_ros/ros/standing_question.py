# SPDX-License-Identifier: Apache-2.0
"""The question asked of every picture, and the other parameters in force.

It comes from parameters at the start, and is replaced by parameters or by the service
~/set_query; the parameters always show the one in force, but for a `max_objects` of its own: the
parameter stays what other questions get. A question that cannot be asked is refused, and the old
one stays.

`standing` is replaced whole, in the executor's thread; the worker reads it whenever it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from ..errors import QueryError, Qwen3VLError
from ..scene.detections import Query, Task
from ..srv import SetQuery
from . import topics
from .diagnostics import WARN, Diagnostics
from .gate import Gate
from .messages import query_from_message
from .parameters import QUESTION, NodeParameters, declare_parameters

if TYPE_CHECKING:
    from rclpy.node import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What is in force: the parameters, and the question asked of every picture (or none)."""

    parameters: NodeParameters
    query: Query | None


class StandingQuestion:
    """Keeps what is in force; owned by the node."""

    def __init__(
        self,
        node: Node,
        *,
        gate: Gate,
        diagnostics: Diagnostics,
        changed: Callable[[Standing], None],
    ) -> None:
        """Declares the parameters.

        Args:
            node: whose parameters and service.
            gate: closed, the service refuses.
            diagnostics: hears which question is in force.
            changed: called after every change, in the executor's thread.

        Raises:
            ConfigError: a parameter given at the start breaks its limits.
            QueryError: the question given at the start cannot be asked.
        """
        self._node = node
        self._gate = gate
        self._diagnostics = diagnostics
        self._changed = changed
        self._asked = 0
        # What the service asks, while the parameters are made to show it.
        self._asked_by_service: Query | None = None
        parameters = declare_parameters(node)
        query = parameters.query(query_id=self._next_id())
        self.standing = Standing(parameters=parameters, query=query)
        self._show()
        node.add_on_set_parameters_callback(self._check)
        # Not in Humble, whose on-set callback has to do both.
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_post_set_parameters_callback(self._apply)
        node.create_service(topics.SET_QUERY.type, topics.SET_QUERY.name, self._on_set_query)

    def _next_id(self) -> str:
        self._asked += 1
        return f"query-{self._asked}"

    def _put_in_force(self, standing: Standing) -> None:
        self.standing = standing
        self._show()
        self._changed(standing)

    def _show(self) -> None:
        query = self.standing.query
        if query is None:
            self._diagnostics.fault(
                "question",
                "no question is in force: call ~/set_query, or set the parameter categories "
                "(task 'detect') or text",
                level=WARN,
            )
            return
        self._diagnostics.recovered("question")
        self._diagnostics.facts(
            "question",
            task=query.task.value,
            asked=", ".join(query.categories) if query.task is Task.DETECT else query.text,
            query_id=query.query_id,
        )

    def _on_set_query(
        self, request: SetQuery.Request, response: SetQuery.Response
    ) -> SetQuery.Response:
        if not self._gate.is_open:
            response.message = (
                "the node is not active: activate it, or set the parameters task, text and "
                "categories"
            )
            return response
        try:
            query = query_from_message(
                request.query,
                query_id=self._next_id(),
                max_objects=self.standing.parameters.max_objects,
                of_place=True,
            )
        except QueryError as exc:
            response.message = str(exc)
            return response
        self._asked_by_service = query
        verdict = self._node.set_parameters_atomically(
            [
                Parameter("task", Parameter.Type.STRING, query.task.value),
                Parameter("text", Parameter.Type.STRING, query.text),
                Parameter("categories", Parameter.Type.STRING_ARRAY, list(query.categories)),
            ]
        )
        self._asked_by_service = None
        response.success, response.message = verdict.successful, verdict.reason
        response.query_id = query.query_id if verdict.successful else ""
        return response

    def _check(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        try:
            self.standing.parameters.changed({change.name: change.value for change in changes})
        except Qwen3VLError as exc:
            return SetParametersResult(successful=False, reason=str(exc))
        if not hasattr(self._node, "add_post_set_parameters_callback"):
            self._apply(changes)
        return SetParametersResult(successful=True)

    def _apply(self, changes: list[Parameter[Any]]) -> None:
        parameters = self.standing.parameters.changed({c.name: c.value for c in changes})
        query = self.standing.query
        if self._asked_by_service is not None:
            query = self._asked_by_service
        elif QUESTION & {change.name for change in changes}:
            query = parameters.query(query_id=self._next_id())
        self._put_in_force(Standing(parameters=parameters, query=query))
