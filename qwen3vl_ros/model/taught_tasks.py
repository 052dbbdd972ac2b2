# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint was taught, where it says so: `grounding.json`, ours, beside its other files.

    {"tasks": ["detect", "refer"], "labels_note": "coloured solids, as in 'red box'"}

A checkpoint that was taught some tasks answers all others too, with noise or with nothing, and
both look like answers. Released checkpoints have no such file and know every task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from ..image.patch_config import read_json
from ..scene.detections import Task

FILE_NAME = "grounding.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtTasks:
    """The tasks that a checkpoint was trained on; at least one.

    Attributes:
        tasks: in the order of `Task`.
        labels_note: what it knows by name, a sentence for people; "" when nothing is said.
    """

    tasks: tuple[Task, ...]
    labels_note: str = ""

    def __str__(self) -> str:
        names = ", ".join(task.value for task in self.tasks)
        return f"{names} ({self.labels_note})" if self.labels_note else names

    def warnings(self, asked: Iterable[Task]) -> tuple[str, ...]:
        """A sentence for each task asked that is none of these.

        >>> TaughtTasks(tasks=(Task.DETECT, Task.REFER)).warnings([Task.REFER, Task.COUNT])
        ("this engine was not taught 'count'; its answer may be noise; taught: detect, refer",)
        """
        return tuple(
            f"this engine was not taught '{task.value}'; its answer may be noise; taught: {self}"
            for task in asked
            if task not in self.tasks
        )


def load_taught_tasks(directory: Path) -> TaughtTasks | None:
    """What a checkpoint or engine directory says it was taught; None where it says nothing.

    Raises:
        ConfigError: its file cannot be read, or names a task that there is not.
    """
    file = directory / FILE_NAME
    if not file.exists():
        return None
    values = read_json(file, what="list of taught tasks")
    names, note = values.get("tasks"), values.get("labels_note", "")
    known = {task.value: task for task in Task}
    if not isinstance(names, list) or not names or not all(str(name) in known for name in names):
        raise ConfigError(
            f"{FILE_NAME} says tasks = {json.dumps(names)[:200]}, expected a list of at least one "
            f"of {', '.join(known)}; mend it or take it away, then nothing is known of what was "
            f"taught: {file}"
        )
    if not isinstance(note, str):
        raise ConfigError(
            f"{FILE_NAME} says labels_note = {json.dumps(note)[:200]}, expected a sentence in "
            f"quotes: {file}"
        )
    return TaughtTasks(tasks=tuple(task for task in Task if task.value in names), labels_note=note)


def write_taught_tasks(directory: Path, taught: TaughtTasks) -> None:
    """Write it into a checkpoint directory; `qwen3vl export` carries it into engines."""
    values = {
        "tasks": [task.value for task in taught.tasks],
        **({"labels_note": taught.labels_note} if taught.labels_note else {}),
    }
    (directory / FILE_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
