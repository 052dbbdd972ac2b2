# SPDX-License-Identifier: Apache-2.0
"""What a precision costs in boxes: the same objects asked of two engines, and the difference.

Knows `Perception` and the truth of synthetic scenes; no torch and no precision. Answers of one
engine scatter from object to object far more than those of two engines differ on one object, so
engines are compared object by object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import AnswerError
from ..perception import Perception
from ..scene.camera import Frame
from ..scene.detections import Query, Task
from ..scene.geometry import overlap_of_boxes
from ..synthetic.dataset import HELD_OUT_SEED, is_worth_asking, scene_from_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxScores:
    """An engine's 2D boxes of n objects, each asked for by name; objects in the order of seeds.

    Attributes:
        seeds: (n,) int64, of the scene an object is in.
        iou: (n,) float64, of the first box with the truth; 0 when none was given or none could be
            read.
    """

    seeds: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxCost:
    """Of an engine against another, over the same objects.

    Attributes:
        mean_iou: the engine's own.
        difference: mean of its IoU less the other's; below zero where it is worse.
        standard_error: of the difference, scenes taken as independent and the objects of one scene
            not.
    """

    mean_iou: float
    difference: float
    standard_error: float


def box_scores(perception: Perception, *, scenes: int) -> BoxScores:
    """Every object of `scenes` held-out scenes at 640x480 that shows enough of itself."""
    seeds, ious = [], []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + scenes):
        _, _, rendered = scene_from_seed(seed, width=640, height=480)
        frame = Frame(image=rendered.image, stamp_ns=seed, frame_id="camera")
        for index, truth in enumerate(rendered.truth):
            if is_worth_asking(rendered, index):
                seeds.append(seed)
                ious.append(_iou(perception, frame, truth.solid.name, truth.xyxy_px))
    return BoxScores(seeds=np.array(seeds, np.int64), iou=np.array(ious, np.float64))


def _iou(
    perception: Perception, frame: Frame, name: str, xyxy_px: npt.NDArray[np.float64]
) -> float:
    query = Query(task=Task.REFER, text=name)
    try:
        found = perception.ground(frame, query, model_boxes=False).detections_2d
    except AnswerError:
        return 0.0
    return overlap_of_boxes(found[0].xyxy_px, xyxy_px) if found else 0.0


def box_cost(scores: BoxScores, baseline: BoxScores) -> BoxCost:
    """What one engine costs against another.

    >>> two = np.array([1, 2])
    >>> cost = box_cost(
    ...     BoxScores(seeds=two, iou=np.array([0.5, 0.7])),
    ...     BoxScores(seeds=two, iou=np.array([0.6, 0.6])),
    ... )
    >>> round(cost.mean_iou, 3), round(cost.difference, 3), round(cost.standard_error, 3)
    (0.6, 0.0, 0.071)
    """
    assert np.array_equal(scores.seeds, baseline.seeds), "other objects"
    difference = scores.iou - baseline.iou
    _, scene = np.unique(scores.seeds, return_inverse=True)
    of_scenes = np.bincount(scene, weights=difference - difference.mean())
    return BoxCost(
        mean_iou=float(scores.iou.mean()),
        difference=float(difference.mean()),
        standard_error=float(np.sqrt(np.square(of_scenes).sum()) / len(difference)),
    )
