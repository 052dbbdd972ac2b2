# SPDX-License-Identifier: Apache-2.0
"""The one thread that asks the model: newest moment in, result out, again and again.

Every error of a picture is dealt with here, once: counted, logged at most every ten seconds,
shown in diagnostics and status, and the next picture gets its turn. An error that is none of ours
is a bug: it stops the thread, and the node ends (`crash`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import rclpy
from rclpy.impl.rcutils_logger import RcutilsLogger

from ..errors import AnswerError, ContextError, FrameError, QueryError, Qwen3VLError
from ..model.stopwatch import Stopwatch
from ..msg import InferenceStatus
from ..scene.camera import Frame
from ..scene.detections import Grounding, Query
from .camera_pairing import CameraPairing, Moment, stamp_ns
from .diagnostics import ERROR, WARN, Diagnostics
from .frames import FrameReader, View
from .gate import Gate
from .ground_action import Goal, GroundAction
from .messages import printable
from .parameters import NodeParameters
from .publishing import Outcome, ResultPublisher
from .results import Result, result_from_grounding
from .standing_question import Standing
from .transforms import TransformSource

# How long the thread sleeps at most before it looks whether it shall stop.
POLL_S = 0.2
MAX_LOG_CHARACTERS = 600


class Grounder(Protocol):
    """What the worker needs of `Perception`."""

    def ground(
        self, frame: Frame, query: Query, *, model_boxes: bool, stopwatch: Stopwatch
    ) -> Grounding:
        """The answer to one query about one frame."""


class GroundingWorker:
    """Asks the model, one picture at a time, in a thread of its own."""

    def __init__(
        self,
        *,
        perception: Grounder,
        pairing: CameraPairing,
        transforms: TransformSource,
        publisher: ResultPublisher,
        goals: GroundAction,
        diagnostics: Diagnostics,
        logger: RcutilsLogger,
        standing: Callable[[], Standing],
        now_ns: Callable[[], int],
        gate: Gate,
        wake: threading.Event,
    ) -> None:
        self._perception = perception
        self._pairing = pairing
        self._transforms = transforms
        self._publisher = publisher
        self._goals = goals
        self._diagnostics = diagnostics
        self._logger = logger
        self._standing = standing
        self._now_ns = now_ns
        self._gate = gate
        self._wake = wake
        self._reader = FrameReader()
        self._goal_was_last = False
        self._stopping = threading.Event()
        self.crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="grounding", daemon=True)
        self._thread.start()

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
        moment = self._pairing.take(timeout_s=POLL_S)
        # Asked again: it may have been replaced while no picture came.
        goal, query = self._question()
        if moment is None:
            if goal is not None and time.monotonic() > goal.give_up_at and self._goals.take(goal):
                self._goals.abort(goal, "no image came; is the topic 'image' remapped?")
            return
        if query is None or (goal is not None and not self._goals.take(goal)):
            return
        self._goal_was_last = goal is not None
        self._look(moment, query, self._standing().parameters, goal)

    def _question(self) -> tuple[Goal | None, Query | None]:
        """What to ask next, and for which goal; None for the standing question."""
        goal, query = self._goals.next(), self._standing().query
        # Goals and the standing question take turns, so that neither starves the other.
        if goal is None or (self._goal_was_last and query is not None):
            return None, query
        return goal, goal.query

    def _look(
        self, moment: Moment, query: Query, parameters: NodeParameters, goal: Goal | None
    ) -> None:
        watch = Stopwatch(on_stage=None if goal is None else partial(self._goals.say, goal))
        age_s = self._age_s(moment)
        result: Result | None = None
        answer_text = ""
        try:
            view = self._view(moment, parameters, age_s)
            grounding = self._perception.ground(
                view.frame,
                query,
                # Without calibration its boxes have no scale, and nothing becomes 3D.
                model_boxes=parameters.model_boxes and view.frame.intrinsics is not None,
                stopwatch=watch,
            )
        except Qwen3VLError as exc:
            code, place = _outcome_of(exc)
            message = self._report(place, str(exc))
            answer_text = exc.answer_text if isinstance(exc, AnswerError) else ""
        else:
            self._diagnostics.recovered("inference")
            if goal is not None:
                self._goals.say(goal, "transform")
            asked_frame = goal.frame_id if goal is not None else ""
            result = result_from_grounding(
                view,
                grounding,
                transforms=self._transforms,
                target_frame=asked_frame or parameters.target_frame,
                timeout_s=parameters.tf_timeout_s,
                fall_back_to_camera=goal is None and parameters.tf_fallback == "camera",
                must_reach_target=bool(asked_frame),
                model_boxes=parameters.model_boxes,
            )
            answer_text = grounding.answer_text
            code, message = self._verdict(result)
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
        self._hand_over(outcome, result, goal, marker_lifetime_s=parameters.marker_lifetime_s)
        if result is not None:
            self._diagnostics.answered(seconds=outcome.stats.total_s, age_s=self._age_s(moment))

    def _hand_over(
        self,
        outcome: Outcome,
        result: Result | None,
        goal: Goal | None,
        *,
        marker_lifetime_s: float,
    ) -> None:
        # Closing the gate waits for this lock: once the node is inactive, nothing goes out.
        with self._gate.held_open() as is_open:
            if goal is not None:
                if not is_open:
                    self._goals.abort(goal, "the node was deactivated")
                elif result is None:
                    self._goals.abort(goal, outcome.message)
                else:
                    self._goals.answer(goal, result)
            if not is_open:
                return
            # A goal's answer goes to who asked; the topics hold the standing question's.
            if goal is None and result is not None:
                self._publisher.publish_result(result, marker_lifetime_s=marker_lifetime_s)
            self._publisher.publish_outcome(outcome, result=result)

    def _view(self, moment: Moment, parameters: NodeParameters, age_s: float | None) -> View:
        limit_s = parameters.max_image_age_s
        if limit_s and age_s is not None and age_s > limit_s:
            raise FrameError(
                f"the image is {age_s:.1f} s old on the node's clock, expected at most "
                f"{limit_s:g} s (max_image_age_s); if a bag is played, set use_sim_time and play "
                "it with --clock"
            )
        view = self._reader.read(moment, image_is_rectified=parameters.image_is_rectified)
        self._diagnostics.recovered("image")
        for place, fault in (
            ("depth", view.depth_fault),
            ("camera_info", view.calibration_fault or view.calibration_note),
        ):
            if fault:
                self._report(place, fault, level=WARN)
            else:
                self._diagnostics.recovered(place)
        return view

    def _verdict(self, result: Result) -> tuple[int, str]:
        if result.transform_fault:
            message = self._report("transform", result.transform_fault)
            return InferenceStatus.NO_TRANSFORM, message
        self._diagnostics.recovered("transform")
        if not result.grounding.complete:
            message = self._report(
                "inference",
                f"the answer broke off after {len(result.detections_2d)} objects, which were "
                "published; ask for fewer (max_objects)",
                level=WARN,
            )
            return InferenceStatus.TRUNCATED, f"{message} {result.remarks}".strip()
        return InferenceStatus.OK, result.remarks

    def _report(self, place: str, message: str, *, level: bytes = ERROR) -> str:
        line = printable(message, max_characters=MAX_LOG_CHARACTERS)
        if self._diagnostics.fault(place, line, level=level):
            if level == ERROR:
                self._logger.error(line)
            else:
                self._logger.warning(line)
        return line

    def _age_s(self, moment: Moment) -> float | None:
        stamp = stamp_ns(moment.image)
        return (self._now_ns() - stamp) / 1e9 if stamp else None


def _outcome_of(error: Qwen3VLError) -> tuple[int, str]:
    """InferenceStatus outcome and diagnostics place of an error."""
    if isinstance(error, FrameError):
        return InferenceStatus.BAD_FRAME, "image"
    if isinstance(error, AnswerError):
        return InferenceStatus.UNREADABLE, "inference"
    if isinstance(error, QueryError | ContextError):
        return InferenceStatus.BAD_QUERY, "inference"
    return InferenceStatus.ENGINE_FAILED, "inference"
