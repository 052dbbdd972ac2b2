# SPDX-License-Identifier: Apache-2.0
"""From a directory to three running graphs, and what stands in the way."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen3vl_ros import runtime
from qwen3vl_ros.errors import EngineError, MissingDependency
from qwen3vl_ros.runtime import loading
from qwen3vl_ros.runtime.atomic_directory import replaced_directory
from qwen3vl_ros.runtime.loading import load_engines, tiny_engine_directory
from qwen3vl_ros.runtime.machine import Machine
from qwen3vl_ros.runtime.manifest import (
    GRAPH_FILES,
    MANIFEST_FILE,
    read_manifest,
    write_manifest,
)

ORIN = Machine(tensorrt_version="10.3.0.30", gpu_architecture="sm_87", driver="540.4.0")


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


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the graphs that ONNX Runtime was asked to open; it opens them."""
    from qwen3vl_ros.runtime.onnxruntime_engine import ort

    names = []
    session = ort.InferenceSession

    def spy(graph: Path, *args: Any, **kwargs: Any) -> Any:
        names.append(Path(graph).name)
        return session(graph, *args, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    return names


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_runtime_opens_the_graphs_of_a_whole_engine(engine_dir, opened):
    load_engines(engine_dir, threads=1)
    assert opened == ["vision.onnx", "decoder.onnx", "lm_head.onnx"]


@pytest.mark.parametrize(
    "name", ["vision.onnx", "lm_head.onnx", "lm_head.onnx.data", "embed_tokens.npy"]
)
def test_one_wrong_byte_anywhere_and_the_runtime_is_never_called(engine_dir, opened, name):
    flip_a_byte(engine_dir / name)
    with pytest.raises(EngineError) as refusal:
        load_engines(engine_dir)
    assert refusal.value.field == f"files.{name}"
    assert opened == []


def test_files_of_somebody_else_never_reach_the_runtime(engine_dir, opened):
    (engine_dir / "decoder.onnx.data").chmod(0o666)
    with pytest.raises(EngineError, match=r"decoder\.onnx\.data can be written by every user"):
        load_engines(engine_dir)
    assert opened == []


def test_what_was_noted_about_the_runtime_is_said_once(engine_dir, monkeypatch, caplog):
    monkeypatch.setattr(loading, "onnxruntime_version", lambda: "99.0.0")
    engines = load_engines(engine_dir, threads=1)
    (note,) = engines.notes
    assert "another major version, 99.0.0" in note
    assert [record.getMessage() for record in caplog.records] == [f"{engine_dir}: {note}"]


def test_one_line_says_what_runs_where_not_one_for_each_graph(engine_dir, caplog):
    with caplog.at_level(logging.INFO):
        engines = load_engines(engine_dir, threads=1, spinning=True)
    (line,) = caplog.messages
    assert line.startswith(f"{engine_dir}: int4, ONNX Runtime ")
    assert line.endswith(" on CPUExecutionProvider, 1 threads, spinning")
    assert str(engines.running) in line


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_an_engine_that_fell_back_says_so_once(engine_dir, monkeypatch, caplog):
    from qwen3vl_ros.runtime.onnxruntime_engine import ort

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: both)
    with pytest.raises(EngineError, match="CUDAExecutionProvider did not start"):
        load_engines(engine_dir, threads=1)
    engines = load_engines(engine_dir, threads=1, allow_fallback=True)
    (note,) = engines.notes
    assert note.startswith("CUDAExecutionProvider did not start, the engine runs on CPUExec")
    assert [record.getMessage() for record in caplog.records] == [f"{engine_dir}: {note}"]


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
@pytest.mark.parametrize("graph", ["vision.onnx", "decoder.onnx", "lm_head.onnx"])
def test_a_single_graph_that_fell_back_is_told_too(engine_dir, monkeypatch, graph):
    """The last one finds a GPU's memory full; whoever looks at the decoder alone misses it."""
    real = loading._load

    def load(path: Path, **kwargs: Any) -> Any:
        engine = real(path, **kwargs)
        if path.name == graph:
            missing = ("CUDAExecutionProvider",)
            engine._running = dataclasses.replace(engine.running, missing=missing)
        return engine

    monkeypatch.setattr(loading, "_load", load)
    engines = load_engines(engine_dir, threads=1, allow_fallback=True)
    assert engines.running.missing == ("CUDAExecutionProvider",)
    assert engines.notes[0].startswith("CUDAExecutionProvider did not start")


