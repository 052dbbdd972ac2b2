# SPDX-License-Identifier: Apache-2.0
"""The vision engine sees what the torch tower sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.image.positions import vision_position_taps, vision_rotary
from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.vision import VisionEncoder
from qwen3vl_ros.offline.reference_generation import encode_pictures


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        pytest.param(2, 2, id="one-token"),
        pytest.param(8, 6, id="upright"),
        pytest.param(14, 20, id="640x480"),
    ],
)
def test_engine_and_reference_agree_for_every_shape_of_picture(
    vision_encoder, reference, config, rows, columns
):
    rng = np.random.default_rng(rows)
    pixel_values = rng.uniform(-1, 1, (rows * columns, config.vision.patch_dim))
    patches = Patches(
        pixel_values=pixel_values.astype(np.float32),
        grid_thw=np.array([[1, rows, columns]], np.int64),
    )
    got = vision_encoder.encode(patches)
    with torch.no_grad():
        truth = encode_pictures(
            reference, torch.from_numpy(patches.pixel_values), patches.grid_thw
        )
    assert got.image_embeds.shape == (rows * columns // 4, config.text.hidden_size)
    np.testing.assert_allclose(got.image_embeds, truth.image_embeds, atol=1e-4)
    np.testing.assert_allclose(got.deepstack_embeds, truth.deepstack_embeds, atol=1e-4)
    assert np.abs(got.deepstack_embeds).min(axis=(1, 2)).all(), "a tap that says nothing"


def test_two_frames_of_one_grid_go_through_together_and_do_not_see_each_other(
    engines, vision_encoder, config, question
):
    patches, vision = question.patches, config.vision
    other = patches.pixel_values[::-1]
    merge_size = vision.spatial_merge_size
    indices, weights = vision_position_taps(
        patches.grid_thw, table_side=vision.position_grid, merge_size=merge_size
    )
    cos, sin = vision_rotary(patches.grid_thw, head_dim=vision.head_dim, merge_size=merge_size)
    both = engines.vision.run(
        {
            "pixel_values": np.stack([patches.pixel_values, other]),
            "position_indices": indices,
            "position_weights": weights,
            "rotary_cos": cos,
            "rotary_sin": sin,
        }
    )
    alone = vision_encoder.encode(patches)
    np.testing.assert_allclose(both["image_embeds"][0], alone.image_embeds, atol=1e-5)
    np.testing.assert_allclose(both["deepstack_embeds"][:, 0], alone.deepstack_embeds, atol=1e-5)
    assert np.abs(both["image_embeds"][1] - both["image_embeds"][0]).max() > 0.1


def test_a_picture_larger_than_the_engine_was_built_for_is_refused(engines, config, question):
    small = VisionEncoder(engines.vision, config.vision, max_visual_tokens=11)
    with pytest.raises(
        EngineError, match=r"takes 12 image tokens, expected at most 11"
    ) as refusal:
        small.encode(question.patches)
    assert refusal.value.field == "max_visual_tokens"
