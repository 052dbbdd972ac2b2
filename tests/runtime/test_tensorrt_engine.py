# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine without a GPU: everything but the hardware is as strict as the hardware.

The fakes compute the very graphs that plans are built from, over memory that they check, so a pass
must give what ONNX Runtime gives. What they cannot show is that NVIDIA's libraries agree.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qwen3vl_ros import runtime
from qwen3vl_ros.errors import EngineError, MissingDependency
from qwen3vl_ros.model_config import ModelConfig, load_model_config
from qwen3vl_ros.offline.checkpoint import EMBEDDING, checked_files
from qwen3vl_ros.offline.recipes import TokenRange
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_graphs import decoder_graph, head_graph, vision_graph
from qwen3vl_ros.offline.tensorrt_profiles import Lengths, profiles_of
from qwen3vl_ros.offline.tensorrt_weights import attach_weights
from qwen3vl_ros.runtime.engine import Engine, TensorSpec
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.conftest import CACHE_LENGTH
from tests.offline.engines import relative_error
from tests.offline.tensorrt_graphs_on_cpu import Feeds, conversation, decoder_on_cpu, picture
from tests.runtime.fake_cuda import FakeCuda
from tests.runtime.fake_tensorrt import FakeTensorRT, write_plan

WINDOW = 8
LENGTHS = Lengths(
    image_tokens=TokenRange(min=1, opt=6, max=70),
    patches_per_token=4,
    cache_length=CACHE_LENGTH,
    decode_window=WINDOW,
)
BOTH = [pytest.param(operators, id=operators.value) for operators in OperatorSet]
MODULES = ("device_memory", "tensorrt_pass", "tensorrt_engine")
ALIKE = 2e-3  # float16: rows that are filled up go through other kernels

Load = Callable[..., Engine]


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


