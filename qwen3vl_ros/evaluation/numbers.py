# SPDX-License-Identifier: Apache-2.0
"""What is told of an evaluation: a few numbers for each group of cases, each with its meaning.

What could not be read is wrong wherever a share is told, and is counted apart. What was not given
is infinitely wrong wherever an error is told: a model that answers the easy half only shall not
look good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..scene.answers import TextSpan
from ..scene.detections import Task
from .case import (
    Boxes,
    Case,
    Number,
    Places,
    Solids,
    Span,
    Texts,
    TrueText,
    Wording,
    picture_order,
)
from .case_score import (
    case_score,
    gave_nothing,
    is_on,
    is_placed,
    is_read,
    is_worded,
    moment_overlap,
    pairs_of,
    referred_overlap,
)
from .coco_ap import box_precision, on_list
from .given import Fault, Given
from .solid_ap import THRESHOLDS, overlaps_of, solid_precision
from .solid_error import SolidError, solid_error

Numbers = Mapping[str, float | int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """An evaluation in numbers.

    Attributes:
        groups: by group of cases, its numbers by name; `meanings.py` says what each is.
        categories: by group, the average precision of each category, every score 1.0.
        scores: by case, how right it is (`case_score`).
    """

    groups: Mapping[str, Numbers]
    categories: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


def results_of(cases: Sequence[Case], given: Mapping[str, Given]) -> Results:
    """Of all cases, each of which has an answer or a fault."""
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=picture_order):
        groups.setdefault(case.group, []).append(case)
    numbers: dict[str, Numbers] = {}
    categories: dict[str, Mapping[str, float]] = {}
    for group, members in groups.items():
        told, by_category = _told(members, given)
        numbers[group] = {**_of_any(members, given), **told}
        if by_category:
            categories[group] = by_category
    return Results(
        groups=numbers,
        categories=categories,
        scores={case.case_id: case_score(case, given[case.case_id]) for case in cases},
    )


def _told(
    cases: Sequence[Case], given: Mapping[str, Given]
) -> tuple[Numbers, Mapping[str, float]]:
    """What is told of the kind of truth that a group has, and AP by category."""
    truth, task = cases[0].truth, cases[0].query.task
    if any(type(case.truth) is not type(truth) or case.query.task is not task for case in cases):
        raise ValueError(f"the group '{cases[0].group}' mixes kinds of questions")
    if isinstance(truth, Boxes) and task is Task.DETECT:
        return _of_boxes(cases, given)
    if isinstance(truth, Solids):
        return _of_solids(cases, given)
    # What is about nothing is told by the numbers that every group has.
    about = [case for case in cases if not case.is_about_nothing]
    if isinstance(truth, Number):
        about = list(cases)
    return (_of_others(about, given) if about else {}), {}


def _of_any(cases: Sequence[Case], given: Mapping[str, Given]) -> Numbers:
    answers = [given[case.case_id] for case in cases]
    absent = [given[case.case_id] for case in cases if case.is_about_nothing]
    faults = [answer.fault for answer in answers]
    numbers: dict[str, float | int | None] = {
        "questions": len(cases),
        "pictures": len({case.picture_id for case in cases}),
        "unreadable": faults.count(Fault.UNREADABLE),
        "no_room": faults.count(Fault.NO_ROOM),
        "incomplete": sum(not answer.complete for answer in answers),
        "mended": sum(bool(answer.notes) for answer in answers),
        "seconds_median": float(np.median([answer.seconds for answer in answers])),
    }
    if absent:
        numbers["absent_asked"] = len(absent)
        numbers["absent_answered_nothing"] = float(np.mean([gave_nothing(a) for a in absent]))
    return numbers


def _of_boxes(
    cases: Sequence[Case], given: Mapping[str, Given]
) -> tuple[Numbers, Mapping[str, float]]:
    alike = box_precision(cases, given, own_scores=False)
    own = box_precision(cases, given, own_scores=True)
    assert alike is not None, "without scores of its own"
    numbers: dict[str, float | int | None] = {
        "ap": alike.ap,
        "ap50": alike.ap50,
        "ap75": alike.ap75,
        "ap_own": own.ap if own else None,
        "ap50_own": own.ap50 if own else None,
        "ap75_own": own.ap75 if own else None,
        "unasked": sum(
            len(given[case.case_id].boxes) - len(list(on_list(case, given[case.case_id].boxes)))
            for case in cases
        ),
    }
    return numbers, alike.by_category


def _of_solids(
    cases: Sequence[Case], given: Mapping[str, Given]
) -> tuple[Numbers, Mapping[str, float]]:
    compared = [overlaps_of(case, given[case.case_id]) for case in cases]
    numbers: dict[str, float | int | None] = {}
    by_category: Mapping[str, float] = {}
    for own_scores, suffix in ((False, ""), (True, "_own")):
        for threshold in THRESHOLDS:
            precisions = solid_precision(compared, threshold=threshold, own_scores=own_scores)
            name = f"ap3d_{round(100 * threshold)}{suffix}"
            numbers[name] = float(np.mean(list(precisions.values()))) if precisions else None
            if not own_scores and threshold == THRESHOLDS[0]:
                by_category = precisions or {}
    errors: list[SolidError | None] = []
    for case in cases:
        errors += _errors(case, given[case.case_id])
    known = [error for error in errors if error is not None]
    missing = len(errors) - len(known)
    numbers["objects"] = len(errors)
    if errors:
        numbers["objects_given"] = len(known) / len(errors)
        numbers["center_median_m"] = _median([e.center_m for e in known], missing)
        numbers["size_median_share"] = _median([e.size_share for e in known], missing)
        numbers["turn_median_deg"] = _median([e.turn_deg for e in known], missing)
    return numbers, by_category


def _errors(case: Case, given: Given) -> list[SolidError | None]:
    """Of each object that counts, with the answer nearest to it that no other object has."""
    assert isinstance(case.truth, Solids), "of _of_solids"
    truths = [solid for solid in case.truth.solids if solid.counts]
    errors: list[SolidError | None] = [None] * len(truths)
    nearness = pairs_of(
        given.solids,
        truths,
        lambda a, t: 1 / (1 + float(np.linalg.norm(a.box.center_m - t.box.center_m))),
    )
    for answer, truth, _ in nearness:
        errors[truth] = solid_error(given.solids[answer].box, truths[truth].box)
    return errors


def _of_others(cases: Sequence[Case], given: Mapping[str, Given]) -> Numbers:
    truth = cases[0].truth
    answers = [(case.truth, given[case.case_id]) for case in cases]
    if isinstance(truth, Boxes):
        return _of_descriptions([(t, a) for t, a in answers if isinstance(t, Boxes)])
    if isinstance(truth, Places):
        return _of_points([(t, a) for t, a in answers if isinstance(t, Places)])
    if isinstance(truth, Number):
        counted = [(t.number, a.number) for t, a in answers if isinstance(t, Number)]
        errors = [abs(true - said) for true, said in counted if said is not None]
        return {
            "count_right": float(np.mean([true == said for true, said in counted])),
            "count_error_mean": float(np.mean(errors)) if errors else None,
        }
    if isinstance(truth, Texts):
        return _of_texts([(t, a) for t, a in answers if isinstance(t, Texts)])
    if isinstance(truth, Wording):
        right = [
            a.fault is None and is_worded(t, a.words) for t, a in answers if isinstance(t, Wording)
        ]
        return {"answers_right": float(np.mean(right))}
    times = np.array([moment_overlap(t, a.moments) for t, a in answers if isinstance(t, Span)])
    return {"time_iou_mean": float(times.mean()), "time_at_50": float((times >= 0.5).mean())}


def _of_descriptions(answers: Sequence[tuple[Boxes, Given]]) -> Numbers:
    overlaps = np.array([referred_overlap(truth, given) for truth, given in answers])
    numbers: dict[str, float | int | None] = {
        "iou_mean": float(overlaps.mean()),
        "accuracy_50": float((overlaps >= 0.5).mean()),
    }
    true = [(truth.boxes[0].solid, given) for truth, given in answers if len(truth.boxes) == 1]
    with_depth = [(solid, given) for solid, given in true if solid is not None]
    errors = [
        solid_error(given.solids[0].box, solid)
        for solid, given in with_depth
        if given.solids and len(given.solids) == len(given.boxes)
    ]
    missing = len(with_depth) - len(errors)
    if with_depth:
        numbers["lifted"] = len(errors) / len(with_depth)
        numbers["lifted_center_median_m"] = _median([e.center_m for e in errors], missing)
        numbers["lifted_size_median_share"] = _median([e.size_share for e in errors], missing)
    return numbers


def _of_points(answers: Sequence[tuple[Places, Given]]) -> Numbers:
    inside = [
        any(is_on(place, point.uv_px) for place in truth.places)
        for truth, given in answers
        for point in given.points
    ]
    pointed = [
        any(is_on(place, point.uv_px) for point in given.points)
        for truth, given in answers
        for place in truth.places
    ]
    return {
        "points_inside": float(np.mean(inside)) if inside else None,
        "objects_pointed": float(np.mean(pointed)),
    }


def _of_texts(answers: Sequence[tuple[Texts, Given]]) -> Numbers:
    written = sum(len(truth.texts) for truth, _ in answers)
    said = sum(len(given.texts) for _, given in answers)
    read, placed = _paired(answers, is_read), _paired(answers, is_placed)
    return {
        "words_read": read / written,
        "words_placed": placed / written,
        "words_invented": (said - read) / said if said else None,
    }


def _paired(
    answers: Sequence[tuple[Texts, Given]], is_right: Callable[[TextSpan, TrueText], bool]
) -> int:
    """How many texts that are there have an answer of their own that is right."""
    return sum(
        len(pairs_of(given.texts, truth.texts, lambda a, t: float(is_right(a, t))))
        for truth, given in answers
    )


def _median(known: Sequence[float], missing: int) -> float | None:
    values = np.array([*known, *([np.inf] * missing)])
    median = float(np.quantile(values, 0.5, method="higher"))
    return median if np.isfinite(median) else None
