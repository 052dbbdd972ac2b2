# SPDX-License-Identifier: Apache-2.0
"""Positions are those of transformers' Qwen3-VL, whatever stands in the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextRotaryEmbedding,
    Qwen3VLVisionRotaryEmbedding,
)
from transformers.vision_utils import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from qwen3vl_ros.errors import QueryError
from qwen3vl_ros.image.positions import (
    text_positions,
    text_rotary,
    vision_position_taps,
    vision_rotary,
)
from qwen3vl_ros.model_config import ModelConfig, TextConfig, model_config_from_dict

TEXT, IMAGE, VIDEO, START, END = 1, 5, 6, 7, 8


def config_dict(*, head_dim: int, section: list[int], theta: float) -> dict:
    """A config that both sides read; only the shapes matter here."""
    return {
        "model_type": "qwen3_vl",
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": START,
        "vision_end_token_id": END,
        "vision_config": {
            "depth": 1,
            "hidden_size": 64,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": 8,
            "num_position_embeddings": 576,
            "deepstack_visual_indexes": [0],
        },
        "text_config": {
            "vocab_size": 10,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": head_dim,
            "rope_theta": theta,
            "rope_scaling": {
                "rope_type": "default",
                "rope_theta": theta,
                "mrope_section": section,
                "mrope_interleaved": True,
            },
        },
    }


TINY = config_dict(head_dim=64, section=[12, 10, 10], theta=10000.0)
RELEASED = config_dict(head_dim=128, section=[24, 20, 20], theta=5e6)
CONFIG: ModelConfig = model_config_from_dict(TINY)


@pytest.fixture(scope="module")
def transformers_model() -> Qwen3VLModel:
    """Positions need no weights."""
    with torch.device("meta"):
        return Qwen3VLModel(Qwen3VLConfig(**TINY))


@dataclass(frozen=True)
class Layout:
    """A prompt: its tokens, what kind each is, and the grids of its pictures in order."""

    input_ids: list[int]
    kinds: list[int]
    image_grids: list[list[int]]
    video_grids: list[list[int]]
    grids: list[list[int]]


sizes = st.integers(1, 7).map(lambda half: 2 * half)
images = st.tuples(st.just(IMAGE), st.just(1), sizes, sizes)
videos = st.tuples(st.just(VIDEO), st.integers(1, 3), sizes, sizes)
texts = st.tuples(st.just(TEXT), st.integers(0, 9))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    parts = draw(st.lists(st.one_of(images, videos, texts), min_size=1, max_size=6))
    ids: list[int] = [TEXT]
    image_grids: list[list[int]] = []
    video_grids: list[list[int]] = []
    grids: list[list[int]] = []
    for part in parts:
        if part[0] == TEXT:
            ids += [TEXT] * part[1]
            continue
        token, t, h, w = part
        grids.append([t, h, w])
        (image_grids if token == IMAGE else video_grids).append([t, h, w])
        for _ in range(t):
            timestamp = [TEXT] * (3 if token == VIDEO else 0)
            ids += [*timestamp, START, *[token] * (h * w // 4), END]
    kinds = [{IMAGE: 1, VIDEO: 2}.get(token, 0) for token in ids]
    return Layout(ids, kinds, image_grids, video_grids, grids)


@settings(max_examples=500, deadline=None)
@given(layout=layouts())
def test_prompt_positions_and_delta_are_those_of_transformers(transformers_model, layout):
    expected, expected_delta = transformers_model.get_rope_index(
        torch.tensor([layout.input_ids]),
        torch.tensor([layout.kinds]),
        image_grid_thw=torch.tensor(layout.image_grids) if layout.image_grids else None,
        video_grid_thw=torch.tensor(layout.video_grids) if layout.video_grids else None,
    )
    positions, delta = text_positions(
        np.array(layout.input_ids), np.array(layout.grids).reshape(-1, 3), CONFIG
    )
    np.testing.assert_array_equal(positions, expected[:, 0].numpy())
    assert delta == expected_delta.item()
    assert positions.dtype == np.int64


def test_a_vga_picture_at_full_size_worked_by_hand():
    """Four tokens of text, 15 x 20 of picture, one of text."""
    ids = np.array([TEXT, TEXT, TEXT, START, *[IMAGE] * 300, END])
    positions, delta = text_positions(ids, np.array([[1, 30, 40]]), CONFIG)
    assert positions[:, 3].tolist() == [3, 3, 3]
    assert positions[:, 4].tolist() == [4, 4, 4]
    assert positions[:, 4 + 299].tolist() == [4, 18, 23]
    assert positions[:, -1].tolist() == [24, 24, 24]
    assert delta == 20 - 300


@pytest.mark.parametrize(
    ("tokens", "grids"),
    [
        (6, [[1, 4, 4]]),
        (3, [[1, 4, 4]]),
        (4, []),
        (0, [[1, 4, 4]]),
        (4, [[1, 4, 4], [1, 4, 4]]),
        (8, [[1, 4, 4], [1, 4, 4]]),
    ],
    ids=["too-many", "too-few", "no-grid", "no-picture", "one-missing", "run-together"],
)
def test_a_prompt_that_does_not_fit_its_pictures_is_refused(tokens, grids):
    ids = np.array([TEXT, *[IMAGE] * tokens, TEXT])
    with pytest.raises(QueryError, match="build the prompt from the same grids"):
        text_positions(ids, np.array(grids, np.int64).reshape(-1, 3), CONFIG)


grid_lists = st.lists(st.tuples(st.integers(1, 2), sizes, sizes), min_size=1, max_size=3)


@settings(max_examples=100, deadline=None)
@given(grids=grid_lists, side=st.sampled_from([5, 24, 48]))
def test_table_taps_and_weights_are_those_of_transformers_bit_for_bit(grids, side):
    expected_indices, expected_weights = get_vision_interpolation_indices_and_weights(
        torch.tensor(grids), side, mode="bilinear", align_corners=True, spatial_merge_size=2
    )
    indices, weights = vision_position_taps(np.array(grids), table_side=side, merge_size=2)
    np.testing.assert_array_equal(indices, expected_indices.T.numpy())
    np.testing.assert_array_equal(weights, expected_weights.T.numpy())
    assert (indices.dtype, weights.dtype) == (np.int64, np.float32)


def test_corners_of_the_picture_tap_corners_of_the_table():
    indices, weights = vision_position_taps(np.array([[1, 14, 20]]), table_side=24, merge_size=2)
    last = indices[:, -1][weights[:, -1] > 0]
    assert indices[0, 0] == 0
    assert weights[:, 0].tolist() == [1, 0, 0, 0]
    assert last.tolist() == [24 * 24 - 1]


@settings(max_examples=100, deadline=None)
@given(grids=grid_lists, head_dim=st.sampled_from([32, 64, 72]))
def test_vision_angles_are_those_of_transformers(grids, head_dim):
    config = Qwen3VLConfig(**TINY).vision_config
    config.hidden_size, config.num_heads = head_dim, 1
    config.head_dim = head_dim
    rotary = Qwen3VLVisionRotaryEmbedding(config)
    expected = rotary(torch.zeros(1), get_vision_position_ids(torch.tensor(grids), 2))
    angles = vision_rotary(np.array(grids), head_dim=head_dim, merge_size=2)
    for got, wanted in zip(angles, expected, strict=True):
        assert got.dtype == np.float32
        half = wanted[:, : head_dim // 2].numpy()
        np.testing.assert_array_equal(wanted[:, head_dim // 2 :].numpy(), half)
        np.testing.assert_allclose(got, half, atol=2e-6, rtol=0)


@pytest.mark.parametrize("values", [TINY, RELEASED], ids=["tiny", "released"])
def test_text_angles_interleave_the_axes_as_transformers_does(values):
    text: TextConfig = model_config_from_dict(values).text
    half = text.head_dim // 2
    positions = np.random.default_rng(0).integers(0, 4096, (3, 200))
    rotary = Qwen3VLTextRotaryEmbedding(Qwen3VLConfig(**values).text_config)
    expected = rotary(torch.zeros(1), torch.tensor(positions)[:, None])
    for got, wanted in zip(text_rotary(positions, text), expected, strict=True):
        assert got.shape == (200, half)
        assert got.dtype == np.float32
        # One last bit of a frequency, at position 4096, is an angle of 4096 * 2^-23.
        np.testing.assert_allclose(got, wanted[0, :, :half].numpy(), atol=6e-4, rtol=0)


def test_frequencies_go_thw_thw_and_end_in_time():
    """sections 4, 2, 2: T H W T H W T T; an axis that stands at 0 has a cosine of 1."""
    text = TextConfig(
        vocab_size=1,
        hidden_size=16,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        rope_theta=100.0,
        mrope_section=(4, 2, 2),
    )
    turned = {
        name: "".join(
            name if cosine < 1 else "." for cosine in text_rotary(axis[:, None], text)[0][0]
        )
        for name, axis in zip("THW", np.eye(3, dtype=np.int64), strict=True)
    }
    assert turned == {"T": "T..T..TT", "H": ".H..H...", "W": "..W..W.."}
