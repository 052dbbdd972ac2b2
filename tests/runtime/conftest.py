# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine where TensorRT and CUDA are fakes that compute and refuse as they do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import onnx_ir as ir
import pytest

from qwen3vl_ros import runtime
from qwen3vl_ros.model_config import ModelConfig, load_model_config
from qwen3vl_ros.offline.checkpoint import EMBEDDING, checked_files
from qwen3vl_ros.offline.recipes import TokenRange
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_profiles import Lengths, profiles_of
from qwen3vl_ros.runtime.engine import Engine
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.conftest import CACHE_LENGTH
from tests.offline.tensorrt_graphs_on_cpu import Feeds, conversation, picture
from tests.runtime.fake_cuda import FakeCuda
from tests.runtime.fake_tensorrt import FakeTensorRT, write_plan

WINDOW = 8
LENGTHS = Lengths(
    image_tokens=TokenRange(min=1, opt=6, max=70),
    patches_per_token=4,
    cache_length=CACHE_LENGTH,
    decode_window=WINDOW,
)
MODULES = ("device_memory", "tensorrt_pass", "tensorrt_engine")

Graph = Callable[[str, OperatorSet], Path]
Load = Callable[[str, OperatorSet], Engine]


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def tensorrt_engine(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, imported where TensorRT and CUDA are the fakes, and forgotten afterwards."""
    bindings = ModuleType("cuda.bindings")
    vars(bindings)["runtime"] = cuda
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT(cuda))
    forget()
    yield importlib.import_module("qwen3vl_ros.runtime.tensorrt_engine")
    forget()


def forget() -> None:
    for name in MODULES:
        sys.modules.pop(f"qwen3vl_ros.runtime.{name}", None)
        vars(runtime).pop(name, None)


@pytest.fixture(scope="module")
def config(random_checkpoint: Path) -> ModelConfig:
    return load_model_config(random_checkpoint)


@pytest.fixture(scope="session")
def graph(tensorrt_graph: Callable[..., Path]) -> Graph:
    """A graph of float16, by name and operators."""
    return lambda name, operators: tensorrt_graph(name, operators, "float16")


@pytest.fixture
def load(graph: Graph, tensorrt_engine: ModuleType, tmp_path: Path) -> Load:
    """Loads a graph as a plan of the profiles that `qwen3vl build` gives it."""

    def load(name: str, operators: OperatorSet) -> Engine:
        graph_file = graph(name, operators)
        shapes = {
            value.name: tuple(axis if isinstance(axis, int) else -1 for axis in value.shape)
            for value in ir.load(graph_file).graph.inputs
        }
        profiles = [
            {input: [each.min, each.opt, each.max] for input, each in profile.items()}
            for profile in profiles_of(name, shapes, LENGTHS)
        ]
        plan = write_plan(tmp_path / f"{name}.plan", graph_file, profiles)
        engine: Engine = tensorrt_engine.TensorRTEngine(plan)
        return engine

    return load


@pytest.fixture(scope="module")
def passes(graph: Graph, random_checkpoint: Path, config: ModelConfig) -> list[Feeds]:
    """Prefill with a picture, one token, a window, a window rolled back, another prompt."""
    tower = OnnxRuntimeEngine(graph("vision", OperatorSet.FUSED), threads=1)
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    return conversation(config, weights.array(EMBEDDING), tower.run(picture(config)))