def test_an_engine_replaced_while_it_is_loaded_is_not_half_of_each(engine_dir, monkeypatch):
    """The first graph of one export with the second of another would answer, and be wrong."""
    real = loading._load

    def replace_in_between(path: Path, **kwargs: Any) -> Any:
        if path.name == "decoder.onnx":
            with replaced_directory(engine_dir, marker=MANIFEST_FILE) as partial:
                shutil.copytree(engine_dir, partial, dirs_exist_ok=True)
        return real(path, **kwargs)

    monkeypatch.setattr(loading, "_load", replace_in_between)
    with pytest.raises(EngineError, match="took this one's place while it was being loaded"):
        load_engines(engine_dir, threads=1)
    monkeypatch.undo()
    load_engines(engine_dir, threads=1)


def test_what_is_missing_while_it_is_replaced_is_called_replaced_too(engine_dir, monkeypatch):
    def replaced(path: Path, **_: Any) -> Any:
        engine_dir.rename(engine_dir.parent / "aside")
        raise EngineError(f"cannot load {path}")

    monkeypatch.setattr(loading, "_load", replaced)
    with pytest.raises(EngineError, match="took this one's place"):
        load_engines(engine_dir, threads=1)


@pytest.fixture
def plan_dir(engine_dir) -> Path:
    """A directory of plans, none of which could be deserialised."""
    manifest = read_manifest(engine_dir)
    for graph in GRAPH_FILES["onnxruntime"]:
        (engine_dir / graph).rename((engine_dir / graph).with_suffix(".plan"))
    write_manifest(
        engine_dir,
        flavour="tensorrt",
        precision=manifest.precision,
        model_type=manifest.model_type,
        weights_sha256=manifest.weights_sha256,
        cache_length=manifest.cache_length,
        max_visual_tokens=manifest.max_visual_tokens,
        profiles={plan: [] for plan in GRAPH_FILES["tensorrt"]},
        tools={"tensorrt": ORIN.tensorrt_version},
        gpu_architecture=ORIN.gpu_architecture,
        driver=ORIN.driver,
    )
    return engine_dir


class Deserialised(Exception):
    """What a runtime would have done to a plan."""


@pytest.fixture
def tensorrt_on(monkeypatch) -> Callable[[Machine], None]:
    """A stand-in for TensorRT and its GPU, which no machine here has."""

    def install(machine: Machine) -> None:
        module = types.ModuleType("qwen3vl_ros.runtime.tensorrt_engine")

        def deserialise(plan: Path, **_: Any) -> None:
            raise Deserialised(plan.name)

        vars(module).update(TensorRTEngine=deserialise, this_machine=lambda _: machine)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.delattr(runtime, "tensorrt_engine", raising=False)

    return install


def test_plans_reach_the_runtime_on_the_machine_they_were_built_for(plan_dir, tensorrt_on):
    tensorrt_on(ORIN)
    with pytest.raises(Deserialised, match=r"vision\.plan"):
        load_engines(plan_dir)


@pytest.mark.parametrize(
    ("machine", "field"),
    [
        pytest.param({"tensorrt_version": "10.3.0.26"}, "tools.tensorrt", id="tensorrt"),
        pytest.param({"gpu_architecture": "sm_89"}, "gpu_architecture", id="gpu"),
        pytest.param({"driver": "535.0.0"}, "driver", id="driver"),
    ],
)
def test_plans_of_another_machine_are_refused_before_they_are_deserialised(
    plan_dir, tensorrt_on, machine, field
):
    tensorrt_on(dataclasses.replace(ORIN, **machine))
    with pytest.raises(EngineError, match="qwen3vl build") as refusal:
        load_engines(plan_dir)
    assert refusal.value.field == field


def test_a_plan_with_a_wrong_byte_is_refused_before_it_is_deserialised(plan_dir, tensorrt_on):
    tensorrt_on(ORIN)
    flip_a_byte(plan_dir / "lm_head.plan")
    with pytest.raises(EngineError) as refusal:
        load_engines(plan_dir)
    assert refusal.value.field == "files.lm_head.plan"


def test_a_plan_without_tensorrt_says_what_to_install(plan_dir):
    """An engine built on a Jetson and copied to a laptop."""
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[tensorrt\]'"):
        load_engines(plan_dir)