@pytest.fixture(scope="module")
def graphs(
    random_checkpoint: Path, config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[tuple[str, OperatorSet], Path]:
    """Graphs of float16, by name and operators."""
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    root = tmp_path_factory.mktemp("graphs")
    made: dict[tuple[str, OperatorSet], Path] = {}
    for operators in OperatorSet:
        choices: Any = {"operators": operators, "width": "float16"}
        models = {
            "vision": vision_graph(config.vision, **choices),
            "decoder": decoder_graph(config.text, **choices, cache_length=CACHE_LENGTH),
            "lm_head": head_graph(config, **choices),
        }
        for name, model in models.items():
            attach_weights(model, weights)
            made[name, operators] = root / f"{name}-{operators.value}.onnx"
            ir.save(model, made[name, operators])
    return made


@pytest.fixture
def load(
    graphs: Mapping[tuple[str, OperatorSet], Path], tensorrt_engine: ModuleType, tmp_path: Path
) -> Load:
    """Loads a graph as a plan of the profiles that `qwen3vl build` gives it."""

    def load(name: str, operators: OperatorSet) -> Engine:
        graph = graphs[name, operators]
        shapes = {
            value.name: tuple(axis if isinstance(axis, int) else -1 for axis in value.shape)
            for value in ir.load(graph).graph.inputs
        }
        profiles = [
            {input: [each.min, each.opt, each.max] for input, each in profile.items()}
            for profile in profiles_of(name, shapes, LENGTHS)
        ]
        plan = write_plan(tmp_path / f"{name}.plan", graph, profiles)
        engine: Engine = tensorrt_engine.TensorRTEngine(plan)
        return engine

    return load


@pytest.fixture(scope="module")
def passes(
    graphs: Mapping[tuple[str, OperatorSet], Path], random_checkpoint: Path, config: ModelConfig
) -> list[Feeds]:
    """Prefill with a picture, one token, a window, a window rolled back, another prompt."""
    tower = OnnxRuntimeEngine(graphs["vision", OperatorSet.FUSED], threads=1)
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    return conversation(config, weights.array(EMBEDDING), tower.run(picture(config)))


@pytest.mark.parametrize("operators", BOTH)
def test_every_pass_gives_what_onnx_runtime_gives_filled_up_or_not(
    load, graphs, passes, operators
):
    engine = load("decoder", operators)
    reference = decoder_on_cpu(graphs["decoder", operators], operators)
    for index, feeds in enumerate(passes):
        got, expected = (each.run(feeds)["hidden_states"] for each in (engine, reference))
        assert got.shape == expected.shape, f"pass {index}"
        assert relative_error(got, expected) < ALIKE, f"pass {index}"


@pytest.mark.parametrize("operators", BOTH)
def test_passes_of_the_window_are_recorded_once_and_replayed(load, cuda, passes, operators):
    engine = load("decoder", operators)
    prefill, one_token, window, rolled_back, _ = passes
    engine.run(prefill)
    assert cuda.launches == 0
    engine.run(one_token)  # the first of its shape runs as it is, and is recorded then
    assert cuda.launches == 0
    engine.run(window)
    engine.run(rolled_back)
    assert cuda.launches == 2
    engine.run(prefill)  # its buffers grow beside those that are recorded
    engine.run(one_token)
    assert cuda.launches == 3


def test_where_the_window_reaches_beyond_the_cache_a_pass_is_left_as_it_is(load, cuda, passes):
    """The last tokens of a full cache: written one by one, not past its end."""
    engine = load("decoder", OperatorSet.PLAIN)
    last = dict(passes[1]) | {"cached_tokens": np.array([CACHE_LENGTH - 1], np.int32)}
    engine.run(passes[1])
    assert engine.run(last)["hidden_states"].shape == (1, 1, 64)
    assert cuda.launches == 0
    beyond = last | {"cached_tokens": np.array([CACHE_LENGTH], np.int32)}
    with pytest.raises(EngineError, match=r"fed 1 rows after 384, and its cache has 384"):
        engine.run(beyond)


def test_a_graph_that_cannot_be_recorded_is_done_without_and_said_once(load, cuda, passes, caplog):
    cuda.refuses_capture = True
    engine = load("decoder", OperatorSet.FUSED)
    first = engine.run(passes[1])["hidden_states"]
    again = engine.run(passes[1])["hidden_states"]
    assert (first == again).all()
    assert cuda.launches == 0
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "decoder.plan runs without a CUDA graph" in said.getMessage()
    assert "cudaErrorStreamCaptureInvalidated" in said.getMessage()


def test_a_tower_and_a_head_take_what_their_profiles_take(load, graphs, config):
    tower, head = (load(name, OperatorSet.FUSED) for name in ("vision", "lm_head"))
    references = {
        name: OnnxRuntimeEngine(graphs[name, OperatorSet.FUSED], threads=1)
        for name in ("vision", "lm_head")
    }
    hidden = {"hidden_states": np.random.default_rng(0).normal(size=(1, 3, 64)).astype("f4")}
    for engine, name, feeds in ((tower, "vision", picture(config)), (head, "lm_head", hidden)):
        for output, expected in references[name].run(feeds).items():
            np.testing.assert_array_equal(engine.run(feeds)[output], expected)


def test_an_engine_names_what_is_fed_and_returned_without_the_cache(load):
    engine = load("decoder", OperatorSet.FUSED)
    assert [spec.name for spec in engine.outputs] == ["hidden_states"]
    assert {spec.name for spec in engine.inputs} == {
        "token_embeds",
        "rope_cos",
        "rope_sin",
        "visual_rows",
        "visual_embeds",
        "deepstack_embeds",
        "cached_tokens",
        "output_rows",
    }
    embeds = TensorSpec(
        name="token_embeds", dtype=np.dtype(np.float32), shape=("axis0", "axis1", 64)
    )
    assert embeds in engine.inputs
    assert str(engine.running) == "TensorRT 10.3.0.30 on the GPU"


def test_the_cache_starts_as_zeros_in_whatever_memory_it_gets(load, passes):
    """Fresh memory of the fake holds rubbish; a second engine must answer as the first did."""
    first = load("decoder", OperatorSet.FUSED).run(passes[1])["hidden_states"]
    second = load("decoder", OperatorSet.FUSED).run(passes[1])["hidden_states"]
    assert np.isfinite(first).all()
    assert (first == second).all()


@pytest.mark.parametrize("operators", BOTH)
def test_a_cache_of_a_kind_that_numpy_has_not_is_sized_by_tensorrt(
    load, passes, operators, monkeypatch
):
    """TensorRT has no NumPy kind for bfloat16; float16 plays its part, the fake computes in it."""

    def nptype(dtype: Any) -> type[np.generic]:
        if dtype.kind is np.float16:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        kind: type[np.generic] = dtype.kind
        return kind

    monkeypatch.setattr(FakeTensorRT, "nptype", staticmethod(nptype))
    engine = load("decoder", operators)
    for feeds in passes:
        assert np.isfinite(engine.run(feeds)["hidden_states"]).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param(
            {"token_embeds": (1, CACHE_LENGTH + 1, 64)},
            r"token_embeds \(1, 385, 64\), takes \(1, 1, 64\) to \(1, 384, 64\); ask for less",
            id="longer-than-the-cache",
        ),
        pytest.param(
            {"visual_embeds": (CACHE_LENGTH + 1, 64)},
            r"visual_embeds \(385, 64\), takes \(1, 64\) to \(384, 64\)",
            id="more-pictures",
        ),
        pytest.param(
            {"cached_tokens": (2,)}, r"cached_tokens \(2,\), takes \(1,\)", id="two-sequences"
        ),
    ],
)
def test_shapes_outside_of_every_profile_are_refused_with_what_it_takes(
    load, passes, changed, words
):
    engine = load("decoder", OperatorSet.FUSED)
    feeds = dict(passes[0])
    for name, shape in changed.items():
        feeds[name] = np.zeros(shape, feeds[name].dtype)
    with pytest.raises(EngineError, match=words):
        engine.run(feeds)


