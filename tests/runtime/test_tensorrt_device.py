# SPDX-License-Identifier: Apache-2.0
"""What the TensorRT engine asks of its libraries and of the card: versions, memory, itself."""

from __future__ import annotations

import gc
import importlib
import sys

import pytest

from qwen3vl_ros.errors import EngineError, MissingDependency
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from tests.runtime.conftest import WINDOW, forget
from tests.runtime.fake_tensorrt import FakeTensorRT, write_plan


def test_a_plan_of_another_version_says_so_and_what_tensorrt_said(
    graph, tensorrt_engine, tmp_path
):
    head = graph("lm_head", OperatorSet.FUSED)
    plan = write_plan(tmp_path / "lm_head.plan", head, [], version="10.7.0.23")
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
    graph, tensorrt_engine, cuda, monkeypatch, tmp_path
):
    rtx = FakeTensorRT(cuda, version="1.7.1.116")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", rtx)
    head = {"hidden_states": [[1, 1, 64], [1, 1, 64], [1, WINDOW, 64]]}
    plan = write_plan(
        tmp_path / "lm_head.plan",
        graph("lm_head", OperatorSet.FUSED),
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
