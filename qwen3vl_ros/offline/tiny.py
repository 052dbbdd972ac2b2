# SPDX-License-Identifier: Apache-2.0
"""The shape of the tiny checkpoint: the true architecture, about nine million parameters.

Knows no weights and no words. Everything Qwen3-VL does is there once (three deepstack taps,
interleaved M-RoPE, grouped queries, a tied head), so that a mistake anywhere costs accuracy.
"""

from __future__ import annotations

from ..model_config import ModelConfig, TextConfig, VisionConfig


def tiny_config(
    *,
    vocab_size: int,
    image_token_id: int,
    video_token_id: int,
    vision_start_token_id: int,
    vision_end_token_id: int,
    tie_word_embeddings: bool = True,
) -> ModelConfig:
    """The tiny model for a vocabulary cut down to `vocab_size` tokens."""
    return ModelConfig(
        model_type="qwen3_vl",
        vision=VisionConfig(
            depth=6,
            hidden_size=192,
            intermediate_size=768,
            num_heads=6,
            out_hidden_size=256,
            num_position_embeddings=24 * 24,
            deepstack_visual_indexes=(1, 2, 4),
        ),
        text=TextConfig(
            vocab_size=vocab_size,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=5,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            rope_theta=5_000_000.0,
            mrope_section=(12, 10, 10),
            max_position_embeddings=4096,
            tie_word_embeddings=tie_word_embeddings,
        ),
        image_token_id=image_token_id,
        video_token_id=video_token_id,
        vision_start_token_id=vision_start_token_id,
        vision_end_token_id=vision_end_token_id,
    )
