# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl ground`: one question about pictures or a video."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import QueryError
from ..image.video_config import Looks, ReleasedLooks, load_video_config
from ..model.vision_language_model import View
from ..runtime.manifest import read_manifest
from ..scene.as_json import grounding_as_json, response_as_json
from ..scene.camera import Frame
from ..scene.detections import (
    SPATIAL_TASKS,
    TASKS_WITHOUT_TEXT,
    Query,
    Task,
    TextLevel,
)
from ..scene.tools import Tool, tools_from_json
from .answer_lines import grounding_lines, response_lines
from .asked_model import add_model_options, perception_asked
from .command import (
    Commands,
    add_command,
    picture_to_write,
    positive,
    warn,
)
from .drawn import write_drawn
from .video_file import VideoFile, video_from_path
from .views import frame_from_file

_OTHER_NAMES = {"ocr": Task.SPOT_TEXT.value}


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "ground", ground)
    shown = parser.add_mutually_exclusive_group(required=True)
    shown.add_argument(
        "--image", type=Path, nargs="+", metavar="PATH", help="PNG or JPEG; several to compare"
    )
    shown.add_argument(
        "--video", type=Path, metavar="PATH", help="video file, or a folder of pictures"
    )
    parser.add_argument(
        "--fps", type=float, help="pictures a second of a folder whose names are no stamps"
    )
    parser.add_argument(
        "--query",
        default="",
        help="what to look for, or the question; categories apart by commas for detect; none "
        f"for {' and '.join(task.value for task in TASKS_WITHOUT_TEXT)}",
    )
    parser.add_argument(
        "--task",
        choices=[*(task.value for task in Task), *_OTHER_NAMES],
        default=Task.REFER.value,
        help="kind of question (docs/tasks.md); ocr is spot_text",
    )
    parser.add_argument(
        "--text-level",
        choices=[level.value for level in TextLevel],
        default=TextLevel.LINE.value,
        help="of spot_text",
    )
    parser.add_argument(
        "--tools", type=Path, metavar="FILE", help="of act: JSON list of functions, as OpenAI's"
    )
    parser.add_argument("--max-objects", type=positive, default=20, help="more are not read")
    parser.add_argument(
        "--focal-px",
        type=float,
        help="focal length of the pictures, pixels: then 3D boxes know the camera",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument(
        "--draw", type=picture_to_write, help="write the picture with what was found drawn on it"
    )
    add_model_options(parser)


def ground(options: argparse.Namespace) -> int:
    """Ask one question about pictures or a video, and print the answer."""
    query = _query(options)
    video = _video(options) if options.video else None
    views: list[View] = (
        [frame_from_file(path, focal_px=options.focal_px) for path in options.image]
        if video is None
        else [video.clip]
    )
    if query.task in SPATIAL_TASKS:
        if len(views) > 1 or not isinstance(views[0], Frame):
            raise QueryError(
                f"{query.task.query} is about one picture, expected one --image; "
                "--video is for locate_moment, list_events, track, ask and act"
            )
        grounding = perception_asked(options).ground(views[0], query)
        warn(options, grounding.warnings)
        _show(grounding_as_json(grounding), grounding_lines(grounding), as_json=options.json)
        if options.draw:
            write_drawn(views, grounding, options.draw)
        return 0
    response = perception_asked(options).ask(views, query)
    warn(options, response.warnings)
    shown = response if video is None else video.in_its_pixels(response)
    _show(response_as_json(shown), response_lines(shown), as_json=options.json)
    if options.draw:
        write_drawn(views, response, options.draw)
    return 0


def _video(options: argparse.Namespace) -> VideoFile:
    """What the model that the options name looks at of their video."""
    if options.server is None:
        read_manifest(options.engines)  # what is no engine is said to be none
        looks: Looks = load_video_config(options.engines)
    else:
        looks = ReleasedLooks()
    return video_from_path(options.video, fps=options.fps, looks=looks)


def _query(options: argparse.Namespace) -> Query:
    task = Task(_OTHER_NAMES.get(options.task, options.task))
    by_commas = tuple(part.strip() for part in options.query.split(","))
    return Query(
        task=task,
        text="" if task is Task.DETECT else options.query,
        categories=by_commas if task is Task.DETECT else (),
        max_objects=options.max_objects,
        text_level=TextLevel(options.text_level),
        tools=_tools(options.tools) if options.tools else (),
    )


def _tools(file: Path) -> tuple[Tool, ...]:
    try:
        written = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(
            f"cannot read the tools ({error}), expected a JSON file: {file}"
        ) from error
    return tools_from_json(written, what=f"the list of tools in {file}")


def _show(values: Mapping[str, object], lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2))
        return
    for line in lines:
        print(line)
