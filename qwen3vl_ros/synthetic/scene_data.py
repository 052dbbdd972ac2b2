# SPDX-License-Identifier: Apache-2.0
"""Rendered scenes as a data set: as questions at once, and as files in three public formats.

Both ways ask the same questions and know the same truth, so that readers and numbers can be proven
on pictures of which everything is known: an evaluation through files must equal one without.

Files of a directory: `images/`, `instances.json` (COCO), `refs.json` (RefCOCO, beside it) and
`omni3d.json` (Omni3D).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..evaluation.asked_categories import questions_of
from ..evaluation.case import Boxes, Case, DataSet, Solids, TrueBox, TrueSolid
from ..evaluation.omni3d_data import LEAST_HEIGHT, MOST_HEIGHT, corners_of_box
from ..model.vision_language_model import View
from ..scene.camera import Frame
from ..scene.detections import Query, Task
from .rendering import Rendered, SolidTruth, render
from .scenes import COLORS, SHAPES, CameraView, random_scene, random_view

FRAME_ID = "camera"
CATEGORIES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
# What shows less of itself, as shares of the picture and of its own silhouette, is not asked for.
LEAST_SHARE, LEAST_VISIBLE = 0.0012, 0.45
IMAGES, COCO_FILE, REFERENCES_FILE, OMNI3D_FILE = (
    "images",
    "instances.json",
    "refs.json",
    "omni3d.json",
)


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


def write_scene_data(
    directory: Path, scenes: Sequence[RenderedScene], *, suffix: str = ".png"
) -> None:
    """Write pictures and the annotations in all three formats.

    Args:
        directory: made where it is not there.
        scenes: what to write.
        suffix: ".png" keeps every pixel, ".jpg" is small.

    Raises:
        DatasetError: a picture cannot be written.
    """
    (directory / IMAGES).mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        path = directory / IMAGES / f"{scene.seed:012d}{suffix}"
        if not cv2.imwrite(str(path), cv2.cvtColor(scene.rendered.image, cv2.COLOR_RGB2BGR)):
            raise DatasetError(f"cannot write a picture; may this user write there? {path}")
    for name, values in (
        (COCO_FILE, _coco(scenes, suffix)),
        (REFERENCES_FILE, _references(scenes, suffix)),
        (OMNI3D_FILE, _omni3d(scenes, suffix)),
    ):
        (directory / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


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
    xyxy_px = _cut(scene.projected_xyxy_px(truth), scene)
    share = (xyxy_px[3] - xyxy_px[1]) / scene.view.intrinsics.height
    return scene.is_worth_asking(truth) and bool(LEAST_HEIGHT < share < MOST_HEIGHT)


def _cut(xyxy_px: npt.NDArray[np.float64], scene: RenderedScene) -> npt.NDArray[np.float64]:
    size = [scene.view.intrinsics.width, scene.view.intrinsics.height]
    return np.clip(xyxy_px, 0, [*size, *size])


def _picture(scene: RenderedScene, suffix: str) -> dict[str, object]:
    return {
        "id": scene.seed,
        "file_name": f"{scene.seed:012d}{suffix}",
        "width": scene.view.intrinsics.width,
        "height": scene.view.intrinsics.height,
    }


def _categories() -> Sequence[Mapping[str, object]]:
    return [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]


def _coco(scenes: Sequence[RenderedScene], suffix: str) -> Mapping[str, object]:
    return {
        "info": {"description": "rendered scenes of qwen3vl_ros"},
        "images": [_picture(scene, suffix) for scene in scenes],
        "categories": _categories(),
        "annotations": [
            {
                "id": number,
                "image_id": scene.seed,
                "category_id": CATEGORIES.index(truth.solid.name) + 1,
                "bbox": [
                    *truth.xyxy_px[:2].tolist(),
                    *(truth.xyxy_px[2:] - truth.xyxy_px[:2]).tolist(),
                ],
                "area": float(truth.visible_px),
                "iscrowd": int(not scene.is_worth_asking(truth)),
            }
            for number, (scene, truth) in enumerate(_all_visible(scenes), start=1)
        ],
    }


def _references(scenes: Sequence[RenderedScene], suffix: str) -> Sequence[Mapping[str, object]]:
    return [
        {
            "ref_id": number,
            "ann_id": number,
            "image_id": scene.seed,
            "category_id": CATEGORIES.index(truth.solid.name) + 1,
            "file_name": f"{scene.seed:012d}_{number}{suffix}",  # as RefCOCO has it
            "split": "val",
            "sent_ids": [number],
            "sentences": [
                {
                    "sent_id": number,
                    "sent": truth.solid.name,
                    "raw": truth.solid.name,
                    "tokens": truth.solid.name.split(),
                }
            ],
        }
        for number, (scene, truth) in enumerate(_all_visible(scenes), start=1)
        if scene.is_worth_asking(truth)
    ]


def _omni3d(scenes: Sequence[RenderedScene], suffix: str) -> Mapping[str, object]:
    return {
        "info": {
            "id": 0,
            "source": "qwen3vl_ros",
            "name": "rendered scenes",
            "split": "Test",
            "version": "0.1",
            "url": "",
        },
        "images": [
            {
                **_picture(scene, suffix),
                "dataset_id": 0,
                "file_path": f"{scene.seed:012d}{suffix}",
                "K": scene.view.intrinsics.K.tolist(),
                "src_90_rotate": 0,
                "src_flagged": False,
            }
            for scene in scenes
        ],
        "categories": [{**one, "supercategory": "solid"} for one in _categories()],
        "annotations": [
            _omni3d_annotation(number, scene, truth)
            for number, (scene, truth) in enumerate(_all_visible(scenes), start=1)
        ],
    }


def _omni3d_annotation(
    number: int, scene: RenderedScene, truth: SolidTruth
) -> Mapping[str, object]:
    projected = scene.projected_xyxy_px(truth)
    x, y, z = truth.box.size_m.tolist()
    return {
        "id": number,
        "image_id": scene.seed,
        "category_id": CATEGORIES.index(truth.solid.name) + 1,
        "category_name": truth.solid.name,
        "valid3D": scene.is_worth_asking(truth),
        "bbox2D_tight": truth.xyxy_px.tolist(),
        "bbox2D_proj": projected.tolist(),
        "bbox2D_trunc": _cut(projected, scene).tolist(),
        "bbox3D_cam": corners_of_box(truth.box).tolist(),
        "center_cam": truth.box.center_m.tolist(),
        "dimensions": [z, y, x],  # width, height, length: along the box's own z, y, x
        "R_cam": truth.box.T_frame_box[:3, :3].tolist(),
        "behind_camera": False,
        "visibility": -1,  # valid3D says it already
        "truncation": -1,
        "segmentation_pts": truth.visible_px,
        "lidar_pts": -1,
        "depth_error": -1,
    }


def _all_visible(scenes: Sequence[RenderedScene]) -> Iterator[tuple[RenderedScene, SolidTruth]]:
    return ((scene, truth) for scene in scenes for truth in scene.visible)
