# SPDX-License-Identifier: Apache-2.0
"""The main path: a camera frame and a query in, located objects out. Start reading here.

Names every stage in order and does none of them itself. Knows no ROS and no torch.

`ground` is for questions of place, `ask` for all others.
3D boxes come from depth where there is depth inside a 2D box. Where there is none, the model is
asked once more, for its own 3D boxes of the same thing (`BoxSource.MODEL`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from .errors import AnswerError, QueryError
from .language.labels import unasked_warning
from .language.reading import Reading
from .model.answering import Answerer
from .model.local_model import LocalModel
from .model.own_boxes import own_boxes
from .model.stopwatch import Stopwatch
from .model.taught_tasks import TaughtTasks, load_taught_tasks
from .model.vision_language_model import View, VisionLanguageModel
from .model.zooming import answer_by_zooming
from .scene.answers import Response, ResponseValue
from .scene.camera import Frame
from .scene.clip import Clip
from .scene.detections import (
    ONE_PICTURE_TASKS,
    SPATIAL_TASKS,
    VIDEO_TASKS,
    Grounding,
    Query,
    Task,
)
from .scene.lifting import lift

# Without a calibration no box is from depth.
UNCALIBRATED = "the camera is not calibrated: the model's 3D boxes guess its focal length"


class Perception:
    """A model, asked about what a camera saw; one question at a time, one thread."""

    def __init__(self, model: VisionLanguageModel, *, taught: TaughtTasks | None = None) -> None:
        """What it was taught, if that is known, is only told with answers to other tasks."""
        self._model = model
        self._taught = taught
        self._answerer = Answerer(model)

    @classmethod
    def load(
        cls,
        engine_dir: Path,
        *,
        threads: int = 0,
        spinning: bool = False,
        providers: Sequence[str] | None = None,
        allow_fallback: bool = False,
    ) -> Perception:
        """Load an engine directory, or refuse it.

        Args:
            engine_dir: written by `qwen3vl export`.
            threads: CPU threads of the model; 0 takes every core.
            spinning: let waiting threads keep their cores busy.
            providers: ONNX Runtime's execution providers (`runtime/providers.py`), in order; None
                takes what is installed.
            allow_fallback: run without a provider that does not start, rather than not at all.

        Raises:
            EngineError: missing, damaged, not what its manifest says (names the field), or too
                large for the memory that is free; or a provider does not start.
            ConfigError, CheckpointError: a config, the tokenizer, the chat template or the list of
                taught tasks in it cannot be read.
            MissingDependency: the runtime it is for is not installed.
        """
        return cls(
            LocalModel.load(
                engine_dir,
                threads=threads,
                spinning=spinning,
                providers=providers,
                allow_fallback=allow_fallback,
            ),
            taught=load_taught_tasks(engine_dir),
        )

    def ground(
        self,
        frame: Frame,
        query: Query,
        *,
        model_boxes: bool = True,
        stopwatch: Stopwatch | None = None,
    ) -> Grounding:
        """Find what is asked for.

        Args:
            frame: 3D boxes need its depth and intrinsics, or `model_boxes`.
            query: what to look for; one of `SPATIAL_TASKS`.
            model_boxes: ask the model for its own 3D box of what has no depth; costs time.
            stopwatch: the caller's, told of every stage.

        Raises:
            AnswerError: the model's answer cannot be read; this is never "nothing there".
            ContextError: the query does not fit the engine's cache.
            FrameError, QueryError: the picture or the query cannot be used.
            EngineError, RemoteError: the model failed.
        """
        query.require_spatial()
        watch = stopwatch if stopwatch is not None else Stopwatch()
        sight = self._model.see(frame, watch=watch)
        height, width = frame.image.shape[:2]
        # chat_from_query -> VisionLanguageModel.say -> parse_answer -> object_scores
        warnings = self._warnings(query.task)
        with _said_of_nonsense(warnings):
            reply = self._answerer.ask(query, sight, width=width, height=height, watch=watch)
        detections_2d = reply.detections_2d()
        if query.task is Task.DETECT:
            named = [found.label for found in detections_2d]
            warnings = (*warnings, *unasked_warning(named, query.categories))
        with watch.stage("lift"):
            lifted = lift(frame, detections_2d)
        remarks: tuple[str, ...] = ()
        if model_boxes and None in lifted.detections:
            own, remarks = own_boxes(
                self._answerer,
                query,
                sight,
                frame,
                detections=detections_2d,
                lifted=lifted.detections,
                watch=watch,
            )
            lifted = lifted.filled(own)
            warnings = (*warnings, *self._warnings(Task.DETECT_3D))
        detections_3d = (*lifted.found, *reply.detections_3d())
        if frame.intrinsics is None and detections_3d:
            remarks = (*remarks, UNCALIBRATED)
        return Grounding(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            query=query,
            detections_2d=detections_2d,
            points=reply.points(),
            detections_3d=detections_3d,
            complete=reply.answer.complete,
            answer_text=reply.answer.text,
            notes=(*reply.answer.notes, *lifted.notes, *remarks),
            warnings=warnings,
        )

    def ask(
        self, views: Sequence[View], query: Query, *, stopwatch: Stopwatch | None = None
    ) -> Response:
        """Answer what is no matter of boxes in one picture: text, counts, words, times, steps.

        Args:
            views: what it is about: one clip for `VIDEO_TASKS`, one frame to read or count in,
                several to compare, else at least one of either.
            query: of any other than `SPATIAL_TASKS`.
            stopwatch: the caller's, told of every stage.

        Raises:
            AnswerError, ContextError, FrameError, QueryError, EngineError, RemoteError: as
                `ground`.
        """
        _require_views(views, query)
        watch = stopwatch if stopwatch is not None else Stopwatch()
        sights = [self._model.see(view, watch=watch) for view in views]
        frames = [view if isinstance(view, Frame) else view.frames[0] for view in views]
        warnings = self._warnings(query.task)
        with _said_of_nonsense(warnings):
            if query.task is Task.ZOOM:
                zoomed = answer_by_zooming(self._model, query, frames, sights, watch=watch)
                reading = cast("Reading[ResponseValue]", zoomed)
            else:
                height, width = frames[0].image.shape[:2]
                clips = [view for view in views if isinstance(view, Clip)]
                reading = self._answerer.find(
                    query,
                    sights,
                    width=width,
                    height=height,
                    duration_s=clips[0].duration_s if clips else math.inf,
                    watch=watch,
                )
        return Response(
            stamp_ns=frames[0].stamp_ns,
            frame_id=frames[0].frame_id,
            query=query,
            value=reading.value,
            complete=reading.complete,
            answer_text=reading.text,
            notes=reading.notes,
            warnings=warnings,
        )

    def _warnings(self, task: Task) -> tuple[str, ...]:
        return () if self._taught is None else self._taught.warnings([task])


@contextmanager
def _said_of_nonsense(warnings: Sequence[str]) -> Iterator[None]:
    """Adds to an answer that cannot be read what speaks against the model's answers at all."""
    try:
        yield
    except AnswerError as error:
        if not warnings:
            raise
        raise AnswerError(
            "; ".join([str(error), *warnings]), answer_text=error.answer_text
        ) from error


def _require_views(views: Sequence[View], query: Query) -> None:
    """Refuse a question about other views than its task is for."""
    task = query.task
    if task in SPATIAL_TASKS:
        raise QueryError(
            f"{task.query} is answered by boxes or points in one picture, expected "
            "another task here; ask it of `Perception.ground`"
        )
    clips = sum(isinstance(view, Clip) for view in views)
    frames = len(views) - clips
    if task in VIDEO_TASKS:
        wanted, fits = "one video", (clips, frames) == (1, 0)
    elif task in ONE_PICTURE_TASKS:
        wanted, fits = "one picture", (clips, frames) == (0, 1)
    elif task is Task.COMPARE:
        wanted, fits = "at least two pictures", clips == 0 and frames >= 2
    elif task is Task.ZOOM:
        wanted, fits = "pictures only, at least one", clips == 0 and frames >= 1
    else:
        wanted, fits = "at least one picture or video", len(views) >= 1
    if not fits:
        raise QueryError(
            f"{task.query} was asked about {frames} pictures and {clips} videos, expected {wanted}"
        )
