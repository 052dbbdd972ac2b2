# SPDX-License-Identifier: Apache-2.0
"""The one thread that asks the model: newest moment in, answer out, again and again.

Goals and the standing question take turns. Every error of a picture is dealt with once: counted,
logged at most every ten seconds, shown in diagnostics and status, and the next picture gets its
turn. An error that is none of ours is a bug: it stops the thread, and the node ends (`crash`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import rclpy

from ..errors import AnswerError, Qwen3VLError
from ..model.stopwatch import Stopwatch
from ..scene.answers import Response
from ..scene.detections import Query
from .ask_action import AskGoal, ask_result
from .camera_pairing import CameraPairing, Moment, stamp_ns
from .diagnostics import Diagnostics
from .gate import Gate
from .goals import Goal, Goals
from .ground_action import GroundGoal, ground_result
from .looking import Looker
from .parameters import NodeParameters
from .publishing import Outcome, ResultPublisher
from .results import Result
from .standing_question import Standing

# How long the thread sleeps at most before it looks whether it shall stop.
POLL_S = 0.2


class Worker:
    """Asks the model, one question about one moment at a time, in a thread of its own."""

    def __init__(
        self,
        *,
        looker: Looker,
        pairing: CameraPairing,
        publisher: ResultPublisher,
        goals: Goals,
        diagnostics: Diagnostics,
        standing: Callable[[], Standing],
        now_ns: Callable[[], int],
        gate: Gate,
        wake: threading.Event,
    ) -> None:
        self._looker = looker
        self._pairing = pairing
        self._publisher = publisher
        self._goals = goals
        self._diagnostics = diagnostics
        self._standing = standing
        self._now_ns = now_ns
        self._gate = gate
        self._wake = wake
        self._goal_was_last = False
        self._stopping = threading.Event()
        self.crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)
        self._thread.start()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop, and will take no further picture."""
        return self._stopping.is_set()

    def stop(self, *, timeout_s: float) -> bool:
        """Stops after the picture in hand; False when that takes longer than `timeout_s`."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
        except Exception as exc:  # noqa: BLE001  kept for the node, which ends with it
            # A signal takes the context away while a result is being published (RCLError, a
            # RuntimeError): the node was told to stop, nothing is wrong.
            if rclpy.ok() or not isinstance(exc, RuntimeError):
                self.crash = exc

    def _step(self) -> None:
        if not self._gate.is_open or self._question()[1] is None:
            self._wake.wait(POLL_S)
            self._wake.clear()
            return
        opening = self._gate.opening
        moment = self._pairing.take(timeout_s=POLL_S)
        # Asked again: it may have been replaced while no picture came.
        goal, query = self._question()
        if moment is None:
            self._give_up()
            return
        if query is None or (goal is not None and not self._goals.take(goal)):
            return
        self._goal_was_last = goal is not None
        self._look(moment, query, self._standing().parameters, goal, opening=opening)

    def _give_up(self) -> None:
        """Ends the goal that has waited too long for a picture, whoever's turn it is."""
        goal = self._goals.next()
        if goal is not None and time.monotonic() > goal.give_up_at and self._goals.take(goal):
            self._goals.abort(goal, "no image came; is the topic 'image' remapped?")

    def _question(self) -> tuple[Goal | None, Query | None]:
        """What to ask next, and for which goal; None for the standing question."""
        goal, query = self._goals.next(), self._standing().query
        # Goals and the standing question take turns, so that neither starves the other.
        if goal is None or (self._goal_was_last and query is not None):
            return None, query
        return goal, goal.query

    def _look(
        self,
        moment: Moment,
        query: Query,
        parameters: NodeParameters,
        goal: Goal | None,
        *,
        opening: int,
    ) -> None:
        def say(stage: str) -> None:
            if goal is not None:
                self._goals.say(goal, stage)

        watch = Stopwatch(on_stage=say)
        age_s = self._age_s(moment)
        answer: Result | Response | None = None
        answer_text = ""
        try:
            view = self._looker.view(moment, parameters, age_s=age_s)
            if isinstance(goal, AskGoal):
                answer = self._looker.ask(view, goal, watch=watch)
                answer_text = answer.answer_text
            else:
                assert goal is None or isinstance(goal, GroundGoal)
                answer = self._looker.ground(
                    view, query, parameters, goal=goal, watch=watch, say=say
                )
                answer_text = answer.grounding.answer_text
        except Qwen3VLError as exc:
            code, message = self._looker.fault(exc)
            answer_text = exc.answer_text if isinstance(exc, AnswerError) else ""
        else:
            code, message = self._looker.verdict(answer)
        outcome = Outcome(
            stamp_ns=stamp_ns(moment.image),
            frame_id=moment.image.header.frame_id,
            query=query,
            outcome=code,
            message=message,
            answer_text=answer_text,
            stats=watch.stats(),
            age_s=age_s,
        )
        self._hand_over(
            outcome,
            answer,
            goal,
            opening=opening,
            marker_lifetime_s=parameters.marker_lifetime_s,
        )
        if answer is not None:
            self._diagnostics.answered(seconds=outcome.stats.total_s, age_s=self._age_s(moment))

    def _hand_over(
        self,
        outcome: Outcome,
        answer: Result | Response | None,
        goal: Goal | None,
        *,
        opening: int,
        marker_lifetime_s: float,
    ) -> None:
        # Closing the gate waits for this lock: once the node is inactive, nothing goes out.
        with self._gate.held_open(opening) as is_open:
            if goal is not None:
                if not is_open:
                    self._goals.abort(goal, "the node was deactivated")
                elif answer is None:
                    self._goals.abort(goal, outcome.message)
                elif isinstance(answer, Response):
                    self._goals.answer(goal, ask_result(answer, message=outcome.message))
                else:
                    reached = not answer.transform_fault
                    self._goals.answer(goal, ground_result(answer), succeeded=reached)
            if not is_open:
                return
            result = answer if isinstance(answer, Result) else None
            # A goal's answer goes to who asked; the topics hold the standing question's.
            if goal is None and result is not None:
                self._publisher.publish_result(
                    result, marker_lifetime_s=marker_lifetime_s, seconds=outcome.stats.total_s
                )
            self._publisher.publish_outcome(outcome, result=result)

    def _age_s(self, moment: Moment) -> float | None:
        stamp = stamp_ns(moment.image)
        return (self._now_ns() - stamp) / 1e9 if stamp else None
