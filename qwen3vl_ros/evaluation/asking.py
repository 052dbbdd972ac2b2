# SPDX-License-Identifier: Apache-2.0
"""Every case is asked once; what was given is kept as it comes.

A model's failure on a question is its answer to it, and is kept as such. A picture that cannot be
read, an engine or a server that fails ends the asking: what was kept stays, and asking again goes
on from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import groupby
from queue import SimpleQueue

from ..errors import AnswerError, ContextError
from ..model.vision_language_model import View
from ..perception import Perception
from ..scene.answers import Response
from ..scene.camera import Frame
from ..scene.detections import SPATIAL_TASKS, Grounding
from ..scene.lifting import lift
from .case import Case
from .given import Fault, Given, given_by
from .journal import Journal


def ask(perception: Perception, cases: Sequence[Case], journal: Journal) -> Iterator[Given]:
    """Ask every case that the journal has no answer to; yields answers as they are kept.

    Raises:
        FrameError, QueryError, EngineError, RemoteError: as `Perception.ground`.
    """
    views: tuple[View, ...] = ()
    picture_id = None
    for case in cases:
        if case.case_id in journal.given:
            continue
        if case.picture_id != picture_id:
            views, picture_id = case.views(), case.picture_id
        given = _asked(perception, case, views)
        journal.add(given)
        yield given


def ask_at_once(
    perceptions: Sequence[Perception], cases: Sequence[Case], journal: Journal
) -> Iterator[Given]:
    """As `ask`, of several models that are alike, a picture for each at a time.

    Answers are kept when all questions about their picture are answered. The first failure ends
    the asking; what was being asked meanwhile is not kept.
    """
    left = [case for case in cases if case.case_id not in journal.given]
    pictures = [list(members) for _, members in groupby(left, key=lambda case: case.picture_id)]
    free: SimpleQueue[Perception] = SimpleQueue()
    for perception in perceptions:
        free.put(perception)

    def asked(members: Sequence[Case]) -> list[Given]:
        perception = free.get()
        try:
            views = members[0].views()
            return [_asked(perception, case, views) for case in members]
        finally:
            free.put(perception)

    with ThreadPoolExecutor(len(perceptions)) as pool:
        futures = [pool.submit(asked, members) for members in pictures]
        try:
            for future in as_completed(futures):
                for given in future.result():
                    journal.add(given)
                    yield given
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _asked(perception: Perception, case: Case, views: tuple[View, ...]) -> Given:
    started = time.monotonic()
    answer: Grounding | Response
    try:
        if case.query.task in SPATIAL_TASKS:
            frame = views[0]
            assert isinstance(frame, Frame), "a spatial case is about one frame"
            # What depth cannot lift is not lifted: the model's own boxes are asked for by name.
            answer = _about_words(frame, perception.ground(frame, case.query, model_boxes=False))
        else:
            answer = perception.ask(views, case.query)
    except AnswerError as error:
        fault, remark, words = Fault.UNREADABLE, str(error), error.answer_text
    except ContextError as error:
        fault, remark, words = Fault.NO_ROOM, str(error), ""
    else:
        return given_by(case.case_id, answer, seconds=time.monotonic() - started)
    return Given(
        case_id=case.case_id,
        seconds=time.monotonic() - started,
        words=words,
        fault=fault,
        remark=remark,
    )


def _about_words(frame: Frame, grounding: Grounding) -> Grounding:
    """Without the notes that a frame without depth draws: they are not about the answer."""
    if frame.depth_m is not None:
        return grounding
    about_depth = set(lift(frame, grounding.detections_2d).notes)
    notes = tuple(note for note in grounding.notes if note not in about_depth)
    return replace(grounding, notes=notes)
