# SPDX-License-Identifier: Apache-2.0
"""What the README says of the code is made from the code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3vl_ros import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.ros
def test_the_generated_tables_are_not_old():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "readme.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_python_example_runs_as_printed(monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(")


def test_the_command_without_ros_runs_as_printed(monkeypatch, capsys, tmp_path):
    (line,) = re.findall(r"^\.venv/bin/qwen3vl (.*)$", README, re.MULTILINE)
    monkeypatch.chdir(ROOT)
    drawn = tmp_path / "found.png"
    assert cli.main(shlex.split(line.replace("out/found.png", str(drawn)))) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "blue cylinder"
    assert drawn.stat().st_size > 10_000


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_what_the_readme_links_to_exists(link):
    assert (ROOT / link).exists()
