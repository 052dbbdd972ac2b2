# SPDX-License-Identifier: Apache-2.0
"""A writer killed at any point leaves an engine whole, and the next one clears up after it.

A child process writes an engine and kills itself (SIGKILL, no clean-up) just before its first act
on the file system, another before its second, and so on until one gets through. What counts as an
act is what Python audits: every open, rename, removal, and the look-up of renameat2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.atomic_directory import replaced_directory
from qwen3vl_ros.runtime.manifest import MANIFEST_FILE, verify_engine_dir

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, which has no threads: its forks may do as they like.
WRITERS = """
import ctypes, json, os, shutil, signal, sys
from pathlib import Path
from qwen3vl_ros.runtime.atomic_directory import replaced_directory
from qwen3vl_ros.runtime.manifest import (
    CHECKPOINT_FILES, EMBEDDING_FILE, GRAPH_FILES, MANIFEST_FILE, verify_engine_dir, write_manifest
)

ACTS = ("open", "os.", "shutil.", "ctypes.dlsym", "fcntl.")
root, swap = Path(sys.argv[1]), sys.argv[2] == "swap"
os.fsync = lambda _: None  # for a machine that loses power; a killed process loses nothing
if not swap:
    ctypes.CDLL = lambda *_, **__: object()  # a file system that cannot exchange two names

def write(directory, precision):
    with replaced_directory(directory, marker=MANIFEST_FILE) as partial:
        for name in (*GRAPH_FILES["onnxruntime"], EMBEDDING_FILE, *CHECKPOINT_FILES):
            (partial / name).write_text('{"model_type": "qwen3_vl"}')
        write_manifest(
            partial, flavour="onnxruntime", precision=precision, model_type="qwen3_vl",
            weights_sha256="0" * 64, cache_length=1, max_visual_tokens=1, tools={},
        )

import onnxruntime  # write_manifest asks it for its version; its import is not the point

def write_and_die(directory, point):
    acts = 0
    def hook(event, _):
        nonlocal acts
        if event.startswith(ACTS) and event != "os.kill":
            if acts == point:
                os.kill(os.getpid(), signal.SIGKILL)
            acts += 1
    sys.addaudithook(hook)
    write(directory, "new")

survived, point = False, 0
while not survived:
    directory = root / str(point) / "engine"
    write(directory, "old")
    child = os.fork()
    if child == 0:
        try:
            write_and_die(directory, point)
            os._exit(0)
        finally:
            os._exit(1)  # and not through the parent's clean-up
    status = os.waitpid(child, 0)[1]
    survived = status == 0
    assert survived or os.WTERMSIG(status) == signal.SIGKILL, status
    point += 1
print(point - 1)
"""


def killed_writers(root: Path, how: str) -> list[Path]:
    """Where an engine "old" was, and a writer of "new" was killed, a little later each time."""
    result = subprocess.run(
        [sys.executable, "-c", WRITERS, str(root), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    points = int(result.stdout)
    assert points >= 50, "the points are where nobody looks for them"
    return [root / str(point) / "engine" for point in range(points)]


class GivenUp(Exception):
    """The end of a writer that gets no further than having cleared up."""


def give_up(directory: Path) -> None:
    with pytest.raises(GivenUp), replaced_directory(directory, marker=MANIFEST_FILE):
        raise GivenUp


def test_wherever_a_writer_is_killed_one_engine_is_whole(tmp_path):
    """And what is unfinished can never be taken for an engine: the manifest is its last file."""
    found, unfinished = [], 0
    for directory in killed_writers(tmp_path, "swap"):
        found.append(verify_engine_dir(directory).precision)
        manifest = directory.parent / ".engine.partial" / MANIFEST_FILE
        if manifest.parent.is_dir() and found[-1] == "old":
            unfinished += 1
            if manifest.is_file() and manifest.stat().st_size:
                assert len(json.loads(manifest.read_text())["files"]) == 9
        give_up(directory)
        assert verify_engine_dir(directory).precision == found[-1]
        assert [path.name for path in directory.parent.iterdir()] == ["engine"]
    assert sorted(set(found)) == ["new", "old"]
    assert found == sorted(found, reverse=True), "once the new one is there, it stays"
    assert unfinished > 10


def test_where_names_cannot_be_swapped_the_next_writer_puts_the_old_engine_back(tmp_path):
    found, missing = [], 0
    for directory in killed_writers(tmp_path, "rename"):
        if not directory.exists():
            missing += 1
            aside = directory.parent / ".engine.old"
            with pytest.raises(EngineError, match=f"mv {aside} {directory}"):
                verify_engine_dir(directory)
            assert verify_engine_dir(aside).precision == "old"
        give_up(directory)
        found.append(verify_engine_dir(directory).precision)
        assert [path.name for path in directory.parent.iterdir()] == ["engine"]
    assert missing, "no writer was killed between the two renames"
    assert sorted(set(found)) == ["new", "old"]
