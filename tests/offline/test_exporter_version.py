# SPDX-License-Identifier: Apache-2.0
"""An exporter is told from another by what it consists of, without anybody counting."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3vl_ros import __version__
from qwen3vl_ros.offline import exporter_version as module
from qwen3vl_ros.offline.exporter_version import PACKAGE, exporter_version, sources_of

EXPORTER = PACKAGE / "offline" / "tensorrt_export.py"


def test_an_exporter_consists_of_what_it_imports_and_what_that_imports():
    names = {file.relative_to(PACKAGE).as_posix() for file in sources_of(EXPORTER)}
    assert {
        "offline/tensorrt_export.py",
        "offline/tensorrt_modules.py",  # by tensorrt_graphs.py
        "offline/golden_outputs.py",
        "language/prompt.py",
        "model_config.py",
    } <= names
    assert not {"offline/training.py", "perception.py", "ros/node.py"} & names


def test_its_version_says_ours_and_twelve_digits():
    number, digits = exporter_version(EXPORTER).split("+")
    assert number == __version__
    assert len(digits) == 12
    assert int(digits, 16) > 0


@pytest.mark.parametrize(
    ("changed", "is_another"),
    [
        pytest.param("exporter.py", True, id="itself"),
        pytest.param("deep/graphs.py", True, id="what it imports"),
        pytest.param("deep/numbers.py", True, id="what that imports"),
        pytest.param("node.py", False, id="something else"),
    ],
)
def test_a_line_more_makes_another_exporter(tmp_path, monkeypatch, changed, is_another):
    files = {
        "exporter.py": "from .deep.graphs import graph",
        "deep/graphs.py": "from . import numbers",
        "deep/numbers.py": "import json",
        "node.py": "from .exporter import export",
    }
    (tmp_path / "deep").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    before = exporter_version.__wrapped__(tmp_path / "exporter.py")
    with Path(tmp_path / changed).open("a") as file:
        file.write("x = 1\n")
    assert (exporter_version.__wrapped__(tmp_path / "exporter.py") != before) is is_another
