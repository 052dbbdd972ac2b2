# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl ground`: one question about one picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ..errors import FrameError
from ..image.drawing import annotated_image
from ..perception import Perception
from ..scene.camera import Frame
from ..scene.detections import SPATIAL_TASKS, Grounding, Query, Task
from .command import Commands, add_command, add_engine_options, picture_to_write


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "ground", ground)
    parser.add_argument("--image", type=Path, required=True, help="PNG or JPEG")
    parser.add_argument(
        "--query", required=True, help="what to look for; categories apart by commas for detect"
    )
    parser.add_argument(
        "--task",
        choices=[task.value for task in SPATIAL_TASKS],
        default=Task.REFER.value,
        help="question",
    )
    parser.add_argument(
        "--draw", type=picture_to_write, help="write the picture with what was found drawn on it"
    )
    add_engine_options(parser)


def ground(options: argparse.Namespace) -> int:
    """Find something in one picture."""
    is_file = options.image.is_file()  # OpenCV would log of its own that it is not
    pixels = cv2.imread(str(options.image), cv2.IMREAD_COLOR) if is_file else None
    if pixels is None:
        raise FrameError(f"cannot read a picture, expected a PNG or JPEG file: {options.image}")
    frame = Frame(
        image=np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8),
        stamp_ns=0,
        frame_id="camera",
    )
    task = Task(options.task)
    query = (
        Query(task=task, categories=tuple(part.strip() for part in options.query.split(",")))
        if task is Task.DETECT
        else Query(task=task, text=options.query)
    )
    perception = Perception.load(options.engines, threads=options.threads)
    grounding = perception.ground(frame, query)
    print(json.dumps(grounding_as_json(grounding), indent=2))
    if options.draw:
        _write_drawn(frame, grounding, options.draw)
    return 0


def grounding_as_json(grounding: Grounding) -> Mapping[str, object]:
    """A grounding as plain JSON values: pixels, metres, rotation as a 3x3 matrix."""
    return {
        "task": grounding.query.task.value,
        "text": grounding.query.text,
        "categories": list(grounding.query.categories),
        "complete": grounding.complete,
        "detections_2d": [
            {"label": d.label, "score": round(d.score, 4), "xyxy_px": d.xyxy_px.round(2).tolist()}
            for d in grounding.detections_2d
        ],
        "points": [
            {"label": p.label, "score": round(p.score, 4), "uv_px": p.uv_px.round(2).tolist()}
            for p in grounding.points
        ],
        "detections_3d": [
            {
                "label": d.label,
                "score": round(d.score, 4),
                "source": d.source.value,
                "center_m": d.box.center_m.round(4).tolist(),
                "size_m": d.box.size_m.round(4).tolist(),
                "rotation": d.box.T_frame_box[:3, :3].round(5).tolist(),
            }
            for d in grounding.detections_3d
        ],
        "notes": list(grounding.notes),
        "answer": grounding.answer_text,
    }


def _write_drawn(frame: Frame, grounding: Grounding, path: Path) -> None:
    drawn = annotated_image(
        frame.image, detections_2d=grounding.detections_2d, points=grounding.points
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)):
        raise FrameError(f"cannot write the drawn picture to '{path}'; may this user write there?")
