# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl evaluate`: how right a model is, on held-out scenes or on a data set."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError, EngineError, FrameError, RemoteError
from ..evaluation.case import DataSet
from ..perception import Perception
from ..scene.detections import Task
from .asked_model import (
    add_model_options,
    identity_asked,
    model_asked,
    perception_asked,
    warn_of_untaught,
)
from .command import Commands, add_command, positive
from .data_options import DATA, add_data_options, data_named, require_no_files
from .progress_bar import question_bar

EXIT_INTERRUPTED = 130  # as a shell says it of Ctrl-C


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "evaluate", evaluate)
    parser.add_argument(
        "--data",
        choices=["scenes", "rooms", *DATA],
        default="scenes",
        help="rendered scenes, asked for solids by name; rendered rooms, asked every kind of "
        "question; or annotations in one of these formats (docs/evaluation.md)",
    )
    parser.add_argument(
        "--scenes", type=positive, default=200, help="held-out scenes or rooms to ask about"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="every result, as JSON; by default out/evaluation.json, with the name of the data. "
        "Of a data set, a page for people and the answers stand beside it",
    )
    add_data_options(parser)
    add_model_options(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Print how right a model is, and write it as JSON and, of a data set, as a page."""
    if options.data not in DATA:
        require_no_files(options)
    if options.parallel > 1 and (options.server is None or options.data == "scenes"):
        raise ConfigError(
            f"--parallel {options.parallel} is for a server that is asked about a data set or "
            "rooms; an engine answers one question at a time, with all of --threads"
        )
    return _on_scenes(options) if options.data == "scenes" else _on_data(options)


def _on_scenes(options: argparse.Namespace) -> int:
    from ..offline.evaluation import AbsentResult, ObjectResult, as_rows, summary
    from ..offline.evaluation import evaluate as results_by_scene

    perception = perception_asked(options)
    warn_of_untaught(options, (Task.REFER, Task.DETECT_3D))
    objects: list[ObjectResult] = []
    absent: list[AbsentResult] = []
    scenes = results_by_scene(perception, scenes=options.scenes)
    for found, missing in tqdm(scenes, total=options.scenes, unit="scene", disable=None):
        objects.extend(found)
        absent.extend(missing)
    numbers = summary(objects, absent)
    for name, value in numbers.items():
        print(f"{name:28} {_shown(value)}")
    report: Mapping[str, object] = {
        "model": identity_asked(options),
        "scenes": options.scenes,
        "summary": numbers,
        "objects": as_rows(objects),
    }
    output = options.output or Path("out/evaluation.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False)
    output.write_text(text + "\n", encoding="utf-8")
    print(f"every result: {output}")
    return 0


def _on_data(options: argparse.Namespace) -> int:
    # What compares boxes is installed by who evaluates, not by who runs a robot.
    from ..evaluation.evaluation import PAGE_SUFFIX
    from ..evaluation.evaluation import evaluate as evaluate_data
    from ..evaluation.meanings import MEANINGS
    from ..evaluation.remembering_model import RememberingModel
    from ..evaluation.report_page import shown

    data = _rooms(options.scenes) if options.data == "rooms" else data_named(options)
    if not data.cases:
        raise ConfigError(
            "there is nothing to ask in this data, expected at least one picture with something "
            "to find; look at --annotations, --split and --categories"
        )
    warn_of_untaught(options, dict.fromkeys(case.query.task for case in data.cases))
    output = options.output or Path(f"out/evaluation-{options.data}.json")
    perception, *others = [
        Perception(RememberingModel(lambda: model_asked(options))) for _ in range(options.parallel)
    ]
    again = "what was answered is kept: run the same command to go on"
    try:
        with question_bar() as progress:
            results = evaluate_data(
                perception,
                data,
                model=identity_asked(options),
                output=output,
                others=others,
                restart=options.restart,
                progress=progress,
            )
    except KeyboardInterrupt:
        print(f"qwen3vl evaluate: stopped; {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (EngineError, FrameError, RemoteError):
        print(f"qwen3vl evaluate: {again}", file=sys.stderr)
        raise
    for group, numbers in results.groups.items():
        print(f"{group}:")
        for name, value in numbers.items():
            print(f"  {name:26} {shown(name, value):>10}  {MEANINGS[name]}")
    for remark in data.remarks:
        print(f"note: {remark}")
    print(f"every answer: {output}\nworst cases: {output.with_suffix(PAGE_SUFFIX)}")
    return 0


def _rooms(count: int) -> DataSet:
    from ..synthetic.room_cases import room_data

    return room_data(count)


def _shown(value: float | int | None) -> str:
    if value is None:
        return "not given often enough"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
