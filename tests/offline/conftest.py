# SPDX-License-Identifier: Apache-2.0
"""Real models small enough for a laptop: the tiny shape, and one that is smaller still."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qwen3vl_ros.model_config import ModelConfig, TextConfig, VisionConfig
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    """Every part of the architecture once, 64 tokens of vocabulary, 190 thousand parameters."""
    return ModelConfig(
        model_type="qwen3_vl",
        vision=VisionConfig(
            depth=4,
            hidden_size=32,
            intermediate_size=48,
            num_heads=2,
            out_hidden_size=24,
            num_position_embeddings=25,
            deepstack_visual_indexes=(0, 1, 2),
        ),
        text=TextConfig(
            vocab_size=64,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            rope_theta=10000.0,
            mrope_section=(4, 2, 2),
            tie_word_embeddings=True,
        ),
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )


@pytest.fixture(scope="session")
def random_model() -> Callable[..., ReferenceModel]:
    """A model whose every weight matters: large matrices, norms not one, biases not zero."""

    def build(config: ModelConfig, *, seed: int = 0) -> ReferenceModel:
        model = ReferenceModel(config).eval()
        init_weights(model, seed=seed, std=0.12)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim == 1:
                    weight += 0.2 * torch.randn(weight.shape, generator=generator)
        return model

    return build
