# SPDX-License-Identifier: Apache-2.0
"""Rendered scenes as files in three public formats, with all that is known of them.

A directory of `images/`, `instances.json` (COCO), `refs.json` (RefCOCO, beside it) and
`omni3d.json` (Omni3D). Its questions are those of `scene_data.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2

from ..errors import DatasetError
from ..evaluation.omni3d_data import corners_of_box
from .rendering import SolidTruth
from .scene_data import CATEGORIES, RenderedScene

IMAGES = "images"
COCO_FILE, REFERENCES_FILE, OMNI3D_FILE = "instances.json", "refs.json", "omni3d.json"


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
        "bbox2D_trunc": scene.cut_xyxy_px(truth).tolist(),
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
