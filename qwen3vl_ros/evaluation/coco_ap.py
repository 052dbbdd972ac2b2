# SPDX-License-Identifier: Apache-2.0
"""COCO's numbers about 2D boxes, computed by a library that is kept (faster-coco-eval).

Twice: with every score 1.0, as the technical report has it for want of scores, and with ours. Of
equal scores the earlier answer of the earlier picture comes first, as in COCO's own code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from ..scene.detections import Detection2D
from .asked_categories import same_words
from .case import Boxes, Case, picture_order
from .given import Given

try:
    from faster_coco_eval import COCO, COCOeval_faster
except ImportError as error:  # pragma: no cover - part of what make setup installs
    raise MissingDependency(
        "faster-coco-eval",
        needed_for="COCO's average precision",
        install="pip install -e '.[evaluate]' (or make setup)",
    ) from error

_MOST_ANSWERS_LVIS = 300  # in one picture; COCO looks at 100 of each category


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxPrecision:
    """Average precisions, 0 to 1; None where nothing counts.

    Attributes:
        ap: mean over overlaps 0.50, 0.55, ... 0.95.
        ap50: at an overlap of 0.5.
        ap75: at 0.75.
        by_category: `ap` of each category of which anything counts.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    by_category: Mapping[str, float]


def box_precision(
    cases: Sequence[Case], given: Mapping[str, Given], *, own_scores: bool
) -> BoxPrecision | None:
    """Of all cases together; None where `own_scores` are asked for and the model tells none."""
    categories = list(dict.fromkeys(name for case in cases for name in case.query.categories))
    number_of = {name: number for number, name in enumerate(categories, start=1)}
    ordered = sorted(cases, key=picture_order)
    pictures = dict.fromkeys(case.picture_id for case in ordered)
    image_ids = {picture_id: number for number, picture_id in enumerate(pictures, start=1)}
    absent: dict[int, list[int]] = {number: [] for number in image_ids.values()}
    not_exhaustive: dict[int, list[int]] = {number: [] for number in image_ids.values()}
    truths: list[dict[str, object]] = []
    answers: list[dict[str, object]] = []
    is_federated = False
    for case in ordered:
        assert isinstance(case.truth, Boxes), "DETECT cases have boxes"
        image_id = image_ids[case.picture_id]
        is_federated |= case.truth.is_federated
        present = {box.label for box in case.truth.boxes}
        absent[image_id] += [
            number_of[name] for name in case.query.categories if name not in present
        ]
        not_exhaustive[image_id] += [number_of[name] for name in case.truth.not_exhaustive]
        truths += [
            {
                "id": len(truths) + 1 + i,
                "image_id": image_id,
                "category_id": number_of[box.label],
                "bbox": _corner_and_size(box.xyxy_px.tolist()),
                "area": box.area_px,
                "iscrowd": int(not box.counts),
            }
            for i, box in enumerate(case.truth.boxes)
        ]
        for name, box in on_list(case, given[case.case_id].boxes):
            if own_scores and box.score is None:
                return None
            answers.append(
                {
                    "image_id": image_id,
                    "category_id": number_of[name],
                    "bbox": _corner_and_size(box.xyxy_px.tolist()),
                    "score": box.score if own_scores else 1.0,
                }
            )
    truth = COCO(
        {
            "info": {},
            "images": [
                {
                    "id": image_id,
                    "neg_category_ids": absent[image_id],
                    "not_exhaustive_category_ids": not_exhaustive[image_id],
                }
                for image_id in image_ids.values()
            ],
            "annotations": truths,
            # LVIS groups categories by how frequent they are; no number here is of a group.
            "categories": [
                {"id": number, "name": name, "frequency": "f"}
                for name, number in number_of.items()
            ],
        }
    )
    return _evaluated(truth, answers, categories, is_federated=is_federated)


def on_list(case: Case, boxes: Sequence[Detection2D]) -> Iterator[tuple[str, Detection2D]]:
    """Answers with the category each is about; those of no category that was asked are left out.

    Where one category was asked, every answer is about it, whatever it calls it.
    """
    asked = case.query.categories
    for box in boxes:
        if len(asked) == 1:
            yield asked[0], box
            continue
        name = next((name for name in asked if same_words(name, box.label)), None)
        if name is not None:
            yield name, box


def _evaluated(
    truth: COCO,
    answers: Sequence[dict[str, object]],
    categories: Sequence[str],
    *,
    is_federated: bool,
) -> BoxPrecision:
    library = COCOeval_faster(
        truth, truth.loadRes(list(answers)), iouType="bbox", lvis_style=is_federated
    )
    if is_federated:
        library.params.maxDets = [_MOST_ANSWERS_LVIS]
    library.evaluate()
    library.accumulate()
    # By overlap, recall, category, area (the first is any), number of answers (the last is most).
    precision = np.asarray(library.eval["precision"])[:, :, :, 0, -1]
    overlaps = np.asarray(library.params.iouThrs)
    by_category = {
        name: float(precision[:, :, i].mean())
        for i, name in enumerate(categories)
        if (precision[:, :, i] > -1).all()
    }
    return BoxPrecision(
        ap=_mean(precision),
        ap50=_mean(precision[np.isclose(overlaps, 0.5)]),
        ap75=_mean(precision[np.isclose(overlaps, 0.75)]),
        by_category=by_category,
    )


def _mean(precision: npt.NDArray[np.float64]) -> float | None:
    known = precision[precision > -1]  # -1 marks categories of which nothing counts
    return float(known.mean()) if known.size else None


def _corner_and_size(xyxy_px: Sequence[float]) -> list[float]:
    left, top, right, bottom = xyxy_px
    return [left, top, right - left, bottom - top]
