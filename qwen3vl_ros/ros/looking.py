# SPDX-License-Identifier: Apache-2.0
"""One question about one moment: from messages to an answer, and what is to be said of it.

Knows neither threads nor whose turn it is (`worker.py`), nor where answers go. Depth, calibration
and transforms that fail cost the third dimension and are told; all else that fails is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import AnswerError, ContextError, FrameError, QueryError, Qwen3VLError
from ..model.stopwatch import Stopwatch
from ..msg import InferenceStatus
from ..scene.answers import Response
from ..scene.detections import Query
from .ask_action import AskGoal
from .asked_model import Perceiver
from .camera_pairing import Moment
from .diagnostics import WARN
from .fault_log import FaultLog
from .frames import FrameReader, View
from .ground_action import GroundGoal
from .parameters import NodeParameters
from .raw_pixels import in_raw_pixels
from .recent_pictures import RecentPictures
from .results import Result, result_from_grounding
from .shown import shown
from .transforms import TransformSource


class Looker:
    """Looks at moments; owned by the worker thread."""

    def __init__(
        self,
        *,
        perceiver: Perceiver,
        transforms: TransformSource,
        recent: RecentPictures,
        faults: FaultLog,
    ) -> None:
        self._perceiver = perceiver
        self._transforms = transforms
        self._recent = recent
        self._faults = faults
        self._reader = FrameReader()

    def view(self, moment: Moment, parameters: NodeParameters, *, age_s: float | None) -> View:
        """What a moment shows.

        Raises:
            FrameError: its picture is too old, or cannot be read.
        """
        limit_s = parameters.max_image_age_s
        if limit_s and age_s is not None and age_s > limit_s:
            raise FrameError(
                f"the image is {age_s:.1f} s old on the node's clock, expected at most "
                f"{limit_s:g} s (max_image_age_s); if a bag is played, set use_sim_time and play "
                "it with --clock"
            )
        view = self._reader.read(moment, image_is_rectified=parameters.image_is_rectified)
        self._faults.recovered("image")
        for place, fault in (
            ("depth", view.depth_fault),
            ("camera_info", view.calibration_fault or view.calibration_note),
        ):
            if fault:
                self._faults.report(place, fault, level=WARN)
            else:
                self._faults.recovered(place)
        return view

    def ground(
        self,
        view: View,
        query: Query,
        parameters: NodeParameters,
        *,
        goal: GroundGoal | None,
        watch: Stopwatch,
        say: Callable[[str], None],
    ) -> Result:
        """The answer to a question of place, the standing one or a goal's.

        Raises:
            Qwen3VLError: as `Perception.ground`.
        """
        grounding = self._perceiver.ground(
            view.frame,
            query,
            # Without calibration its boxes have no scale, and nothing becomes 3D.
            model_boxes=parameters.model_boxes and view.frame.intrinsics is not None,
            stopwatch=watch,
        )
        say("transform")
        asked_frame = goal.frame_id if goal is not None else ""
        return result_from_grounding(
            view,
            grounding,
            transforms=self._transforms,
            target_frame=asked_frame or parameters.target_frame,
            timeout_s=parameters.tf_timeout_s,
            fall_back_to_camera=goal is None and parameters.tf_fallback == "camera",
            must_reach_target=bool(asked_frame),
            model_boxes=parameters.model_boxes,
        )

    def ask(self, view: View, goal: AskGoal, *, watch: Stopwatch) -> Response:
        """The answer to a question of any other kind, in pixels of the image message.

        Raises:
            FrameError: the pictures it wants to see are not kept.
            Qwen3VLError: as `Perception.ask`.
        """
        sight = shown(goal, newest=view, recent=self._recent.last(goal.video_s))
        response = self._perceiver.ask(sight.views, goal.query, stopwatch=watch)
        response = replace(response, notes=(*sight.notes, *response.notes))
        return in_raw_pixels(response, view.rectification)

    def verdict(self, answer: Result | Response) -> tuple[int, str]:
        """InferenceStatus outcome of an answer, and a sentence for a person."""
        self._faults.recovered("inference")
        warnings = answer.warnings if isinstance(answer, Response) else answer.grounding.warnings
        for warning in warnings:
            self._faults.report("inference", warning, level=WARN)
        if isinstance(answer, Response):
            return self._completeness(
                answer.complete,
                "the answer broke off; what came before is in it; ask for less",
                " ".join((*answer.warnings, *answer.notes)),
            )
        if answer.transform_fault:
            message = self._faults.report("transform", answer.transform_fault)
            return InferenceStatus.NO_TRANSFORM, message
        self._faults.recovered("transform")
        return self._completeness(
            answer.grounding.complete,
            f"the answer broke off after {len(answer.detections_2d)} objects, which were "
            "published; ask for fewer (max_objects)",
            answer.remarks,
        )

    def fault(self, error: Qwen3VLError) -> tuple[int, str]:
        """InferenceStatus outcome of an error, and its message."""
        outcome, place = _outcome_of(error)
        return outcome, self._faults.report(place, str(error))

    def _completeness(self, complete: bool, broke_off: str, remarks: str) -> tuple[int, str]:
        if complete:
            return InferenceStatus.OK, remarks
        message = self._faults.report("inference", broke_off, level=WARN)
        return InferenceStatus.TRUNCATED, f"{message} {remarks}".strip()


def _outcome_of(error: Qwen3VLError) -> tuple[int, str]:
    """InferenceStatus outcome and diagnostics place of an error."""
    if isinstance(error, FrameError):
        return InferenceStatus.BAD_FRAME, "image"
    if isinstance(error, AnswerError):
        return InferenceStatus.UNREADABLE, "inference"
    if isinstance(error, QueryError | ContextError):
        return InferenceStatus.BAD_QUERY, "inference"
    return InferenceStatus.ENGINE_FAILED, "inference"
