# SPDX-License-Identifier: Apache-2.0
"""Average precision of 3D boxes, as Omni3D computes it: COCO's rules over the overlap of volumes.

Twice: with every score 1.0, as the technical report has it, and with ours. Of equal scores the
earlier answer of the earlier picture comes first. The mean over categories leaves out those of
which nothing counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scene.detections import Detection3D
from .average_precision import Matched, average_precision, matched
from .case import Case, Solids
from .given import Given
from .solid_overlap import overlap_of_solids

THRESHOLDS = (0.15, 0.25, 0.5)
_FARTHEST_M = 1e5


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlaps:
    """The answers to one case and how they overlap its truths.

    Attributes:
        category: that was asked for.
        overlaps: (D, G) float64, intersection over union of volumes.
        scores: (D,) float64 of the answers; None where the model tells none.
        counts: (G,) bool, truths that count.
        is_behind: (D,) bool, answers behind the camera: Omni3D takes them for neither right nor
            wrong.
    """

    category: str
    overlaps: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64] | None
    counts: npt.NDArray[np.bool_]
    is_behind: npt.NDArray[np.bool_]


def overlaps_of(case: Case, given: Given) -> Overlaps:
    """Every answer to a DETECT_3D case against every truth."""
    assert isinstance(case.truth, Solids), "DETECT_3D cases have solids"
    answers: Sequence[Detection3D] = given.solids
    truths = case.truth.solids
    depths = np.array([solid.box.center_m[2] for solid in answers])
    scores = [solid.score for solid in answers if solid.score is not None]
    return Overlaps(
        category=case.query.text,
        overlaps=np.array(
            [[overlap_of_solids(answer.box, truth.box) for truth in truths] for answer in answers],
            np.float64,
        ).reshape(len(answers), len(truths)),
        scores=np.array(scores, np.float64) if len(scores) == len(answers) else None,
        counts=np.array([truth.counts for truth in truths], bool),
        is_behind=(depths < 0) | (depths > _FARTHEST_M),
    )


def solid_precision(
    compared: Sequence[Overlaps], *, threshold: float, own_scores: bool
) -> Mapping[str, float] | None:
    """By category, in the order in which they were first asked; None without own scores.

    Args:
        compared: of every case, pictures in order.
        threshold: least overlap of what is right.
        own_scores: whether answers are ranked by their scores, or all alike.
    """
    by_category: dict[str, list[Matched]] = {}
    for one in compared:
        if own_scores and one.scores is None:
            return None
        scores = (
            one.scores if own_scores and one.scores is not None else np.ones(len(one.overlaps))
        )
        by_category.setdefault(one.category, []).append(
            matched(
                one.overlaps,
                scores=scores,
                truth_ignored=~one.counts,
                answer_ignored=one.is_behind,
                threshold=threshold,
            )
        )
    precisions = {name: average_precision(pictures) for name, pictures in by_category.items()}
    return {name: precision for name, precision in precisions.items() if precision is not None}
