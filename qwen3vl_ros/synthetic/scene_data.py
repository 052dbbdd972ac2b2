# SPDX-License-Identifier: Apache-2.0
"""Rendered scenes as the questions of a data set.

`scene_files.py` writes the same as files in public formats, so that readers and numbers can be
proven on pictures of which everything is known: an evaluation through files must equal this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..evaluation.asked_categories import questions_of
from ..evaluation.case import Boxes, Case, DataSet, Solids, TrueBox, TrueSolid
from ..evaluation.omni3d_data import LEAST_HEIGHT, MOST_HEIGHT
from ..model.vision_language_model import View
from ..scene.camera import Frame
from ..scene.detections import Query, Task
from .rendering import Rendered, SolidTruth, render
from .scenes import COLORS, SHAPES, CameraView, random_scene, random_view

FRAME_ID = "camera"
CATEGORIES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
# What shows less of itself, as shares of the picture and of its own silhouette, is not asked for.
LEAST_SHARE, LEAST_VISIBLE = 0.0012, 0.45


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedScene:
    """A scene of a seed, seen once: `views` makes its picture again, byte for byte."""

    seed: int
    view: CameraView
    rendered: Rendered

    @classmethod
    def of(cls, seed: int, *, width: int, height: int) -> RenderedScene:
        """The scene of a seed, rendered."""
        rng = np.random.default_rng(seed)
        scene = random_scene(rng)
        view = random_view(rng, width=width, height=height)
        return cls(seed=seed, view=view, rendered=render(scene, view, noise_seed=seed))

    @property
    def visible(self) -> Sequence[SolidTruth]:
        """Solids of which anything shows."""
        return [truth for truth in self.rendered.truth if truth.visible_px > 0]

    def is_worth_asking(self, truth: SolidTruth) -> bool:
        """Whether a solid shows enough of itself."""
        share = truth.visible_px / self.rendered.depth_m.size
        return share >= LEAST_SHARE and truth.visibility >= LEAST_VISIBLE

    def projected_xyxy_px(self, truth: SolidTruth) -> npt.NDArray[np.float64]:
        """(4,) around the whole box, in and outside the picture."""
        corners = self.view.intrinsics.project(truth.box.corners())
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def cut_xyxy_px(self, truth: SolidTruth) -> npt.NDArray[np.float64]:
        """(4,) of that, the part that is in the picture."""
        size = [self.view.intrinsics.width, self.view.intrinsics.height]
        return np.clip(self.projected_xyxy_px(truth), 0, [*size, *size])

    def views(self) -> tuple[View, ...]:
        """As a frame without depth, as files have it."""
        return (
            Frame(
                image=self.rendered.image,
                stamp_ns=0,
                frame_id=FRAME_ID,
                intrinsics=self.view.intrinsics,
            ),
        )


def scene_data(
    scenes: Sequence[RenderedScene], task: Task, *, categories_per_question: int = 80
) -> DataSet:
    """The questions of one task, as the readers of files would ask them."""
    makers = {
        Task.DETECT: lambda scene: _detect(scene, categories_per_question),
        Task.REFER: _refer,
        Task.DETECT_3D: _detect_3d,
    }
    cases = tuple(case for scene in scenes for case in makers[task](scene))
    seeds = ", ".join(str(scene.seed) for scene in scenes)
    return DataSet(cases=cases, identity={"kind": "scenes", "task": task.value, "seeds": seeds})


def _case(scene: RenderedScene, name: str, query: Query, truth: Boxes | Solids) -> Case:
    return Case(
        case_id=f"{scene.seed}/{name}",
        picture_id=str(scene.seed),
        group=query.task.value,
        views=scene.views,
        query=query,
        truth=truth,
    )


def _detect(scene: RenderedScene, categories_per_question: int) -> Iterator[Case]:
    boxes = [
        TrueBox(
            label=truth.solid.name,
            xyxy_px=truth.xyxy_px,
            area_px=float(truth.visible_px),
            counts=scene.is_worth_asking(truth),
        )
        for truth in scene.visible
    ]
    present = {box.label for box in boxes}
    wanted = [name for name in CATEGORIES if name in present]
    for number, group in enumerate(questions_of(wanted, most=categories_per_question)):
        yield _case(
            scene,
            str(number),
            Query(task=Task.DETECT, categories=group, max_objects=100),
            Boxes(boxes=tuple(box for box in boxes if box.label in group)),
        )


def _refer(scene: RenderedScene) -> Iterator[Case]:
    for truth in scene.visible:
        if scene.is_worth_asking(truth):
            box = TrueBox(
                label=truth.solid.name, xyxy_px=truth.xyxy_px, area_px=float(truth.visible_px)
            )
            query = Query(task=Task.REFER, text=truth.solid.name, max_objects=100)
            yield _case(scene, truth.solid.name, query, Boxes(boxes=(box,)))


def _detect_3d(scene: RenderedScene) -> Iterator[Case]:
    for name in CATEGORIES:
        solids = tuple(
            TrueSolid(label=name, box=truth.box, counts=_is_judged(scene, truth))
            for truth in scene.visible
            if truth.solid.name == name
        )
        if any(solid.counts for solid in solids):
            query = Query(task=Task.DETECT_3D, text=name, max_objects=100)
            yield _case(scene, name, query, Solids(solids=solids))


def _is_judged(scene: RenderedScene, truth: SolidTruth) -> bool:
    """Whether Omni3D's rule of the box's height lets it count, too."""
    xyxy_px = scene.cut_xyxy_px(truth)
    share = (xyxy_px[3] - xyxy_px[1]) / scene.view.intrinsics.height
    return scene.is_worth_asking(truth) and bool(LEAST_HEIGHT < share < MOST_HEIGHT)
