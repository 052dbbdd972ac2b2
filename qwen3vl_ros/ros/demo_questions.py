# SPDX-License-Identifier: Apache-2.0
"""The demo's mouth: asks the running node for one thing after another, and waits for answers.

Knows the witness that hears them and the processes that give them; draws and prints nothing.
Every wait has a deadline, and ends early when a process has ended.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from rclpy.executors import SingleThreadedExecutor

from ..msg import Query
from ..srv import SetQuery
from .demo_findings import Finding
from .demo_processes import ChildProcess
from .demo_witness import Witness, finding_from_heard, plain_things

OBJECTS = 3
# The robot moves and the model errs: a thing that is there is looked for in up to so many
# pictures, and how many it took is reported.
MAX_LOOKS = 5

T = TypeVar("T")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Demo:
    """The running demo: a witness, and the processes it listens to.

    Owns the executor that lets the witness hear, and the count of questions.
    """

    def __init__(
        self, witness: Witness, children: Sequence[ChildProcess], options: argparse.Namespace
    ) -> None:
        self._witness = witness
        self._start_s: float = options.start_timeout
        self._answer_s: float = options.answer_timeout
        self._children = children
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(witness)
        self._questions = 0

    def until(self, condition: Callable[[], T | None], waiting_for: str, timeout_s: float) -> T:
        """Listens until `condition` gives something; that.

        Raises:
            DemoFailed: too late, or a process has ended.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value is not None and value is not False:
                return value
            for child in self._children:
                if child.exit_code is not None:
                    raise DemoFailed(f"the {child.name} ended with exit code {child.exit_code}")
            if self._witness.engine_fault:
                raise DemoFailed(f"the node reports: {self._witness.engine_fault}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {timeout_s:g} s for {waiting_for}")
            self._executor.spin_once(timeout_sec=0.05)
            self._witness.look_up_transforms()

    def things_in_sight(self) -> tuple[list[str], set[str]]:
        """Names to ask for, the largest first, and the names of all that was seen."""

        def look() -> list[str] | None:
            latest = self._witness.latest(lambda heard: heard.is_scene_known)
            names = plain_things(latest[1]) if latest is not None else []
            return names[:OBJECTS] if len(names) >= OBJECTS else None

        names = self.until(look, f"{OBJECTS} things in plain sight of the camera", self._start_s)
        return names, self._witness.names_seen()

    def wait_for_node(self) -> None:
        """Until the node is active, which it says by its diagnostics and its service."""
        self.until(
            lambda: self._witness.engine_is_active and self._witness.set_query.service_is_ready(),
            "the node to load its engine and become active",
            self._start_s,
        )

    def ask(self, name: str, *, is_there: bool) -> Finding:
        """What the node finds when asked for `name`."""
        self._questions += 1
        query_id = f"demo-{self._questions}"
        request = SetQuery.Request(query=Query(task=Query.REFER, text=name, id=query_id))
        future = self._witness.set_query.call_async(request)
        self.until(future.done, f"~/set_query to answer about '{name}'", self._answer_s)
        response = future.result()
        if not response.success:
            raise DemoFailed(f"the node refused to look for '{name}': {response.message}")

        def judge() -> Finding | None:
            finding = self._finding(name, query_id, is_there=is_there)
            if finding is None or not is_there:
                return finding
            is_final = finding.is_right_in_kind or finding.pictures >= MAX_LOOKS
            return finding if is_final else None

        try:
            return self.until(judge, f"an answer about '{name}'", self._answer_s)
        except DemoFailed as failure:
            raise DemoFailed(f"{failure}{self._last_trouble(query_id)}") from failure

    def _finding(self, name: str, query_id: str, *, is_there: bool) -> Finding | None:
        """The first finding that is right in kind, or else the last one; None while none is in."""
        last: Finding | None = None
        answered = [item for item in self._witness.answers_to(query_id) if item[1].is_answered]
        for pictures, (stamp_ns, heard) in enumerate(answered, start=1):
            finding = finding_from_heard(name, stamp_ns, heard, pictures=pictures)
            # A thing that is there may be out of the picture for a moment.
            if finding is None or (is_there and finding.truth is None):
                continue
            last = finding
            if finding.is_right_in_kind:
                break
        return last

    def _last_trouble(self, query_id: str) -> str:
        messages = [
            heard.status.message
            for _, heard in self._witness.answers_to(query_id)
            if heard.status is not None and heard.status.message
        ]
        return f"; the node last said: {messages[-1]}" if messages else ""
