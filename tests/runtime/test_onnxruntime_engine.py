# SPDX-License-Identifier: Apache-2.0
"""A graph of three nodes: what is fed, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.engine import Running, TensorSpec
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`present_total = past_total + step`, and `doubled = 2 * present_total`."""
    step = ir.val("step", ir.DataType.FLOAT, (1, "N"))
    past = ir.val("past_total", ir.DataType.FLOAT, (1, "N"))
    present = ir.val("present_total", ir.DataType.FLOAT, (1, "N"))
    doubled = ir.val("doubled", ir.DataType.FLOAT, (1, "N"))
    graph = ir.Graph(
        [step, past],
        [present, doubled],
        nodes=[
            ir.node("Add", [past, step], outputs=[present]),
            ir.node("Add", [present, present], outputs=[doubled]),
        ],
        opset_imports={"": 20},
        name="counter",
    )
    path = tmp_path_factory.mktemp("graph") / "counter.onnx"
    ir.save(ir.Model(graph, ir_version=10), path)
    return path


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_resident_tensors_are_neither_fed_nor_returned_and_last_from_pass_to_pass(counter):
    engine = OnnxRuntimeEngine(counter, lengths={"N": 3}, threads=1)
    float32 = np.dtype(np.float32)
    assert engine.inputs == (TensorSpec(name="step", dtype=float32, shape=(1, "N")),)
    assert engine.outputs == (TensorSpec(name="doubled", dtype=float32, shape=(1, "N")),)
    assert engine.run({"step": ones(1, 3)})["doubled"].tolist() == [[2, 2, 2]]
    assert engine.run({"step": ones(1, 3)})["doubled"].tolist() == [[4, 4, 4]]


def test_two_engines_of_one_graph_keep_their_own(counter):
    first, second = (OnnxRuntimeEngine(counter, lengths={"N": 1}, threads=1) for _ in range(2))
    first.run({"step": ones(1, 1)})
    assert second.run({"step": ones(1, 1)})["doubled"].item() == 2


def test_what_was_returned_is_the_callers_to_keep(counter):
    engine = OnnxRuntimeEngine(counter, lengths={"N": 1}, threads=1)
    doubled = engine.run({"step": ones(1, 1)})["doubled"]
    engine.run({"step": ones(1, 1)})
    assert doubled.item() == 2


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        pytest.param({}, "was fed \\[\\], expected \\['step'\\]", id="nothing"),
        pytest.param({"stride": ones(1, 1)}, "another contract", id="other-name"),
        pytest.param({"step": np.ones((1, 1))}, "float64 .* expected float32", id="other-dtype"),
        pytest.param({"step": ones(1)}, "\\(1,\\), expected", id="other-rank"),
        pytest.param({"step": ones(1, 2)}, "failed in ONNX Runtime", id="lengths-that-clash"),
    ],
)
def test_feeds_that_are_not_the_inputs_are_refused(counter, feeds, message):
    engine = OnnxRuntimeEngine(counter, lengths={"N": 3}, threads=1)
    with pytest.raises(EngineError, match=message):
        engine.run(feeds)


def test_a_rows_slice_may_be_fed_as_it_lies(counter):
    """Not contiguous in memory: every second number of six."""
    engine = OnnxRuntimeEngine(counter, lengths={"N": 3}, threads=1)
    step = np.arange(6, dtype=np.float32)[None, ::2]
    assert engine.run({"step": step})["doubled"].tolist() == [[0, 4, 8]]


def test_a_damaged_graph_is_refused(tmp_path):
    path = tmp_path / "vision.onnx"
    path.write_bytes(b"this is no graph")
    with pytest.raises(EngineError, match=r"cannot load vision\.onnx.*export the engine again"):
        OnnxRuntimeEngine(path)


@pytest.mark.parametrize(
    "providers",
    [pytest.param(["NoSuchExecutionProvider"], id="unknown"), pytest.param([], id="none")],
)
def test_a_provider_that_is_not_installed_is_refused_not_replaced(counter, providers):
    with pytest.raises(EngineError, match=r"expected some of .*cpu"):
        OnnxRuntimeEngine(counter, lengths={"N": 1}, providers=providers)


