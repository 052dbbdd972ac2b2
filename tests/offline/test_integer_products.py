# SPDX-License-Identifier: Apache-2.0
"""Towers whose products are of integers: what is rounded, how far off, what never overflows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.golden_tolerances import tower_tolerance
from qwen3vl_ros.model.vision import VisionEncoder, VisualEmbeds
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.integer_products import LARGEST_CODE, integer_product, rounded_rows
from qwen3vl_ros.offline.streamed_tensor import StreamedTensor
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import read_manifest
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine


@pytest.fixture(scope="module")
def engine(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("integers") / "onnxruntime-int4-tower8"
    export_checkpoint(
        random_checkpoint, directory, precision="int4-tower8", cache_length=384, golden=False
    )
    return directory


def seen(directory: Path) -> VisualEmbeds:
    """A made-up picture through the tower of an engine."""
    engines = load_engines(directory, threads=1)
    encoder = VisionEncoder(
        engines.vision,
        load_model_config(directory).vision,
        max_visual_tokens=engines.manifest.max_visual_tokens,
    )
    pixel_values = np.random.default_rng(0).uniform(-1, 1, (48, 1536)).astype(np.float32)
    return encoder.encode(Patches(pixel_values=pixel_values, grid_thw=np.array([[1, 6, 8]])))


def test_the_tower_sees_what_a_whole_one_sees_but_for_a_few_per_cent(engine, random_engines):
    rounded, whole = seen(engine), seen(random_engines["int4"])
    for name in ("image_embeds", "deepstack_embeds"):
        got, wanted = getattr(rounded, name), getattr(whole, name)
        error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        assert 1e-4 < error < 0.05  # rounded it is, and no worse than that


def test_the_manifest_says_so_and_the_doctor_knows_how_right_it_has_to_be(engine):
    manifest = read_manifest(engine)
    assert (manifest.precision, manifest.vision_precision) == ("int4-tower8", "int8")
    assert tower_tolerance(manifest).error == 0.1


def test_only_linears_of_blocks_are_products_of_integers(engine):
    graph = ir.load(engine / "vision.onnx").graph
    depth = load_model_config(engine).vision.depth
    products = [node for node in graph if node.op_type == "DynamicQuantizeMatMul"]
    assert len(products) == 4 * depth  # qkv, out, and two of the MLP
    assert all(".blocks." in str(node.inputs[1].name) for node in products)
    counts = Counter(node.op_type for node in graph)
    assert counts["FusedMatMul"] == 2 * (1 + 3)  # of the merger and those of three taps


def test_the_tower_is_smaller_and_the_decoder_the_same(engine, random_engines):
    whole, vision = random_engines["int4"], load_model_config(engine).vision
    h, mlp = vision.hidden_size, vision.intermediate_size
    weights = vision.depth * (3 * h * h + h * h + 2 * h * mlp)
    rounded, float32 = ((d / "vision.onnx.data").stat().st_size for d in (engine, whole))
    assert float32 - rounded == pytest.approx(3 * weights, rel=0.05)  # a byte where four were
    assert (engine / "decoder.onnx.data").read_bytes() == (
        whole / "decoder.onnx.data"
    ).read_bytes()


def test_rows_have_scales_of_their_own_and_a_row_of_zeros_stays_one():
    codes, scales = rounded_rows(np.array([[63.0, -1.0], [0.0, 0.0], [-0.63, 0.2]], np.float32))
    assert codes.tolist() == [[63, -1], [0, 0], [-63, 20]]
    np.testing.assert_allclose(scales, [1.0, 0.0, 0.01], rtol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["positive", "negative"])
def test_the_largest_numbers_that_can_meet_do_not_overflow(tmp_path, sign):
    """AVX2 adds pairs of 8-bit products in 16 bits; with weights of eight bits these are cut."""
    in_features, out_features = 64, 16
    weight = np.full((out_features, in_features), sign * LARGEST_CODE, np.float32)
    x = ir.val("x", ir.DataType.FLOAT, ("N", in_features))
    y = ir.val("y", ir.DataType.FLOAT, ("N", out_features))
    value = ir.val("blocks.0.weight", ir.DataType.FLOAT, weight.shape)
    graph = ir.Graph(
        [x], [y], nodes=[], opset_imports={"": 23, "com.microsoft": 1}, name="one linear"
    )
    node, sources = integer_product(graph, x, value, lambda: weight)
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = y.name, y.type, y.shape
    graph.append(node)
    graph.outputs[0] = node.outputs[0]
    for name, initializer in graph.initializers.items():
        initializer.const_value = StreamedTensor(initializer, sources[name])
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "linear.onnx")
    rows = np.ones((5, in_features), np.float32)
    rows[0, 0] = 0.0  # the scale spans 0..1, and 1 is code 255
    (got,) = OnnxRuntimeEngine(tmp_path / "linear.onnx", threads=1).run({"x": rows}).values()
    np.testing.assert_allclose(got, rows @ weight.T, rtol=1e-5)
