# SPDX-License-Identifier: Apache-2.0
"""Every field of a manifest and every file of an engine, wrong: no runtime ever sees a graph.

What form each field has is `test_manifest_fields.py`'s; here is what a whole engine's loader does.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.golden_check import check_golden
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import MANIFEST_FILE, Manifest, read_manifest

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"
FILES = sorted(read_manifest(TINY / "onnxruntime-int4").files)
WEIGHTS = read_manifest(TINY / "onnxruntime-int4").weights_sha256[:12]


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY / "onnxruntime-int4", tmp_path / "engine"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened by ONNX Runtime or mapped as a table; nothing is, in the end."""
    from qwen3vl_ros.runtime.onnxruntime_engine import ort

    names: list[str] = []
    monkeypatch.setattr(ort, "InferenceSession", lambda path, *_, **__: names.append(str(path)))
    monkeypatch.setattr(np, "load", lambda path, *_, **__: names.append(str(path)))
    return names


def change(directory: Path, **fields: Any) -> None:
    file = directory / MANIFEST_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


# A value that a manifest may have, and this engine may not.
WRONG: dict[str, Any] = {
    "format_version": 1,
    "flavour": "tensorrt-onnx",
    "model_id": "Qwen/\x07",
    "model_type": "qwen3_vl_moe",
    "config_sha256": "0" * 64,
    "cache_length": 10**10,
    "max_visual_tokens": 10**10,
    "profiles": {"decoder.onnx": []},
    "tools": {"torch": 2},
    "gpu_architecture": "sm_87",
    "driver": "540.4.0",
    "files": {},
}
# What only the reference can tell: nothing that is in the directory says it a second time.
SEEN_BY_GOLDEN: dict[str, tuple[Any, str]] = {
    "precision": ("float32", "the first logits are off by"),
    "vision_precision": ("int2", "nothing says how right a tower in 'int2'"),
    "weights_sha256": ("0" * 64, f"the golden outputs are of weights with sha256 {WEIGHTS}, the"),
}


def test_no_field_is_forgotten_here():
    assert {*WRONG, *SEEN_BY_GOLDEN} == {field.name for field in dataclasses.fields(Manifest)}
    assert not WRONG.keys() & SEEN_BY_GOLDEN.keys()


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_is_wrong_is_refused_before_anything_is_opened(engine, opened, field):
    change(engine, **{field: WRONG[field]})
    with pytest.raises(EngineError) as refusal:
        load_engines(engine)
    if field in ("cache_length", "max_visual_tokens"):
        assert "of memory and" in str(refusal.value), "nothing else limits how large they may be"
    else:
        assert refusal.value.field.partition(".")[0] == field
    assert any(word in str(refusal.value) for word in ("export", "qwen3vl build"))
    assert opened == []


@pytest.mark.parametrize("field", SEEN_BY_GOLDEN)
def test_a_field_that_no_file_contradicts_is_held_against_the_reference(engine, field):
    value, message = SEEN_BY_GOLDEN[field]
    change(engine, **{field: value})
    model = LocalModel.load(engine, threads=1)
    with pytest.raises(EngineError, match=message):
        check_golden(model, engine)


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lead_outside(file: Path) -> None:
    """Every byte is right, and lies where somebody else may write."""
    outside = file.parent.parent / f"outside-{file.name}"
    file.rename(outside)
    file.symlink_to(outside)


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink, lead_outside])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_as_it_was_is_refused_before_anything_is_opened(
    engine, opened, name, damage: Callable[[Path], None]
):
    damage(engine / name)
    with pytest.raises(EngineError, match="qwen3vl export") as refusal:
        load_engines(engine)
    assert refusal.value.field == f"files.{name}"
    assert opened == []


@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_a_directory_that_everybody_may_write_is_refused_before_anything_is_opened(
    engine, opened, mode
):
    engine.chmod(mode)
    with pytest.raises(EngineError, match="can be written by every user"):
        load_engines(engine)
    assert opened == []
