# SPDX-License-Identifier: Apache-2.0
"""Four bits a weight: what comes back, and how ONNX Runtime reads them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qwen3vl_ros.offline.quantization import float_from_blocks, int4_from_float
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine


def random_weight(out_features: int, in_features: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(out_features, in_features)).astype(np.float32)


def test_sixteen_levels_come_back_exactly():
    levels = np.arange(-8, 8, dtype=np.float32)
    weight = np.stack([np.tile(levels, 2), np.tile(levels / 16, 2)])
    quantised = int4_from_float(weight)
    assert quantised.scales.tolist() == [[1.0], [1 / 16]]
    np.testing.assert_array_equal(float_from_blocks(quantised), weight)


def test_two_neighbours_share_a_byte_the_first_in_the_low_half():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :4] = [-8, 7, 0, 1]
    assert int4_from_float(weight).packed[0, 0, :2].tolist() == [0xF0, 0x98]


@pytest.mark.parametrize(
    "in_features", [pytest.param(64, id="whole-blocks"), pytest.param(80, id="half-a-block-over")]
)
def test_no_weight_moves_further_than_its_blocks_step(in_features):
    """Half a step, or a whole one for the code that would be +8."""
    weight = random_weight(5, in_features)
    back = float_from_blocks(int4_from_float(weight))
    steps = np.repeat(np.abs(int4_from_float(weight).scales), 32, axis=1)[:, :in_features]
    assert back.shape == weight.shape
    assert (np.abs(back - weight) <= steps + 1e-6).all()
    assert (np.abs(back - weight) <= steps / 2 + 1e-6).mean() > 0.95


def test_a_block_of_zeros_stays_zero():
    weight = random_weight(2, 64)
    weight[0, 32:] = 0
    back = float_from_blocks(int4_from_float(weight))
    assert np.isfinite(back).all()
    assert not back[0, 32:].any()


@pytest.mark.parametrize("in_features", [64, 80])
def test_the_operator_multiplies_by_the_weights_we_say_it_does(tmp_path, in_features):
    """At accuracy level 1 activations stay float32, and the product can be compared closely."""
    weight = random_weight(8, in_features)
    quantised = int4_from_float(weight)
    x = ir.val("x", ir.DataType.FLOAT, ("rows", in_features))
    y = ir.val("y", ir.DataType.FLOAT, ("rows", 8))
    packed = ir.val("packed", const_value=ir.tensor(quantised.packed, name="packed"))
    scales = ir.val("scales", const_value=ir.tensor(quantised.scales, name="scales"))
    node = ir.node(
        "MatMulNBits",
        [x, packed, scales],
        {"N": 8, "K": in_features, "bits": 4, "block_size": 32, "accuracy_level": 1},
        domain="com.microsoft",
        outputs=[y],
    )
    graph = ir.Graph(
        [x],
        [y],
        nodes=[node],
        initializers=[packed, scales],
        opset_imports={"": 20, "com.microsoft": 1},
        name="product",
    )
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "product.onnx")
    rows = np.random.default_rng(1).normal(size=(3, in_features)).astype(np.float32)
    got = OnnxRuntimeEngine(tmp_path / "product.onnx", threads=1).run({"x": rows})["y"]
    np.testing.assert_allclose(got, rows @ float_from_blocks(quantised).T, rtol=1e-4, atol=1e-4)
