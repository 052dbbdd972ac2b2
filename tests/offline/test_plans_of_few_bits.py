# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits stay so in a plan: a compiler that unfolded them would say nothing of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from safetensors.torch import save_file

from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.checkpoint import EMBEDDING
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_graphs import head_graph
from qwen3vl_ros.offline.tensorrt_weights import attach_weights
from qwen3vl_ros.runtime.tensorrt_library import logger_of, tensorrt_library

ROWS, WIDTH = 8192, 1024  # beside which what a plan holds besides weights is small


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> StoredWeights:
    file = tmp_path_factory.mktemp("head") / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file({EMBEDDING: torch.randn(ROWS, WIDTH, generator=generator) / 50}, file)
    return StoredWeights(files={EMBEDDING: file})


def plan_bytes(graph: Path) -> int:
    """Of a head compiled by TensorRT-RTX for one row or more."""
    trt = tensorrt_library("tensorrt-rtx")
    log = logger_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, log).parse_from_file(str(graph))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("hidden_states", (1, 1, WIDTH), (1, 1, WIDTH), (1, 32, WIDTH))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    return int(builder.build_serialized_network(network, config).nbytes)


@pytest.mark.parametrize(
    ("choices", "bytes_a_weight"),
    [
        pytest.param({}, 2, id="float16"),
        pytest.param({"int8": True}, 1, id="int8"),
        pytest.param({"int4_block_size": 128}, 0.5, id="int4"),
    ],
)
def test_a_plan_is_hardly_larger_than_its_weights(
    small_config: ModelConfig, weights, tmp_path, choices, bytes_a_weight
):
    text = dataclasses.replace(small_config.text, vocab_size=ROWS, hidden_size=WIDTH)
    config = dataclasses.replace(small_config, text=text)
    model = head_graph(config, operators=OperatorSet.PLAIN, width="float16")
    attach_weights(model, weights, **choices)
    ir.save(model, tmp_path / "lm_head.onnx")
    got = plan_bytes(tmp_path / "lm_head.onnx") / (ROWS * WIDTH)
    assert bytes_a_weight <= got < 1.15 * bytes_a_weight
