# SPDX-License-Identifier: Apache-2.0
"""Average precision: small cases by hand, and large ones against a library that knows COCO."""

from __future__ import annotations

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from qwen3vl_ros.evaluation.average_precision import Matched, average_precision, matched
from qwen3vl_ros.scene.geometry import overlap_of_boxes


def held(overlaps, scores, *, truth_ignored=None, answer_ignored=None, threshold=0.5) -> Matched:
    overlaps = np.array(overlaps, float).reshape(len(scores), -1)
    return matched(
        overlaps,
        scores=np.array(scores, float),
        truth_ignored=np.array(truth_ignored or [False] * overlaps.shape[1]),
        answer_ignored=np.array(answer_ignored or [False] * len(scores)),
        threshold=threshold,
    )


def test_of_two_answers_about_one_truth_the_surer_is_right_and_the_other_wrong():
    result = held([[0.6], [0.9]], [0.8, 0.7])
    assert result.right.tolist() == [True, False]
    assert not result.ignored.any()


def test_an_answer_takes_the_free_truth_that_it_overlaps_most():
    result = held([[0.6, 0.9], [0.55, 0.9]], [0.9, 0.8])
    assert result.right.tolist() == [True, True]


def test_a_truth_that_does_not_count_makes_its_answer_neither_right_nor_wrong():
    result = held([[0.9, 0.6], [0.9, 0.0]], [0.9, 0.8], truth_ignored=[True, False])
    # The surer one overlaps the truth that does not count more, and is yet taken as right.
    assert result.right.tolist() == [True, False]
    assert result.ignored.tolist() == [False, True]
    assert result.counted == 1


def test_the_mean_of_precision_at_101_recalls_by_hand():
    """Right, wrong, right of two truths: precision 1 up to recall 0.5, then 2/3."""
    result = held([[1, 0], [0, 0], [0, 1]], [0.9, 0.8, 0.7])
    assert average_precision([result]) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_what_was_never_found_costs_the_recall_it_would_have_had():
    assert average_precision([held([[1, 0]], [0.5])]) == pytest.approx(51 / 101)


def test_no_truth_is_no_number_and_no_answer_is_none_right():
    nothing_true = matched(
        np.zeros((1, 0)),
        scores=np.ones(1),
        truth_ignored=np.zeros(0, bool),
        answer_ignored=np.zeros(1, bool),
        threshold=0.5,
    )
    assert average_precision([nothing_true]) is None
    nothing_said = matched(
        np.zeros((0, 2)),
        scores=np.zeros(0),
        truth_ignored=np.zeros(2, bool),
        answer_ignored=np.zeros(0, bool),
        threshold=0.5,
    )
    assert average_precision([nothing_said]) == 0.0


def random_boxes(rng, count):
    low = rng.uniform(0, 60, (count, 2))
    return np.c_[low, low + rng.uniform(10, 40, (count, 2))]


@pytest.mark.parametrize("same_scores", [False, True], ids=["own scores", "all 1.0"])
@pytest.mark.parametrize("threshold", [0.5, 0.75])
@pytest.mark.parametrize("seed", range(4))
def test_2d_boxes_get_the_number_that_the_library_gives_them(seed, threshold, same_scores):
    """Crowds are left out: COCO compares them otherwise, and 3D boxes have none."""
    rng = np.random.default_rng(seed)
    pictures, images, truths, answers = [], [], [], []
    for image_id in range(1, 16):
        true = random_boxes(rng, rng.integers(0, 6))
        given = np.concatenate(
            [true + rng.uniform(-4, 4, true.shape), random_boxes(rng, rng.integers(0, 4))]
        )
        given = given[rng.permutation(len(given))]
        scores = np.ones(len(given)) if same_scores else rng.uniform(size=len(given)).round(1)
        images.append({"id": image_id, "width": 100, "height": 100})
        for xyxy in true:
            size = xyxy[2:] - xyxy[:2]
            truths.append(
                {
                    "id": len(truths) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [*xyxy[:2], *size],
                    "area": float(np.prod(size)),
                    "iscrowd": 0,
                }
            )
        answers += [
            {
                "image_id": image_id,
                "category_id": 1,
                "bbox": [*xyxy[:2], *(xyxy[2:] - xyxy[:2])],
                "score": float(score),
            }
            for xyxy, score in zip(given, scores, strict=True)
        ]
        overlaps = np.array([[overlap_of_boxes(g, t) for t in true] for g in given])
        pictures.append(
            matched(
                overlaps.reshape(len(given), len(true)),
                scores=scores,
                truth_ignored=np.zeros(len(true), bool),
                answer_ignored=np.zeros(len(given), bool),
                threshold=threshold,
            )
        )
    truth = COCO({"images": images, "annotations": truths, "categories": [{"id": 1, "name": "a"}]})
    library = COCOeval_faster(truth, truth.loadRes(answers), iouType="bbox")
    library.evaluate()
    library.accumulate()
    at = int(np.flatnonzero(np.isclose(library.params.iouThrs, threshold))[0])
    expected = library.eval["precision"][at, :, 0, 0, -1].mean()
    assert average_precision(pictures) == pytest.approx(expected, abs=1e-9)
