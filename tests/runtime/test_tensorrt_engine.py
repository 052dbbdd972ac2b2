# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine without a GPU: everything but the hardware is as strict as the hardware.

The fakes compute the very graphs that plans are built from, over memory that they check, so a pass
must give what ONNX Runtime gives. What they cannot show is that NVIDIA's libraries agree.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.runtime.engine import TensorSpec
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.conftest import CACHE_LENGTH
from tests.offline.engines import relative_error
from tests.offline.tensorrt_graphs_on_cpu import decoder_on_cpu, picture
from tests.runtime.fake_tensorrt import FakeTensorRT

BOTH = [pytest.param(operators, id=operators.value) for operators in OperatorSet]
ALIKE = 2e-3  # float16: rows that are filled up go through other kernels


@pytest.mark.parametrize("operators", BOTH)
def test_every_pass_gives_what_onnx_runtime_gives_filled_up_or_not(load, graph, passes, operators):
    engine = load("decoder", operators)
    reference = decoder_on_cpu(graph("decoder", operators), operators)
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


def test_a_tower_and_a_head_take_what_their_profiles_take(load, graph, config):
    tower, head = (load(name, OperatorSet.FUSED) for name in ("vision", "lm_head"))
    references = {
        name: OnnxRuntimeEngine(graph(name, OperatorSet.FUSED), threads=1)
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