@pytest.mark.parametrize("spinning", [False, True])
def test_threads_and_spinning_reach_the_session_and_are_told(counter, monkeypatch, spinning):
    asked = {}
    session = ort.InferenceSession

    def spy(graph: Path, options: ort.SessionOptions, **kwargs: Any) -> ort.InferenceSession:
        asked["threads"] = options.intra_op_num_threads
        asked["spinning"] = options.get_session_config_entry("session.intra_op.allow_spinning")
        return session(graph, options, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", spy)
    engine = OnnxRuntimeEngine(counter, lengths={"N": 1}, threads=2, spinning=spinning)
    assert asked == {"threads": 2, "spinning": str(int(spinning))}
    assert engine.running == Running(
        runtime=f"ONNX Runtime {ort.__version__}",
        on=("CPUExecutionProvider",),
        threads=2,
        spinning=spinning,
    )


@pytest.fixture
def cuda_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that lists CUDA, as onnxruntime-gpu does on a machine without a driver.

    ONNX Runtime itself goes on without it, and says so nowhere but in the session's providers.
    """
    monkeypatch.setattr(
        ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
@pytest.mark.parametrize(
    "providers",
    [
        pytest.param(["cuda"], id="asked for"),
        pytest.param(["cuda", "cpu"], id="asked for, with another"),
        pytest.param(None, id="taken because it is installed"),
    ],
)
def test_a_provider_that_does_not_start_is_an_error_that_names_it(
    counter, cuda_that_does_not_start, providers
):
    with pytest.raises(
        EngineError, match=r"CUDAExecutionProvider did not start .*onnxruntime-gpu"
    ):
        OnnxRuntimeEngine(counter, lengths={"N": 1}, providers=providers)


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_falling_back_is_done_where_it_is_allowed_and_told(counter, cuda_that_does_not_start):
    engine = OnnxRuntimeEngine(counter, lengths={"N": 1}, providers=["cuda"], allow_fallback=True)
    assert engine.running.on == ("CPUExecutionProvider",)
    assert engine.running.missing == ("CUDAExecutionProvider",)
    assert engine.run({"step": ones(1, 1)})["doubled"].item() == 2


def test_a_provider_that_raises_while_it_starts_is_named_too(
    counter, cuda_that_does_not_start, monkeypatch
):
    session = ort.InferenceSession

    def raises(graph: Path, options: ort.SessionOptions, **kwargs: Any) -> ort.InferenceSession:
        if "CUDAExecutionProvider" in kwargs["providers"]:
            raise RuntimeError("CUDA failure 35: driver is too old")
        return session(graph, options, **kwargs)

    monkeypatch.setattr(ort, "InferenceSession", raises)
    with pytest.raises(
        EngineError, match=r"CUDAExecutionProvider did not start.*driver is too old"
    ):
        OnnxRuntimeEngine(counter, lengths={"N": 1}, providers=["cuda"])
    engine = OnnxRuntimeEngine(counter, lengths={"N": 1}, providers=["cuda"], allow_fallback=True)
    assert engine.running.missing == ("CUDAExecutionProvider",)


def test_a_plugin_that_cannot_be_loaded_is_a_provider_that_did_not_start(
    counter, tmp_path, monkeypatch
):
    """NVIDIA's wheel without a driver: its library needs libcuda, which is not there."""
    (tmp_path / "onnxruntime_ep_nv_tensorrt_rtx.py").write_text(
        f"def get_library_path(): return {str(tmp_path / 'no_such_library.so')!r}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    asked = {"lengths": {"N": 1}, "threads": 1, "providers": ["nv-tensorrt-rtx"]}
    with pytest.raises(EngineError, match=r"NvTensorRTRTX.* did not start.*no_such_library\.so"):
        OnnxRuntimeEngine(counter, **asked)
    engine = OnnxRuntimeEngine(counter, **asked, allow_fallback=True)
    assert engine.running.missing == ("NvTensorRTRTXExecutionProvider",)
    assert engine.run({"step": ones(1, 1)})["doubled"].item() == 2


def test_a_damaged_graph_is_no_fault_of_a_provider(tmp_path, cuda_that_does_not_start):
    (tmp_path / "vision.onnx").write_bytes(b"this is no graph")
    with pytest.raises(EngineError, match=r"cannot load vision\.onnx"):
        OnnxRuntimeEngine(tmp_path / "vision.onnx", providers=["cpu"], allow_fallback=True)


def test_a_graph_of_another_contract_is_refused_when_it_is_loaded(counter, tmp_path):
    with pytest.raises(EngineError, match=r"past_total has axes \['N'\] of no known length"):
        OnnxRuntimeEngine(counter, lengths={"cache_length": 3}, threads=1)
    text = ir.val("step", ir.DataType.STRING, (1,))
    out = ir.val("same", ir.DataType.STRING, (1,))
    graph = ir.Graph(
        [text], [out], nodes=[ir.node("Identity", [text], outputs=[out])],
        opset_imports={"": 20}, name="words",
    )  # fmt: skip
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "words.onnx")
    with pytest.raises(EngineError, match=r"step is of type tensor\(string\)"):
        OnnxRuntimeEngine(tmp_path / "words.onnx", threads=1)
