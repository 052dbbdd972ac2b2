# SPDX-License-Identifier: Apache-2.0
"""Four bits rounded for the inputs a layer sees: the rule by hand, and engines that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from qwen3vl_ros import cli
from qwen3vl_ros.errors import CheckpointError, ConfigError
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline import calibration
from qwen3vl_ros.offline.agreement import (
    EngineSpeaker,
    agreement,
    said_by_reference,
    taught_questions,
)
from qwen3vl_ros.offline.calibrated_weight import CalibratedWeight
from qwen3vl_ros.offline.checkpoint import EMBEDDING, checked_files, load_checkpoint
from qwen3vl_ros.offline.compensated_rounding import (
    compensated_codes,
    compensation,
    float_from_codes,
)
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.precisions import precision_from_name, with_calibration
from qwen3vl_ros.offline.quantization import (
    block_scales,
    float_from_blocks,
    int4_from_float,
    packed_int4,
)
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_graphs import head_graph
from qwen3vl_ros.offline.tensorrt_weights import attach_weights
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.offline.engines import graph_of, relative_error


def signed_scale(block: np.ndarray) -> np.ndarray:
    return block_scales(block, bits=4)


def test_what_one_column_is_off_the_next_makes_up_for_where_their_inputs_are_one():
    """Weights 8, 1.4, 1.4 in steps of 1: to nearest the product with (1, 1, 1) loses 0.8."""
    weight = np.array([[-8.0, 1.4, 1.4]], np.float32)
    together = compensation(np.ones((3, 3), np.float32))
    codes, scales = compensated_codes(weight, together, block_size=3, scale_rule=signed_scale)
    assert scales.tolist() == [[1.0]]
    assert codes.tolist() == [[-8, 1, 2]]


def test_inputs_that_do_not_go_together_leave_every_weight_at_its_nearest():
    weight = np.random.default_rng(0).normal(size=(6, 80)).astype(np.float32)
    apart = compensation(np.diag(np.linspace(1, 5, 80)).astype(np.float32))
    codes, scales = compensated_codes(weight, apart, block_size=32, scale_rule=signed_scale)
    nearest = int4_from_float(weight)
    np.testing.assert_allclose(scales, nearest.scales, rtol=1e-6)
    np.testing.assert_array_equal(packed_int4(codes, block_size=32), nearest.packed)
    got = float_from_codes(codes, scales, block_size=32)
    np.testing.assert_allclose(got, float_from_blocks(nearest), rtol=1e-5)


def test_a_product_with_inputs_like_those_shown_is_nearer_though_weights_are_further_off():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(12, 64))
    shown, others = (
        (rng.normal(size=(400, 12)) @ mixing + 0.1 * rng.normal(size=(400, 64))).astype("f4")
        for _ in range(2)
    )
    weight = rng.normal(size=(40, 64)).astype(np.float32)
    factor = compensation(shown.T @ shown)
    codes, scales = compensated_codes(weight, factor, block_size=32, scale_rule=signed_scale)
    calibrated = float_from_codes(codes, scales, block_size=32)
    nearest = float_from_blocks(int4_from_float(weight))
    truth = others @ weight.T
    off, usual = (relative_error(others @ w.T, truth) for w in (calibrated, nearest))
    assert off < 0.6 * usual
    assert relative_error(calibrated, weight) > relative_error(nearest, weight)


def test_how_errors_spread_is_the_upper_root_of_the_inverse():
    rows = np.random.default_rng(1).normal(size=(50, 9)).astype(np.float32)
    moment = rows.T @ rows
    factor = compensation(moment)
    damped = moment + np.eye(9) * 0.01 * np.diagonal(moment).mean()
    assert not np.tril(factor, -1).any()
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(damped), rtol=1e-4, atol=1e-7)


def test_inputs_that_are_no_numbers_are_refused():
    with pytest.raises(CheckpointError, match="hold what is no number"):
        compensation(np.full((2, 2), np.nan, np.float32))


@pytest.fixture(scope="module")
def engines(
    random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """The random checkpoint's, to nearest and calibrated on two scenes."""
    root = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "SCENES", 2)
        for name in ("int4", "int4-calibrated"):
            export_checkpoint(random_checkpoint, root / name, precision=name, cache_length=1024)
    return {name: root / name for name in ("int4", "int4-calibrated")}


