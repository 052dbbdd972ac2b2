# SPDX-License-Identifier: Apache-2.0
"""The model's own 3D boxes of things already found in 2D, for want of depth.

Knows that the model was trained to be asked for 3D boxes of one thing at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import AnswerError, ContextError, RemoteError
from ..scene.box_matching import matched_boxes
from ..scene.camera import Frame
from ..scene.detections import Detection2D, Detection3D, Query, Task
from .answering import Answerer
from .stopwatch import Stopwatch
from .vision_language_model import Sight


def own_boxes(
    answerer: Answerer,
    query: Query,
    sight: Sight,
    frame: Frame,
    *,
    detections: Sequence[Detection2D],
    lifted: Sequence[Detection3D | None],
    watch: Stopwatch,
) -> tuple[tuple[Detection3D | None, ...], tuple[str, ...]]:
    """For each 2D detection of `query` the model's own 3D box, or None; and remarks.

    Asks only after what holds a detection that `lifted` has no box for. A 3D answer that cannot
    be read, does not fit, or that a server fails to give, is a remark: the 2D answer stands.
    """
    boxes: list[Detection3D | None] = [None] * len(detections)
    notes = []
    height, width = frame.image.shape[:2]
    for words in query.categories if query.task is Task.DETECT else (query.text,):
        alike = [
            i
            for i, detection in enumerate(detections)
            if query.task is not Task.DETECT or detection.label.casefold() == words.casefold()
        ]
        if all(lifted[i] is not None for i in alike):
            continue
        question = replace(query, task=Task.DETECT_3D, text=words, categories=())
        try:
            reply = answerer.ask(question, sight, width=width, height=height, watch=watch)
        except (AnswerError, ContextError, RemoteError) as error:
            notes.append(f"no 3D box of '{words}' from the model: {error}")
            continue
        found = matched_boxes(
            [detections[i] for i in alike], reply.detections_3d(), frame.intrinsics
        )
        for i, box in zip(alike, found, strict=True):
            boxes[i] = box
    return tuple(boxes), tuple(notes)