def test_feeds_of_another_contract_are_refused_before_anything_is_copied(load, passes):
    engine = load("decoder", OperatorSet.FUSED)
    with pytest.raises(EngineError, match="another contract"):
        engine.run({**passes[0], "token_embeds": passes[0]["token_embeds"].astype(np.float16)})


def test_a_plan_of_another_version_says_so_and_what_tensorrt_said(
    graphs, tensorrt_engine, tmp_path
):
    graph = graphs["lm_head", OperatorSet.FUSED]
    plan = write_plan(tmp_path / "lm_head.plan", graph, [], version="10.7.0.23")
    with pytest.raises(EngineError, match=r"cannot load lm_head.plan: plan of version 10.7.0.23"):
        tensorrt_engine.TensorRTEngine(plan)


def test_a_gpu_without_memory_is_said_by_cudas_name(load, cuda):
    cuda.free_bytes = 1000
    with pytest.raises(EngineError, match="cudaErrorMemoryAllocation; is the GPU there"):
        load("decoder", OperatorSet.FUSED)


def test_a_buffer_that_could_not_grow_is_not_used_after_it_was_freed(tensorrt_engine, cuda):
    """A smaller pass after one that memory was too short for wrote to what was no longer ours."""
    device = importlib.import_module("qwen3vl_ros.runtime.device_memory")
    buffer = device.DeviceBuffer(1000)
    with pytest.raises(EngineError, match="cudaErrorMemoryAllocation"):
        buffer.reserve(10**12)
    assert buffer.reserve(500) in cuda.allocated
    del buffer
    gc.collect()
    assert not cuda.allocated


def test_everything_on_the_gpu_is_freed_with_the_engine(load, cuda, passes):
    engine = load("decoder", OperatorSet.PLAIN)
    for feeds in passes:
        engine.run(feeds)
    assert cuda.allocated
    del engine
    gc.collect()
    assert not cuda.allocated
    assert not cuda.streams


def test_the_machine_says_its_gpu_and_tensorrt(tensorrt_engine):
    machine = tensorrt_engine.this_machine("tensorrt")
    assert (machine.tensorrt_version, machine.gpu_architecture) == ("10.3.0.30", "sm_87")


def test_plans_of_tensorrt_rtx_are_read_by_its_own_module(
    graphs, tensorrt_engine, cuda, monkeypatch, tmp_path
):
    rtx = FakeTensorRT(cuda, version="1.7.1.116")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", rtx)
    head = {"hidden_states": [[1, 1, 64], [1, 1, 64], [1, WINDOW, 64]]}
    plan = write_plan(
        tmp_path / "lm_head.plan",
        graphs["lm_head", OperatorSet.FUSED],
        [head],
        version="1.7.1.116",
    )
    engine = tensorrt_engine.TensorRTEngine(plan, flavour="tensorrt-rtx")
    assert str(engine.running) == "TensorRT-RTX 1.7.1.116 on the GPU"
    assert tensorrt_engine.this_machine("tensorrt-rtx").tensorrt_version == "1.7.1.116"


def test_without_cuda_python_it_is_said_what_to_install():
    forget()
    with pytest.raises(MissingDependency, match="cuda-python") as missing:
        importlib.import_module("qwen3vl_ros.runtime.tensorrt_engine")
    assert missing.value.package == "cuda-python"
