# SPDX-License-Identifier: Apache-2.0
"""Whoever looks sees the old content whole or the new content whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3vl_ros.errors import CheckpointError, EngineError
from qwen3vl_ros.runtime.atomic_directory import replaced_directory

ROOT = Path(__file__).resolve().parents[2]
MARKER = "manifest.json"

# Fills the directory, says so, and waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
from qwen3vl_ros.runtime.atomic_directory import replaced_directory
with replaced_directory(Path(sys.argv[1]), marker="manifest.json") as partial:
    (partial / "graph").write_text("half of the new")
    print("half", flush=True)
    time.sleep(600)
"""


def write(directory: Path, text: str) -> None:
    with replaced_directory(directory, marker=MARKER) as partial:
        (partial / "graph").write_text(text)
        (partial / MARKER).write_text("{}")


def content(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def half_written(directory: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    return writer


def end(writer: subprocess.Popen[str]) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.wait(timeout=30)
    assert writer.stdout is not None
    writer.stdout.close()


def test_new_content_takes_the_place_of_the_old_and_leaves_nothing_behind(tmp_path):
    write(tmp_path / "engine", "old")
    write(tmp_path / "engine", "new")
    assert content(tmp_path / "engine") == {"graph": "new", MARKER: "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_a_directory_and_its_parents_are_made(tmp_path):
    write(tmp_path / "a" / "b" / "engine", "new")
    assert content(tmp_path / "a" / "b" / "engine")["graph"] == "new"


def test_an_error_midway_leaves_the_old_engine_whole(tmp_path):
    def give_up() -> None:
        with replaced_directory(tmp_path / "engine", marker=MARKER) as partial:
            (partial / "graph").write_text("half of the new")
            raise CheckpointError("a tensor is missing")

    write(tmp_path / "engine", "old")
    with pytest.raises(CheckpointError):
        give_up()
    assert content(tmp_path / "engine") == {"graph": "old", MARKER: "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_a_writer_killed_midway_leaves_the_old_engine_whole_and_the_way_free(tmp_path):
    write(tmp_path / "engine", "old")
    end(half_written(tmp_path / "engine"))
    assert content(tmp_path / "engine") == {"graph": "old", MARKER: "{}"}
    write(tmp_path / "engine", "new")
    assert content(tmp_path / "engine") == {"graph": "new", MARKER: "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_two_writers_of_one_directory_do_not_mix(tmp_path):
    first = half_written(tmp_path / "engine")
    try:
        busy = rf"process {first.pid} on .* has written for \d+ s"
        with pytest.raises(EngineError, match=busy):
            write(tmp_path / "engine", "second")
        write(tmp_path / "other", "beside it")
    finally:
        end(first)
    write(tmp_path / "engine", "third")
    assert content(tmp_path / "engine")["graph"] == "third"


def test_somebody_elses_files_are_not_replaced(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(EngineError, match="will not replace"):
        write(home, "new")
    assert content(home) == {"thesis.tex": "years of work"}


def test_where_names_cannot_be_swapped_the_old_goes_aside_first(tmp_path, monkeypatch):
    """Some network file systems know no RENAME_EXCHANGE."""
    import ctypes

    class NoExchange:
        def __init__(self, *_: object, **__: object) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", NoExchange)
    write(tmp_path / "engine", "old")
    write(tmp_path / "engine", "new")
    assert content(tmp_path / "engine") == {"graph": "new", MARKER: "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]
