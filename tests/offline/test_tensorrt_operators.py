# SPDX-License-Identifier: Apache-2.0
"""Every graph that is exported for a target is one that this target's TensorRT reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet, release_from_version
from qwen3vl_ros.offline.tensorrt_operators import (
    INT4_OPSET,
    OPERATORS,
    check_operators,
    operators_read_by,
)
from qwen3vl_ros.runtime.tensorrt_library import logger_of, tensorrt_library

# Newest and oldest of what robots and cards run, and whose set of operators each reads.
RELEASES = [
    pytest.param("10.3", {OperatorSet.PLAIN}, id="10.3-jetpack6"),
    pytest.param("10.13", {OperatorSet.PLAIN}, id="10.13-jetpack7"),
    pytest.param("10.14", {OperatorSet.PLAIN}, id="10.14-has-attention-only"),
    pytest.param("10.15", {OperatorSet.PLAIN, OperatorSet.FUSED}, id="10.15"),
    pytest.param("11.4", {OperatorSet.PLAIN, OperatorSet.FUSED}, id="11.4-jetpack7.2.2"),
]


@pytest.fixture(scope="module")
def graphs(tensorrt_graph: Callable[..., Path]) -> dict[OperatorSet, dict[str, ir.Model]]:
    return {
        operators: {
            f"{name}.onnx": ir.load(tensorrt_graph(name, operators, "float16"))
            for name in ("vision", "decoder", "lm_head")
        }
        for operators in OperatorSet
    }


@pytest.mark.parametrize(("version", "readable"), RELEASES)
def test_a_release_reads_the_graphs_of_its_operator_sets_and_refuses_the_others(
    graphs, version, readable
):
    release = release_from_version(version)
    for operators, models in graphs.items():
        for name, model in models.items():
            if operators in readable:
                check_operators(model, name=name, release=release)
            else:
                with pytest.raises(ConfigError, match=f"TensorRT {version} does not read of"):
                    check_operators(model, name=name, release=release)


@pytest.mark.parametrize("operators", OperatorSet)
def test_eight_bits_are_read_as_soon_as_floats_are(tensorrt_graph, operators):
    """Four need another opset."""
    release = (10, 3) if operators is OperatorSet.PLAIN else (10, 15)
    for name in ("decoder", "lm_head"):
        model = ir.load(tensorrt_graph(name, operators, "float16", int8=True))
        assert "DequantizeLinear" in {node.op_type for node in model.graph}
        check_operators(model, name=f"{name}.onnx", release=release)


def test_what_is_not_read_is_named_with_the_release_that_does(graphs):
    with pytest.raises(ConfigError) as refusal:
        check_operators(
            graphs[OperatorSet.FUSED]["decoder.onnx"], name="decoder.onnx", release=(10, 13)
        )
    for words in (
        "Attention (from TensorRT 10.14 on)",
        "RMSNormalization (from TensorRT 10.15 on)",
        "RotaryEmbedding (from TensorRT 10.15 on)",
        "TensorScatter (from TensorRT 10.15 on)",
        "opset 24 (reads up to 20)",
        "take the plain operator set",
    ):
        assert words in str(refusal.value)


def test_the_list_holds_what_is_used_and_says_of_the_rest_since_when(graphs):
    used = {
        node.op_type for models in graphs.values() for m in models.values() for node in m.graph
    }
    assert used | {"DequantizeLinear"} <= OPERATORS.keys()
    newer = OPERATORS.keys() - operators_read_by((10, 3))
    assert newer == {"Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter"}


def test_tensorrt_rtx_says_itself_that_it_reads_what_is_on_the_list():
    trt = tensorrt_library("tensorrt-rtx")
    log = logger_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert {name for name in OPERATORS if not parser.supports_operator(name)} == set()
    assert not parser.supports_operator("FusedMatMul")  # ONNX Runtime's own


def graph_of(
    op_type: str,
    *,
    dtype: ir.DataType = ir.DataType.FLOAT16,
    shape: tuple[int, ...] = (2, 4, 8, 16),
    others: int = 0,
    domain: str = "",
    **attributes: object,
) -> ir.Model:
    """One operator over graph inputs."""
    names = [f"input_{index}" for index in range(1 + others)]
    inputs = [ir.val(name, dtype, shape) for name in names]
    node = ir.node(op_type, inputs, attributes, domain=domain)
    out = node.outputs[0]
    out.type, out.shape = ir.TensorType(dtype), ir.Shape(shape)
    graph = ir.Graph(inputs, [out], nodes=[node], opset_imports={domain: 1, "": 20})
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(
            graph_of("FusedMatMul", others=1, domain="com.microsoft"),
            r"FusedMatMul \(not on our list",
            id="onnx-runtimes-own",
        ),
        pytest.param(graph_of("NonZero"), r"NonZero \(not on our list", id="not-on-the-list"),
        pytest.param(graph_of("Sqrt", dtype=ir.DataType.DOUBLE), r"Sqrt \(of DOUBLE\)", id="type"),
        pytest.param(
            graph_of("ReduceMean", others=1),
            r"ReduceMean \(input 1 is not a constant\)",
            id="varying-axes",
        ),
        pytest.param(
            graph_of("DequantizeLinear", dtype=ir.DataType.UINT8, others=1),
            r"DequantizeLinear \(of UINT8\)",
            id="eight-bits-without-a-sign",
        ),
    ],
)
def test_an_operator_outside_of_the_list_is_refused_by_name(model, words):
    with pytest.raises(ConfigError, match=words):
        check_operators(model, name="a.onnx", release=(10, 15))


@pytest.mark.parametrize(
    ("attributes", "shape", "words"),
    [
        pytest.param({"axis": 1}, (2, 4, 8, 16), r"TensorScatter \(axis is 1\)", id="axis"),
        pytest.param({"axis": -2}, (2, 8, 16), r"TensorScatter \(of rank 3\)", id="rank"),
    ],
)
def test_a_cache_that_tensorrt_cannot_write_in_place_is_refused(attributes, shape, words):
    model = graph_of("TensorScatter", others=1, shape=shape, **attributes)
    with pytest.raises(ConfigError, match=words):
        check_operators(model, name="a.onnx", release=(10, 15))


def test_floats_stay_within_what_10_3_is_documented_to_read_and_four_bits_need_one_more(graphs):
    """Block-wise four bits came to ONNX with opset 21, to TensorRT's parser with 10.0."""
    head = graphs[OperatorSet.PLAIN]["lm_head.onnx"].clone()
    assert head.graph.opset_imports[""] == 20
    head.graph.opset_imports[""] = INT4_OPSET
    with pytest.raises(ConfigError, match=r"opset 21 \(reads up to 20\)"):
        check_operators(head, name="lm_head.onnx", release=(10, 3))
