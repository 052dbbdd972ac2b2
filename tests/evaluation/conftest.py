# SPDX-License-Identifier: Apache-2.0
"""The small data set of three rendered scenes, and ways to spoil it.

Made by `scripts/scene_data.py --output tests/evaluation/data --scenes 3 --size 320x240 --suffix
.jpg`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent / "data"
Spoil = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the data set that a test may change."""
    return Path(shutil.copytree(DATA, tmp_path / "data"))


@pytest.fixture
def change(data: Path) -> Spoil:
    """Changes a file: `change("refs.json", lambda values: ...)` gives its path."""

    def changed(name: str, how: Callable[[object], object]) -> Path:
        file = data / name
        values = json.loads(file.read_text())
        replaced = how(values)
        file.write_text(json.dumps(values if replaced is None else replaced))
        return file

    return changed
