# SPDX-License-Identifier: Apache-2.0
"""What an engine needs is told before it is loaded, and refused where it is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model_config import ModelConfig, load_model_config
from qwen3vl_ros.offline.precisions import precision_from_name
from qwen3vl_ros.runtime import engine_memory
from qwen3vl_ros.runtime.engine_memory import MemoryNeed, check_memory, memory_needed
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import read_manifest

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "onnxruntime-int4"


def with_a_head_of_its_own(config: ModelConfig) -> ModelConfig:
    text = dataclasses.replace(config.text, tie_word_embeddings=False)
    return dataclasses.replace(config, text=text)


def test_weights_are_their_files_and_the_cache_its_numbers():
    manifest, config = read_manifest(TINY), load_model_config(TINY)
    need = memory_needed(manifest, config)
    graphs = [TINY / f"{name}.onnx" for name in ("vision", "decoder", "lm_head")]
    assert need.weights == sum(
        file.stat().st_size + Path(f"{file}.data").stat().st_size for file in graphs
    )
    text = config.text
    keys = text.num_hidden_layers * 1024 * text.num_key_value_heads * text.head_dim
    assert need.cache == 2 * keys * 4
    assert need.passes > 75 * 4 * 1536 * 4, "the largest picture's patches alone"
    assert need.total > need.weights + need.cache + need.passes


def test_a_longer_cache_and_larger_pictures_need_more():
    manifest, config = read_manifest(TINY), load_model_config(TINY)
    need = memory_needed(manifest, config)
    longer = memory_needed(dataclasses.replace(manifest, cache_length=2048), config)
    assert longer.cache == 2 * need.cache
    assert longer.passes > need.passes
    larger = memory_needed(dataclasses.replace(manifest, max_visual_tokens=7500), config)
    assert larger.passes > need.passes


@pytest.mark.parametrize(
    ("fields", "factor"),
    [
        pytest.param({"precision": "float16", "vision_precision": "float16"}, 2, id="float16"),
        pytest.param({"precision": "bfloat16", "vision_precision": "bfloat16"}, 2, id="bfloat16"),
        pytest.param({"precision": "int8"}, 1, id="int8"),
    ],
)
def test_the_cpu_widens_what_has_sixteen_bits(fields, factor):
    manifest, config = read_manifest(TINY), with_a_head_of_its_own(load_model_config(TINY))
    need = memory_needed(dataclasses.replace(manifest, **fields), config)
    assert need.weights == factor * memory_needed(manifest, config).weights


def test_a_tied_head_that_is_the_embedding_tables_bytes_is_counted():
    """Without it float32 of 2B was 1.2 GB short; four-bit heads have bytes of their own."""
    whole = TINY.with_name("onnxruntime-float32")
    manifest, config = read_manifest(whole), load_model_config(whole)
    assert config.text.tie_word_embeddings
    graphs = [whole / f"{name}.onnx" for name in ("vision", "decoder", "lm_head")]
    data = [Path(f"{file}.data") for file in graphs]
    files = [*graphs, *(file for file in data if file.exists()), whole / "embed_tokens.npy"]
    need = memory_needed(manifest, config)
    assert need.weights == sum(file.stat().st_size for file in files)
    apart = memory_needed(manifest, with_a_head_of_its_own(config))
    assert need.weights - apart.weights == (whole / "embed_tokens.npy").stat().st_size


@pytest.mark.parametrize(
    ("precision", "itemsize"),
    [
        ("int4", 4),
        ("bfloat16", 4),
        ("float16", 2),
        ("int4-a16", 2),
        ("int4-a16-calibrated", 2),
        ("int4-128-calibrated-cache8-tower8", 1),
    ],
)
def test_a_cache_has_the_width_that_its_precision_names(precision, itemsize):
    manifest, config = read_manifest(TINY), load_model_config(TINY)
    assert precision_from_name(precision).cached.itemsize == itemsize
    wide = memory_needed(manifest, config).cache
    named = dataclasses.replace(manifest, precision=precision)
    assert memory_needed(named, config).cache == wide * itemsize // 4


def test_what_fits_is_let_pass_and_what_does_not_is_refused_with_the_numbers(monkeypatch):
    need = MemoryNeed(weights=2_000_000_000, cache=500_000_000, passes=400_000_000)
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 3_000_000_000)
    check_memory(need.total, str(need), of="the engine", advice="take a smaller one")
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 2_900_000_000)
    with pytest.raises(EngineError) as refusal:
        check_memory(need.total, str(need), of="the engine", advice="take a smaller one")
    assert str(refusal.value) == (
        "the engine needs about 3.00 GB (weights 2.00, cache 0.50, passes 0.40) of memory and "
        "2.90 GB are free; close other programs, raise the container's limit if it has one, or "
        "take a smaller one"
    )


def test_where_nobody_knows_what_is_free_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: None)
    check_memory(10**15, "far too much", of="it", advice="")


def test_an_engine_too_large_for_this_machine_is_refused_before_a_graph_is_opened(monkeypatch):
    from qwen3vl_ros.runtime.onnxruntime_engine import ort

    opened = []
    monkeypatch.setattr(ort, "InferenceSession", lambda *args, **_: opened.append(args))
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 50_000_000)
    with pytest.raises(
        EngineError, match=r"the engine needs about 0\.\d+ GB .* 0\.05 GB are free"
    ):
        load_engines(TINY)
    assert opened == []
