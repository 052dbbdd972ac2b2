# SPDX-License-Identifier: Apache-2.0
"""From a directory to three running graphs, and what stands in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError, MissingDependency
from qwen3vl_ros.runtime import loading
from qwen3vl_ros.runtime.loading import load_engines, tiny_engine_directory
from qwen3vl_ros.runtime.manifest import MANIFEST_FILE


@pytest.fixture
def engine_dir(random_engines, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_engines["int4"], tmp_path / "engine"))


def test_the_tiny_engine_is_found_wherever_one_stands(monkeypatch, tmp_path):
    """`qwen3vl ground` once looked for it below the folder it was called from."""
    monkeypatch.chdir(tmp_path)
    assert (tiny_engine_directory() / "manifest.json").is_file()


@pytest.mark.parametrize(
    "python", ["lib/python3.12/site-packages", "local/lib/python3.10/dist-packages"]
)
def test_the_tiny_engine_of_an_installed_package_is_found(monkeypatch, tmp_path, python):
    package = tmp_path / python / "qwen3vl_ros"
    engine = tmp_path / "share" / "qwen3vl_ros" / "engines" / "tiny" / "onnxruntime-int4"
    engine.mkdir(parents=True)
    monkeypatch.setattr(loading, "__file__", str(package / "runtime" / "loading.py"))
    assert tiny_engine_directory() == engine


def test_an_engine_directory_becomes_three_graphs_and_a_table(engine_dir):
    engines = load_engines(engine_dir, threads=1)
    assert [spec.name for spec in engines.vision.outputs] == ["image_embeds", "deepstack_embeds"]
    assert [spec.name for spec in engines.decoder.outputs] == ["hidden_states"]
    assert [spec.name for spec in engines.lm_head.outputs] == ["logits"]
    assert not engines.embed_tokens.flags.writeable


def test_nothing_is_loaded_from_a_directory_that_was_tampered_with(engine_dir, monkeypatch):
    from qwen3vl_ros.runtime import loading

    def never(*_: object) -> None:
        raise AssertionError("a graph was opened before its hash was checked")

    monkeypatch.setattr(loading, "_load", never)
    graph = engine_dir / "decoder.onnx"
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    graph.write_bytes(content)
    with pytest.raises(EngineError) as refusal:
        load_engines(engine_dir)
    assert refusal.value.field == "files.decoder.onnx"


def test_a_plan_without_tensorrt_says_what_to_install(engine_dir):
    """An engine built on a Jetson and copied to a laptop."""
    manifest = json.loads((engine_dir / MANIFEST_FILE).read_text())
    for name in ("vision", "decoder", "lm_head"):
        shutil.copy(engine_dir / f"{name}.onnx", engine_dir / f"{name}.plan")
        manifest["files"][f"{name}.plan"] = manifest["files"][f"{name}.onnx"]
    manifest["flavour"] = "tensorrt"
    (engine_dir / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(MissingDependency, match="tensorrt") as missing:
        load_engines(engine_dir)
    assert missing.value.package == "tensorrt"
