# SPDX-License-Identifier: Apache-2.0
"""An export that the disk has no room for says so, and the engine that was there is as it was.

The kernel's limit on the size of a file stands in for a disk that is full: whoever writes beyond
it gets an error as a full disk gives it, in numpy, in the exporter and in Python alike.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.runtime.manifest import read_manifest, verify_engine_dir


@contextmanager
def no_file_longer_than(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "name",
    ["config.json", "embed_tokens.npy", "decoder.onnx", "decoder.onnx.data", "golden.npz"],
)
def test_wherever_the_disk_is_full_the_old_engine_stays_whole(
    random_checkpoint, random_engines, tmp_path, name
):
    engine = Path(shutil.copytree(random_engines["int4"], tmp_path / "engine"))
    before = read_manifest(engine)
    room = (engine / name).stat().st_size - 1
    with no_file_longer_than(room), pytest.raises(EngineError) as refusal:
        export_checkpoint(random_checkpoint, engine, precision="int4", cache_length=384)
    assert f"cannot write {engine} whole" in str(refusal.value)
    assert "what was there before is as it was" in str(refusal.value)
    assert verify_engine_dir(engine) == before
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_with_room_again_the_next_export_gets_through(random_checkpoint, random_engines, tmp_path):
    engine = tmp_path / "engine"
    with no_file_longer_than(1000), pytest.raises(EngineError):
        export_checkpoint(random_checkpoint, engine, precision="int4", cache_length=384)
    assert list(tmp_path.iterdir()) == []
    export_checkpoint(random_checkpoint, engine, precision="int4", cache_length=384)
    assert verify_engine_dir(engine) == read_manifest(random_engines["int4"])
