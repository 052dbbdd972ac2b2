# SPDX-License-Identifier: Apache-2.0
"""Writes docs/answers.png: the tiny engine, asked one question of each kind about held-out rooms.

Of each kind the first question there is, each about another room; nothing is chosen by how right
the answer is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qwen3vl_ros.evaluation.case import Case
from qwen3vl_ros.image.drawing import annotated_image
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.scene.answers import Count
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import SPATIAL_TASKS, Point2D, Query
from qwen3vl_ros.synthetic.room_cases import room_data

SHEET = Path(__file__).resolve().parents[1] / "docs" / "answers.png"
KINDS = (
    *("refer", "superlatives", "relations", "kind"),
    *("several", "point", "count", "detect_3d"),
)
ROOMS = 24
COLUMNS = 4


def first_of_each_kind() -> list[Case]:
    """A case of each of `KINDS`, no room twice."""
    chosen: dict[str, Case] = {}
    for case in room_data(ROOMS).cases:
        rooms = {one.picture_id for one in chosen.values()}
        if case.group in KINDS and case.group not in chosen and case.picture_id not in rooms:
            chosen[case.group] = case
    return [chosen[kind] for kind in KINDS]


def main() -> None:
    perception = Perception.load(tiny_engine_directory())
    figure = Figure(figsize=(13, 6), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    cases = first_of_each_kind()
    for axes, case in zip(
        figure.subplots(-(-len(cases) // COLUMNS), COLUMNS).flat, cases, strict=True
    ):
        (frame,) = case.views()
        assert isinstance(frame, Frame)
        axes.imshow(answered(perception, frame, case.query))
        axes.set_title(asked(case.query), fontsize=10)
        axes.axis("off")
    figure.savefig(SHEET)
    print(f"{len(cases)} questions: {SHEET}")


def answered(perception: Perception, frame: Frame, query: Query) -> npt.NDArray[np.uint8]:
    """The frame's picture with the answer drawn in."""
    if query.task in SPATIAL_TASKS:
        found = perception.ground(frame, query)
        return annotated_image(
            frame.image,
            detections_2d=found.detections_2d,
            points=found.points,
            detections_3d=found.detections_3d,
            intrinsics=frame.intrinsics,
        )
    count = perception.ask((frame,), query).value
    assert isinstance(count, Count)
    points = [Point2D(label="", uv_px=uv_px, score=None) for uv_px in count.uv_px]
    return annotated_image(frame.image, points=points)


def asked(query: Query) -> str:
    """Its task and its words."""
    return f"{query.task.value}: {query.text or ', '.join(query.categories)}"


if __name__ == "__main__":
    main()
