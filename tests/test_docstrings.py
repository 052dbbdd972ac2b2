# SPDX-License-Identifier: Apache-2.0
"""Examples in docstrings print what they say they print."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "qwen3vl_ros").rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_print_what_they_say(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted, "the examples are where nobody looks for them"
    assert results.failed == 0
