# SPDX-License-Identifier: Apache-2.0
"""How right one answer is, 0 to 1: what sorts cases from worst to best.

A fault is 0: it is never "nothing". Where nothing was to be found, nothing is 1 and anything is 0.
Where several things were, answers and truths are paired one to one, the most alike first; the sum
of what the pairs share is divided by the number of truths or of answers, whichever is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..scene.answers import Moment, TextSpan
from ..scene.detections import Task
from ..scene.geometry import overlap_of_boxes
from .case import Boxes, Case, Number, Place, Places, Solids, Span, Texts, TrueText, Wording
from .coco_ap import on_list
from .given import Given
from .solid_overlap import overlap_of_solids

PLACED = 0.5  # overlap from which a text is where it was said to be

A = TypeVar("A")
T = TypeVar("T")


def case_score(case: Case, given: Given) -> float:
    """Of one case."""
    truth = case.truth
    if given.fault is not None:
        return 0.0
    if case.is_about_nothing:
        return float(gave_nothing(given))
    if isinstance(truth, Boxes):
        if case.query.task is Task.REFER:
            return referred_overlap(truth, given)
        boxes = [box for box in truth.boxes if box.counts]
        named = list(on_list(case, given.boxes))
        return _shared(
            named,
            boxes,
            lambda one, box: (
                overlap_of_boxes(one[1].xyxy_px, box.xyxy_px) if one[0] == box.label else 0.0
            ),
        )
    if isinstance(truth, Solids):
        solids = [solid for solid in truth.solids if solid.counts]
        return _shared(given.solids, solids, lambda a, t: overlap_of_solids(a.box, t.box))
    if isinstance(truth, Places):
        return _shared(given.points, truth.places, lambda a, t: float(is_on(t, a.uv_px)))
    if isinstance(truth, Number):
        return float(given.number == truth.number)
    if isinstance(truth, Texts):
        return _shared(given.texts, truth.texts, lambda a, t: float(is_read(a, t)))
    if isinstance(truth, Wording):
        return float(is_worded(truth, given.words))
    return moment_overlap(truth, given.moments)


def gave_nothing(given: Given) -> bool:
    """Whether an answer that could be read says that nothing is there."""
    found = given.boxes or given.points or given.solids or given.texts or given.moments
    return given.fault is None and not found and not given.number


def referred_overlap(truth: Boxes, given: Given) -> float:
    """Of the first box given with the one that is right; 0 where none was given.

    Where several are right, all that were given are paired with them.
    """
    boxes = given.boxes[:1] if len(truth.boxes) == 1 else given.boxes
    return _shared(boxes, truth.boxes, lambda a, t: overlap_of_boxes(a.xyxy_px, t.xyxy_px))


def is_on(place: Place, uv_px: npt.NDArray[np.float64]) -> bool:
    """Whether a point (2,) is inside the box, and on the mask where there is one."""
    inside = bool((place.xyxy_px[:2] <= uv_px).all() and (uv_px <= place.xyxy_px[2:]).all())
    if not inside or place.mask is None:
        return inside
    rows, columns = place.mask.shape
    u, v = int(min(uv_px[0], columns - 1)), int(min(uv_px[1], rows - 1))
    return bool(place.mask[v, u])


def is_read(text: TextSpan, truth: TrueText) -> bool:
    """Whether a text says what is written, whatever its case."""
    return _plain(text.text) == _plain(truth.text)


def is_placed(text: TextSpan, truth: TrueText) -> bool:
    """Whether it also says where."""
    return is_read(text, truth) and overlap_of_boxes(text.xyxy_px, truth.xyxy_px) >= PLACED


def is_worded(truth: Wording, words: str) -> bool:
    """Whether an answer in words is one of the accepted ones."""
    return _plain(words) in {_plain(one) for one in truth.accepted}


def moment_overlap(truth: Span, moments: Sequence[Moment]) -> float:
    """Intersection over union of the first moment given with the true one, by time."""
    if not moments:
        return 0.0
    first = moments[0]
    shared = min(first.end_s, truth.end_s) - max(first.start_s, truth.start_s)
    union = max(first.end_s, truth.end_s) - min(first.start_s, truth.start_s)
    return max(shared, 0.0) / union if union > 0 else 1.0


def pairs_of(
    answers: Sequence[A], truths: Sequence[T], alike: Callable[[A, T], float]
) -> list[tuple[int, int, float]]:
    """Answer, truth and how alike they are, one to one, the most alike first."""
    table = np.array([[alike(a, t) for t in truths] for a in answers], np.float64)
    pairs = []
    while table.size and table.max() > 0:
        answer, truth = np.unravel_index(int(table.argmax()), table.shape)
        pairs.append((int(answer), int(truth), float(table[answer, truth])))
        table[answer, :] = table[:, truth] = 0.0
    return pairs


def _shared(answers: Sequence[A], truths: Sequence[T], alike: Callable[[A, T], float]) -> float:
    most = max(len(answers), len(truths))
    # Everything that was asked for does not count, and nothing was said: as right as can be.
    return sum(pair[2] for pair in pairs_of(answers, truths, alike)) / most if most else 1.0


def _plain(words: str) -> str:
    return " ".join(words.split()).casefold().strip(" .!\"'")
