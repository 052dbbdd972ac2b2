# SPDX-License-Identifier: Apache-2.0
"""How right the answers are, on rendered scenes nobody trained on.

Knows `Perception` and the truth of synthetic scenes; no torch. Every visible object of every
scene is asked for by name, greedily, through the engines that ship: once as a 2D box lifted by
depth, once as the model's own 3D box. Objects that are not there are asked for too.

An answer that cannot be read counts as wrong (IoU 0) and is counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ..errors import AnswerError
from ..perception import Perception
from ..scene.camera import Frame
from ..scene.detections import Grounding, Query, Task
from ..scene.geometry import angle_between, overlap_of_boxes
from ..synthetic.dataset import HELD_OUT_SEED, is_worth_asking, scene_from_seed
from ..synthetic.questions import NAMES
from ..synthetic.rendering import SolidTruth

CAMERA_FRAME = "camera_color_optical_frame"
ABSENT_PER_SCENE = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectResult:
    """One object asked for by name.

    Attributes:
        seed: of the scene.
        name: what was asked.
        iou: of the first 2D box with the truth; 0 when none was given.
        answered: number of 2D boxes given; -1 when the answer could not be read.
        depth_center_m: distance of the centre lifted by depth from the truth; NaN when not lifted.
        depth_size_m: largest error of the lifted box's three sizes; NaN when not lifted.
        model_center_m: distance of the model's own 3D centre from the truth; NaN when none.
        model_size_share: mean error of the model's own sizes, as a share of the true ones.
        model_turn_deg: angle between the model's own rotation and the truth; NaN when none.
    """

    seed: int
    name: str
    iou: float
    answered: int
    depth_center_m: float
    depth_size_m: float
    model_center_m: float
    model_size_share: float
    model_turn_deg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AbsentResult:
    """One question about something that is not there.

    Attributes:
        is_empty: the answer was `[]`; False when something was found or nothing could be read.
    """

    seed: int
    name: str
    is_empty: bool


def evaluate(
    perception: Perception, *, scenes: int, width: int = 640, height: int = 480
) -> Iterator[tuple[tuple[ObjectResult, ...], tuple[AbsentResult, ...]]]:
    """Results scene by scene, over `scenes` held-out seeds."""
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + scenes):
        _, view, rendered = scene_from_seed(seed, width=width, height=height)
        frame = Frame(
            image=rendered.image,
            depth_m=rendered.depth_m,
            intrinsics=view.intrinsics,
            stamp_ns=seed,
            frame_id=CAMERA_FRAME,
        )
        found = tuple(
            _object_result(perception, frame, seed, truth)
            for index, truth in enumerate(rendered.truth)
            if is_worth_asking(rendered, index)
        )
        rng = np.random.default_rng(seed)
        present = {truth.solid.name for truth in rendered.truth}
        names = rng.permutation([name for name in NAMES if name not in present])
        absent = tuple(
            AbsentResult(
                seed=seed,
                name=str(name),
                is_empty=_is_empty(perception, frame, str(name)),
            )
            for name in names[:ABSENT_PER_SCENE]
        )
        yield found, absent


def summary(
    objects: list[ObjectResult], absent: list[AbsentResult]
) -> Mapping[str, float | int | None]:
    """The numbers that are promised, each over all objects asked for.

    A median is None when more than half of its values were not given; other quantiles alike.
    """

    def column(name: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(result, name) for result in objects], float)

    iou = column("iou")
    lifted, model = column("depth_center_m"), column("model_center_m")
    return {
        "objects": len(objects),
        "iou_mean": float(iou.mean()),
        "iou_at_least_half": float((iou >= 0.5).mean()),
        "unreadable": int((column("answered") < 0).sum()),
        "depth_center_median_m": _median(lifted),
        "depth_center_p90_m": _quantile(lifted, 0.9),
        "depth_size_median_m": _median(column("depth_size_m")),
        "depth_given": float(np.isfinite(lifted).mean()),
        "model_center_median_m": _median(model),
        "model_size_median_share": _median(column("model_size_share")),
        "model_turn_median_deg": _median(column("model_turn_deg")),
        "model_given": float(np.isfinite(model).mean()),
        "absent_asked": len(absent),
        "absent_answered_empty": sum(r.is_empty for r in absent) / max(len(absent), 1),
    }


def as_rows(results: list[ObjectResult]) -> list[dict[str, object]]:
    """Results as JSON-ready rows; NaN becomes None."""
    return [
        {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(r).items()}
        for r in results
    ]


def _median(values: npt.NDArray[np.float64]) -> float | None:
    return _quantile(values, 0.5)


def _quantile(values: npt.NDArray[np.float64], share: float) -> float | None:
    # What was not given counts as infinitely wrong: a model that answers the easy half only
    # shall not look good.
    given = np.where(np.isnan(values), np.inf, values)
    quantile = float(np.quantile(given, share, method="higher"))
    return quantile if np.isfinite(quantile) else None


def _ask(perception: Perception, frame: Frame, query: Query) -> Grounding | None:
    try:
        # What depth cannot lift is not lifted: the model's own boxes are judged apart.
        return perception.ground(frame, query, model_boxes=False)
    except AnswerError:
        return None


def _is_empty(perception: Perception, frame: Frame, name: str) -> bool:
    grounding = _ask(perception, frame, Query(task=Task.REFER, text=name))
    return grounding is not None and not grounding.detections_2d


def _object_result(
    perception: Perception, frame: Frame, seed: int, truth: SolidTruth
) -> ObjectResult:
    name = truth.solid.name
    flat = _ask(perception, frame, Query(task=Task.REFER, text=name))
    solid = _ask(perception, frame, Query(task=Task.DETECT_3D, text=name))
    iou, depth_center, depth_size = 0.0, np.nan, np.nan
    if flat is not None and flat.detections_2d:
        iou = overlap_of_boxes(flat.detections_2d[0].xyxy_px, truth.xyxy_px)
        if len(flat.detections_3d) == len(flat.detections_2d):
            box = flat.detections_3d[0].box
            depth_center = float(np.linalg.norm(box.center_m - truth.box.center_m))
            # Which horizontal side is x and which is z is a matter of a quarter turn.
            sizes, true = np.sort(box.size_m), np.sort(truth.box.size_m)
            depth_size = float(np.abs(sizes - true).max())
    model_center, model_size, model_turn = np.nan, np.nan, np.nan
    if solid is not None and solid.detections_3d:
        box = solid.detections_3d[0].box
        model_center = float(np.linalg.norm(box.center_m - truth.box.center_m))
        model_size = float(np.mean(np.abs(box.size_m / truth.box.size_m - 1)))
        model_turn = float(
            np.degrees(angle_between(box.T_frame_box[:3, :3], truth.box.T_frame_box[:3, :3]))
        )
    return ObjectResult(
        seed=seed,
        name=name,
        iou=iou,
        answered=-1 if flat is None else len(flat.detections_2d),
        depth_center_m=depth_center,
        depth_size_m=depth_size,
        model_center_m=model_center,
        model_size_share=model_size,
        model_turn_deg=model_turn,
    )