def test_a_calibrated_engine_is_nearer_to_the_reference_on_scenes_it_was_not_shown(
    engines, random_checkpoint
):
    model = load_checkpoint(random_checkpoint).eval()
    told = [
        (q, said_by_reference(model, q)) for q in taught_questions(random_checkpoint, scenes=1)
    ]
    found = {}
    for name, directory in engines.items():
        speaker = EngineSpeaker(load_engines(directory, threads=1), directory)
        found[name] = agreement([(speaker.said(question), truth) for question, truth in told])
    assert found["int4-calibrated"].mean_rel < 0.7 * found["int4"].mean_rel
    assert found["int4"].mean_rel > 0.02
    assert found["int4-calibrated"].image_cosine > 1 - 1e-9  # the tower is not touched


def test_a_calibrated_engine_is_as_large_and_leaves_nothing_behind(engines):
    sizes = [
        {file.name: file.stat().st_size for file in directory.glob("*.data")}
        for directory in engines.values()
    ]
    assert sizes[0] == sizes[1]
    names = [{path.name for path in directory.iterdir()} for directory in engines.values()]
    assert names[0] == names[1]


def test_every_linear_of_a_calibrated_engine_has_other_codes_than_the_nearest(engines):
    for graph in ("decoder.onnx", "lm_head.onnx"):
        codes = [codes_of(directory / graph) for directory in engines.values()]
        assert codes[0].keys() == codes[1].keys()
        assert len(codes[0]) in (1, 7 * 3)
        same = [name for name in codes[0] if np.array_equal(codes[0][name], codes[1][name])]
        assert same == []


def codes_of(path: Path) -> Mapping[str, np.ndarray]:
    return {
        weight.name: numpy_helper.to_array(weight, str(path.parent))
        for weight in graph_of(path).initializer
        if weight.name.endswith(".int4")
    }


@pytest.mark.parametrize("operators", list(OperatorSet), ids=lambda operators: operators.value)
def test_tensorrts_graphs_hold_the_calibrated_numbers(random_checkpoint, tmp_path, operators):
    """Through the head, whose product with rows of the unit matrix is its weight."""
    config = load_model_config(random_checkpoint)
    vocab_size, width = config.text.vocab_size, config.text.hidden_size
    rng = np.random.default_rng(3)
    codes = rng.integers(-8, 8, (vocab_size, width)).astype(np.int8)
    scales = rng.choice([0.25, 0.5, 2.0], (vocab_size, width // 32)).astype(np.float32)
    weight = CalibratedWeight(file=tmp_path / "0.codes", shape=(vocab_size, width), block_size=32)
    codes.tofile(weight.file)
    scales.tofile(weight.scales_file)
    model = head_graph(config, operators=operators, width="float16")
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    attach_weights(model, weights, int4_block_size=32, calibrated={EMBEDDING: weight})
    ir.save(model, tmp_path / "lm_head.onnx")
    unit = np.eye(width, dtype=np.float32)[None]
    logits = OnnxRuntimeEngine(tmp_path / "lm_head.onnx", threads=1).run({"hidden_states": unit})
    np.testing.assert_array_equal(
        logits["logits"][0].T, float_from_codes(codes, scales, block_size=32)
    )


@pytest.mark.parametrize("name", ["int8-calibrated", "float16-calibrated", "-calibrated"])
def test_only_four_bits_are_calibrated(name):
    with pytest.raises(ConfigError, match="expected one of float32"):
        precision_from_name(name)


def test_a_calibrated_precision_may_have_another_tower():
    precision = precision_from_name("int4-128-calibrated-tower16")
    assert (precision.calibrated, precision.block_size) == (True, 128)
    assert precision.tower_computed == ir.DataType.FLOAT16


def test_the_command_calibrates_where_it_is_told_to(random_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "SCENES", 1)
    arguments = ["export", "--checkpoint", str(random_checkpoint), "--output", str(tmp_path)]
    assert cli.main([*arguments, "--precision", "int4", "--calibrate"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["onnxruntime-int4-calibrated"]
    with pytest.raises(ConfigError, match="expected one of four bits"):
        with_calibration("int8")
