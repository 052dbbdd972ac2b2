# SPDX-License-Identifier: Apache-2.0
"""The floor of a pass, by numbers small enough to count on one's fingers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qwen3vl_ros.model_config import TextConfig, load_model_config
from qwen3vl_ros.offline.memory_floor import (
    ReadProbe,
    bytes_of_cache,
    bytes_of_weights,
    share_of_floor,
)


@pytest.fixture
def text(random_checkpoint: Path) -> TextConfig:
    return load_model_config(random_checkpoint).text


def test_a_cached_token_is_a_key_and_a_value_in_each_head_and_layer(text):
    assert (text.num_hidden_layers, text.num_key_value_heads, text.head_dim) == (3, 2, 32)
    assert bytes_of_cache(text, tokens=10, itemsize=4) == 10 * 3 * (2 + 2) * 32 * 4


def test_half_the_bandwidth_used_is_half_the_floor_reached():
    assert share_of_floor(bytes_read=10, pass_s=2.0, probe_bytes=30, probe_s=3.0) == 0.5


def matrices(text: TextConfig) -> int:
    """Weights of the test's decoder and head, the last columns padded to whole blocks of 32."""
    D, heads = text.hidden_size, text.num_attention_heads
    attention = D * (heads + 2 * text.num_key_value_heads) * text.head_dim
    out = heads * text.head_dim * D
    assert text.intermediate_size == 80  # three blocks of 32, the last half empty
    mlp = 2 * D * 80 + 96 * D
    return text.num_hidden_layers * (attention + out + mlp) + text.vocab_size * D


def norms(text: TextConfig) -> int:
    """Weights of its norms: two a layer, those of queries and keys, and the last."""
    return text.num_hidden_layers * 2 * (text.hidden_size + text.head_dim) + text.hidden_size


def few(text: TextConfig) -> int:
    """Bytes of what else is stored: indices and shapes."""
    return 100 * text.num_hidden_layers


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        pytest.param("float32", 32, id="a float32 each; the head is the embedding table"),
        pytest.param("int4", 5, id="four bits, and a float32 for each 32 of them"),
    ],
)
def test_a_pass_reads_each_weight_of_decoder_and_head_once(random_engines, text, precision, bits):
    padded = 0 if bits == 5 else text.num_hidden_layers * 16 * text.hidden_size
    expected = (matrices(text) - padded) * bits // 8 + 4 * norms(text)
    counted = bytes_of_weights(random_engines[precision], text)
    assert expected <= counted <= expected + few(text)


def test_nobody_knows_what_a_pass_over_experts_reads(random_engines, text):
    sparse = dataclasses.replace(text, num_experts=4)
    assert bytes_of_weights(random_engines["int4"], sparse) is None


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_read_is_split_among_threads_and_leaves_nothing_out(threads):
    probe = ReadProbe(threads=threads, megabytes=6)
    probe()
    assert probe.nbytes == 6_000_000
