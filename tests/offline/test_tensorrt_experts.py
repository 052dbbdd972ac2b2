# SPDX-License-Identifier: Apache-2.0
"""Experts in standard operators say what the reference's say, and so do the graphs they are in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3vl_ros.image.positions import text_rotary
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.checkpoint import checked_files, write_checkpoint
from qwen3vl_ros.offline.reference_experts import SparseMLP
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_experts import AllExperts
from qwen3vl_ros.offline.tensorrt_graphs import decoder_graph
from qwen3vl_ros.offline.tensorrt_operators import check_operators
from qwen3vl_ros.offline.tensorrt_weights import attach_weights
from tests.offline.engines import relative_error
from tests.offline.tensorrt_graphs_on_cpu import decoder_on_cpu

CACHE_LENGTH = 64


@pytest.fixture(scope="module")
def model(
    small_experts_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> ReferenceModel:
    # Three layers, of experts, a plain one and experts again: a layer costs seconds to trace.
    text = dataclasses.replace(small_experts_config.text, num_hidden_layers=3)
    return random_model(dataclasses.replace(small_experts_config, text=text))


@pytest.fixture(scope="module")
def checkpoint(model: ReferenceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("experts")
    write_checkpoint(model, directory, torch.float32)
    return directory


def all_experts(mlp: SparseMLP) -> AllExperts:
    experts = AllExperts(mlp)
    experts.gate.weight = mlp.gate.weight
    return experts


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("top_k", [1, 3, 8])
def test_what_is_not_chosen_counts_for_nothing(model, renormalise, top_k):
    mlp = model.language_model.layers[0].mlp
    mlp.gate.renormalise, mlp.gate.top_k = renormalise, top_k
    x = torch.randn(
        2, 5, model.config.text.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        np.testing.assert_allclose(all_experts(mlp)(x), mlp(x), rtol=1e-4, atol=1e-6)
    mlp.gate.renormalise, mlp.gate.top_k = True, 3


def test_of_experts_that_are_alike_the_first_are_chosen(model):
    """A router of zeros: eight equal shares, of which three count a third each."""
    mlp = all_experts(model.language_model.layers[0].mlp)
    mlp.gate.weight = torch.nn.Parameter(torch.zeros_like(mlp.gate.weight))
    with torch.no_grad():
        shares = mlp._shares(torch.ones(1, 1, model.config.text.hidden_size))
    np.testing.assert_allclose(shares[0], [1 / 3] * 3 + [0] * 5, rtol=1e-6)


@pytest.fixture(scope="module")
def passes(model: ReferenceModel) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """A prompt of nine tokens, then one, then four; and the reference's hidden states of all."""
    text = model.config.text
    ids = np.random.default_rng(0).integers(0, text.vocab_size, 14)
    cos, sin = text_rotary(np.tile(np.arange(14), (3, 1)), text)
    embeds = model.language_model.embed_tokens.weight.detach().numpy()[ids]
    with torch.no_grad():
        truth = model.language_model(
            *(torch.from_numpy(array)[None] for array in (embeds, cos, sin))
        )
    feeds = [
        {
            "token_embeds": embeds[None, start:end],
            "rope_cos": cos[None, start:end],
            "rope_sin": sin[None, start:end],
            "visual_rows": np.full((1, end - start), -1),
            "visual_embeds": np.zeros((1, text.hidden_size), np.float32),
            "deepstack_embeds": np.zeros((3, 1, text.hidden_size), np.float32),
            "cached_tokens": np.array([start], np.int32),
            "output_rows": np.arange(end - start),
        }
        for start, end in ((0, 9), (9, 10), (10, 14))
    ]
    return feeds, truth[0].numpy()


def graph(
    checkpoint: Path, config: ModelConfig, file: Path, operators: OperatorSet, width: str
) -> Path:
    model = decoder_graph(config.text, operators=operators, width=width, cache_length=CACHE_LENGTH)
    attach_weights(model, StoredWeights(files=checked_files(checkpoint, config)))
    ir.save(model, file)
    return file


@pytest.mark.parametrize(
    ("operators", "width", "tolerance", "release"),
    [
        pytest.param(OperatorSet.FUSED, "float32", 1e-5, (10, 15), id="fused, float32"),
        pytest.param(OperatorSet.PLAIN, "float16", 5e-3, (10, 3), id="plain, float16"),
    ],
)
def test_every_pass_of_a_decoder_with_experts_says_what_the_reference_says(
    checkpoint, model, passes, tmp_path, operators, width, tolerance, release
):
    path = graph(checkpoint, model.config, tmp_path / "decoder.onnx", operators, width)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    check_operators(ir.load(path), name=path.name, release=release)
    engine = decoder_on_cpu(path, operators)
    feeds, truth = passes
    got = np.concatenate([engine.run(each)["hidden_states"][0] for each in feeds])
    assert relative_error(got, truth) < tolerance


def test_the_router_is_whole_in_every_width_and_its_experts_are_not(checkpoint, model, tmp_path):
    path = graph(checkpoint, model.config, tmp_path / "decoder.onnx", OperatorSet.PLAIN, "float16")
    kinds = {weight.name: weight.data_type for weight in onnx.load(path).graph.initializer}
    routers = {kind for name, kind in kinds.items() if name.endswith(".mlp.gate.weight")}
    experts = {kind for name, kind in kinds.items() if ".mlp.experts." in name}
    assert (routers, experts) == ({onnx.TensorProto.FLOAT}, {onnx.TensorProto.FLOAT16})


def test_experts_that_lie_the_other_way_round_give_the_same_graph(
    checkpoint, model, passes, tmp_path
):
    turned = tmp_path / "turned"
    turned.mkdir()
    weights = load_file(checkpoint / "model.safetensors")
    save_file(
        {n: w.mT.contiguous() if ".experts." in n else w for n, w in weights.items()},
        turned / "model.safetensors",
    )
    files = [
        graph(directory, model.config, tmp_path / f"{name}.onnx", OperatorSet.PLAIN, "float16")
        for name, directory in (("released", checkpoint), ("turned", turned))
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_another_choice_is_seen_so_the_tests_above_can_fail(model, passes):
    feeds, truth = passes
    inputs = [
        torch.from_numpy(feeds[0][name]) for name in ("token_embeds", "rope_cos", "rope_sin")
    ]
    layers = [model.language_model.layers[index].mlp for index in (0, 2)]
    for mlp in layers:
        mlp.gate.top_k = 2
    with torch.no_grad():
        other = model.language_model(*inputs)[0].numpy()
    for mlp in layers:
        mlp.gate.top_k = 3
    assert relative_error(other, truth[:9]) > 0.02
