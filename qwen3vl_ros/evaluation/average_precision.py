# SPDX-License-Identifier: Apache-2.0
"""Average precision, by the rules of COCO that Omni3D takes over, over any kind of overlap.

Within a picture and a category, answers choose truths in the order of their scores: the free
truth of the largest overlap, one that counts before one that does not. An answer that chose a
truth which does not count is neither right nor wrong. Over all pictures, precision is made
non-increasing and its mean is taken at 101 recalls (cocodataset/cocoapi; facebookresearch/omni3d,
cubercnn/evaluation/omni3d_evaluation.py).

2D boxes are left to a library (`coco_ap.py`), which these numbers equal on 2D boxes; 3D boxes have
no library that installs without CUDA or a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_ANSWERS = 100  # in one picture and category; COCO and Omni3D look at no more
_RECALLS = np.linspace(0.0, 1.0, 101)
_EXACT = 1 - 1e-10  # a threshold of 1 asks for no more than this


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """The answers about one category in one picture, held against its truths.

    Attributes:
        scores: (D,) float64, descending.
        right: (D,) bool, chose a truth that counts.
        ignored: (D,) bool, neither right nor wrong.
        counted: number of truths that count.
    """

    scores: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    counted: int


def matched(
    overlaps: npt.NDArray[np.float64],
    *,
    scores: npt.NDArray[np.float64],
    truth_ignored: npt.NDArray[np.bool_],
    answer_ignored: npt.NDArray[np.bool_],
    threshold: float,
) -> Matched:
    """Which answers are right.

    Args:
        overlaps: (D, G) float64, of each answer with each truth.
        scores: (D,) float64; equal ones keep their order.
        truth_ignored: (G,) bool, truths that do not count.
        answer_ignored: (D,) bool, answers that are not wrong when they are not right.
        threshold: least overlap of what is right.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_ANSWERS]
    truths = np.argsort(truth_ignored, kind="stable")  # those that count come first
    free = np.ones(len(truths), bool)
    right = np.zeros(len(order), bool)
    ignored = answer_ignored[order].copy()
    for rank, answer in enumerate(order):
        chosen, best = None, min(threshold, _EXACT)
        for place, truth in enumerate(truths):
            if chosen is not None and not truth_ignored[truths[chosen]] and truth_ignored[truth]:
                break
            if free[place] and overlaps[answer, truth] >= best:
                chosen, best = place, overlaps[answer, truth]
        if chosen is not None:
            free[chosen] = False
            ignored[rank] = truth_ignored[truths[chosen]]
            right[rank] = not ignored[rank]
    return Matched(
        scores=scores[order],
        right=right,
        ignored=ignored,
        counted=int(np.count_nonzero(~truth_ignored)),
    )


def average_precision(pictures: Sequence[Matched]) -> float | None:
    """Of one category over all pictures, 0 to 1; None where no truth counts."""
    counted = sum(picture.counted for picture in pictures)
    if counted == 0:
        return None
    scores = np.concatenate([picture.scores for picture in pictures])
    order = np.argsort(-scores, kind="stable")
    ignored = np.concatenate([picture.ignored for picture in pictures])[order]
    right = np.concatenate([picture.right for picture in pictures])[order]
    # An ignored answer stays in the row and moves neither count, as in COCO's own code.
    right_so_far = np.cumsum(right & ~ignored)
    wrong_so_far = np.cumsum(~right & ~ignored)
    recall = right_so_far / counted
    precision = right_so_far / np.maximum(right_so_far + wrong_so_far, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.where(reached < len(envelope), np.append(envelope, 0.0)[reached], 0.0).mean())
