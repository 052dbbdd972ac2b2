# SPDX-License-Identifier: Apache-2.0
"""Cases and answers made by hand, for tests of what is told of them."""

from __future__ import annotations

import numpy as np

from qwen3vl_ros.evaluation.case import Boxes, Case, TrueBox, Truth
from qwen3vl_ros.evaluation.given import Given
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import BoxSource, Detection2D, Detection3D, Query, Task
from qwen3vl_ros.scene.geometry import OrientedBox


def grey_frame() -> tuple[Frame, ...]:
    return (Frame(image=np.full((60, 80, 3), 128, np.uint8), stamp_ns=0, frame_id="camera"),)


def case(task: Task, truth: Truth, *, case_id: str = "1/0", group: str = "", **query) -> Case:
    if task is Task.DETECT:
        query.setdefault("categories", ("mug",))
    elif task is not Task.SPOT_TEXT:
        query.setdefault("text", "mug")
    return Case(
        case_id=case_id,
        picture_id=case_id.split("/")[0],
        group=group or task.value,
        views=grey_frame,
        query=Query(task=task, **query),
        truth=truth,
    )


def true_box(*xyxy_px: float, label: str = "mug", counts: bool = True) -> TrueBox:
    xyxy = np.array(xyxy_px, float)
    return TrueBox(
        label=label, xyxy_px=xyxy, area_px=float(np.prod(xyxy[2:] - xyxy[:2])), counts=counts
    )


def one_box(*xyxy_px: float) -> Boxes:
    return Boxes(boxes=(true_box(*xyxy_px),))


def box(*xyxy_px: float, label: str = "mug", score: float | None = 0.9) -> Detection2D:
    return Detection2D(label=label, xyxy_px=np.array(xyxy_px, float), score=score)


def cube(*center_m: float, size_m: float = 1.0) -> OrientedBox:
    T = np.eye(4)
    T[:3, 3] = center_m
    return OrientedBox(T_frame_box=T, size_m=np.full(3, size_m))


def solid(*center_m: float, score: float | None = 0.9, size_m: float = 1.0) -> Detection3D:
    return Detection3D(
        label="mug", box=cube(*center_m, size_m=size_m), score=score, source=BoxSource.MODEL
    )


def given(case_id: str = "1/0", **values) -> Given:
    return Given(**{"case_id": case_id, "seconds": 1.0, "words": "[]", **values})
