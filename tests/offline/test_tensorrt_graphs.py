# SPDX-License-Identifier: Apache-2.0
"""Graphs for TensorRT say what those for ONNX Runtime say, pass by pass, in both operator sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.model_config import ModelConfig, load_model_config
from qwen3vl_ros.offline.checkpoint import checked_files
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_graphs import OPSETS, decoder_graph
from qwen3vl_ros.offline.tensorrt_weights import (
    float_from_positive_int4,
    positive_int4,
    positive_int8,
)
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.offline.engines import relative_error
from tests.offline.tensorrt_graphs_on_cpu import Feeds, conversation, decoder_on_cpu, picture

# Of what ONNX Runtime computes in float32; it widens float16 for most operators, so that this
# holds rounded weights and activations against whole ones, not a GPU's sums.
TOLERANCES = {"float32": 1e-5, "float16": 3e-3}
BOTH = [pytest.param(operators, id=operators.value) for operators in OperatorSet]
WIDTHS = [  # make engines-check runs both
    pytest.param("float32", id="float32", marks=pytest.mark.slow),
    pytest.param("float16", id="float16"),
]


@pytest.fixture(scope="module")
def config(random_checkpoint: Path) -> ModelConfig:
    return load_model_config(random_checkpoint)


@pytest.fixture(scope="module")
def seen(random_engines, config) -> Feeds:
    return load_engines(random_engines["float32"], threads=1).vision.run(picture(config))


@pytest.fixture(scope="module")
def truth(random_engines, config, seen) -> tuple[list[Feeds], list[np.ndarray]]:
    """Passes, and the hidden states of the other flavour after each."""
    engines = load_engines(random_engines["float32"], threads=1)
    passes = conversation(config, engines.embed_tokens, seen)
    return passes, [engines.decoder.run(feeds)["hidden_states"] for feeds in passes]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("operators", BOTH)
def test_a_tower_sees_what_the_other_flavours_sees(tensorrt_graph, config, seen, operators, width):
    engine = OnnxRuntimeEngine(tensorrt_graph("vision", operators, width), threads=1)
    got = engine.run(picture(config))
    assert {name: array.dtype for name, array in got.items()} == dict.fromkeys(seen, np.float32)
    for name, expected in seen.items():
        assert relative_error(got[name], expected) < TOLERANCES[width]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("operators", BOTH)
def test_every_pass_over_a_cache_says_what_the_other_flavours_says(
    tensorrt_graph, truth, operators, width
):
    """Prefill with a picture, one token, a window, a window rolled back, another prompt."""
    engine = decoder_on_cpu(tensorrt_graph("decoder", operators, width), operators)
    passes, expected = truth
    for index, (feeds, hidden) in enumerate(zip(passes, expected, strict=True)):
        error = relative_error(engine.run(feeds)["hidden_states"], hidden)
        assert error < TOLERANCES[width], f"pass {index}"


def test_a_deepstack_row_that_is_wrong_is_seen_so_the_test_above_can_fail(tensorrt_graph, truth):
    engine = decoder_on_cpu(
        tensorrt_graph("decoder", OperatorSet.FUSED, "float16"), OperatorSet.FUSED
    )
    feeds, hidden = truth[0][0], truth[1][0]
    changed = feeds["deepstack_embeds"].copy()
    changed[0, 3] += 10
    got = engine.run({**feeds, "deepstack_embeds": changed})["hidden_states"]
    assert relative_error(got, hidden) > 3 * TOLERANCES["float16"]


@pytest.mark.parametrize("operators", BOTH)
def test_a_head_multiplies_by_the_embedding_table(
    tensorrt_graph, random_engines, truth, operators
):
    engines = load_engines(random_engines["float32"], threads=1)
    feeds = {"hidden_states": truth[1][0]}
    got = OnnxRuntimeEngine(tensorrt_graph("lm_head", operators, "float16"), threads=1).run(feeds)[
        "logits"
    ]
    assert relative_error(got, engines.lm_head.run(feeds)["logits"]) < TOLERANCES["float16"]


@pytest.mark.parametrize("operators", BOTH)
def test_four_bits_of_a_graph_are_the_weight_rounded(
    tensorrt_graph, random_checkpoint, config, operators
):
    """Through the head, whose product with rows of the unit matrix is its weight."""
    path = tensorrt_graph("lm_head", operators, "float16", 32)
    D = config.text.hidden_size
    logits = OnnxRuntimeEngine(path, threads=1).run(
        {"hidden_states": np.eye(D, dtype=np.float32)[None]}
    )["logits"]
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    table = weights.array("model.language_model.embed_tokens.weight")
    rounded = positive_int4(table, block_size=32, scale_type=np.float16)
    assert relative_error(logits[0].T, float_from_positive_int4(rounded)) < 1e-3
    assert relative_error(logits[0].T, table) > 0.03


@pytest.mark.parametrize("operators", BOTH)
def test_eight_bits_of_a_graph_are_the_weight_rounded_a_row_at_a_time(
    tensorrt_graph, random_checkpoint, config, operators
):
    path = tensorrt_graph("lm_head", operators, "float16", int8=True)
    logits = OnnxRuntimeEngine(path, threads=1).run(
        {"hidden_states": np.eye(config.text.hidden_size, dtype=np.float32)[None]}
    )["logits"]
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    table = weights.array("model.language_model.embed_tokens.weight")
    codes, scales = positive_int8(table, scale_type=np.float16)
    assert relative_error(logits[0].T, codes * scales[:, None]) < 1e-3
    assert relative_error(logits[0].T, table) > 3e-3


@pytest.mark.parametrize("operators", BOTH)
def test_every_pass_in_eight_bits_says_what_the_reference_says(tensorrt_graph, truth, operators):
    """Rows of 80 too, which four bits have no whole blocks for; of weights rounded to 1 in 127."""
    engine = decoder_on_cpu(tensorrt_graph("decoder", operators, "float16", int8=True), operators)
    passes, expected = truth
    for index, (feeds, hidden) in enumerate(zip(passes, expected, strict=True)):
        error = relative_error(engine.run(feeds)["hidden_states"], hidden)
        assert TOLERANCES["float16"] < error < 0.05, f"pass {index}"


@pytest.mark.parametrize("operators", BOTH)
def test_a_decoder_takes_and_gives_what_the_contract_names(config, operators):
    model = decoder_graph(config.text, operators=operators, width="float16", cache_length=384)
    shapes = {v.name: list(map(str, v.shape)) for v in (*model.graph.inputs, *model.graph.outputs)}
    cache = ["B", "2", "384", "32"]
    present = cache if operators is OperatorSet.FUSED else ["B", "2", "T", "32"]
    buffers = [f"{kind}_{layer}" for layer in range(3) for kind in ("key", "value")]
    assert shapes == {
        "token_embeds": ["B", "T", "64"],
        "rope_cos": ["B", "T", "16"],
        "rope_sin": ["B", "T", "16"],
        "visual_rows": ["B", "T"],
        "visual_embeds": ["V", "64"],
        "deepstack_embeds": ["3", "V", "64"],
        "cached_tokens": ["B"],
        "output_rows": ["R"],
        "hidden_states": ["B", "R", "64"],
        **{f"past_{name}": cache for name in buffers},
        **{f"present_{name}": present for name in buffers},
    }


@pytest.mark.parametrize("name", ["vision", "decoder", "lm_head"])
@pytest.mark.parametrize("operators", BOTH)
def test_graphs_are_valid_onnx_of_their_opset(tensorrt_graph, name, operators):
    model = onnx.load(tensorrt_graph(name, operators, "float16"))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [
        ("", OPSETS[operators])
    ]
    onnx.checker.check_model(model, full_check=True)


def test_rows_that_are_no_whole_blocks_are_refused(tensorrt_graph):
    with pytest.raises(ConfigError, match=r"down_proj.weight has rows of 80.*multiple of 32"):
        tensorrt_graph("decoder", OperatorSet.FUSED, "float16", 32)
