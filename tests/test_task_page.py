# SPDX-License-Identifier: Apache-2.0
"""docs/tasks.md shows what the package does today."""

from __future__ import annotations

import argparse
import runpy
import shlex
from pathlib import Path

import pytest

from qwen3vl_ros.commands import ground
from qwen3vl_ros.scene.detections import Task

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def test_the_page_is_not_old():
    script = runpy.run_path(str(ROOT / "scripts" / "task_page.py"))
    assert script["page"]() == PAGE, "run: python scripts/task_page.py"


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_every_task_has_an_example(task):
    assert f"\n## `{task.value}`\n" in PAGE


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_every_task_has_a_command_that_can_be_typed(task):
    parser = argparse.ArgumentParser()
    ground.add(parser.add_subparsers())
    commands = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("qwen3vl ")]
    typed = [parser.parse_args(command[1:]) for command in commands]
    assert [options.task for options in typed].count(task.value) == 1
