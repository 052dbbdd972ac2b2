# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl evaluate`: how right an engine is on held-out scenes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from ..perception import Perception
from .command import Commands, add_command, add_engine_options, positive


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "evaluate", evaluate)
    parser.add_argument(
        "--scenes", type=positive, default=200, help="held-out scenes to ask about"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("out/evaluation.json"), help="every result, as JSON"
    )
    add_engine_options(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Print how right the engines are on held-out scenes, and write it as JSON."""
    from ..offline.evaluation import AbsentResult, ObjectResult, as_rows, summary
    from ..offline.evaluation import evaluate as results_by_scene

    perception = Perception.load(options.engines, threads=options.threads)
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
        "engines": str(options.engines),
        "scenes": options.scenes,
        "summary": numbers,
        "objects": as_rows(objects),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False)
    options.output.write_text(text + "\n", encoding="utf-8")
    print(f"every result: {options.output}")
    return 0


def _shown(value: float | int | None) -> str:
    if value is None:
        return "not given often enough"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
