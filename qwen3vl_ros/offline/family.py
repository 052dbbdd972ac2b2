# SPDX-License-Identifier: Apache-2.0
"""The six released shapes of Qwen3-VL, and each of them small enough for a laptop.

Knows no weights. Released shapes are here to count parameters and to make small ones from; a
checkpoint's shape is always read from its own `config.json`, never looked up here. Instruct and
Thinking checkpoints of a size have one shape.

The config of 235B-A22B was not seen itself; two public accounts of it (a training script's
arguments, an architecture sheet made from it) agree with the numbers here, and those with its
text-only ancestor's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..model_config import DENSE, SPARSE, ModelConfig, TextConfig, VisionConfig

WIDTH_DIVISOR, DEPTH_DIVISOR, SMALL_LAYERS = 8, 3, 4
SMALL_VOCABULARY, SMALL_EXPERTS, SMALL_KV_HEADS = 1024, 32, 2


def _tower(*, large: bool, out_hidden_size: int) -> VisionConfig:
    return VisionConfig(
        depth=27 if large else 24,
        hidden_size=1152 if large else 1024,
        intermediate_size=4304 if large else 4096,
        num_heads=16,  # 72 or 64 wide
        out_hidden_size=out_hidden_size,
        num_position_embeddings=48 * 48,
        deepstack_visual_indexes=(8, 16, 24) if large else (5, 11, 17),
    )


def _released(
    *,
    large_tower: bool,
    layers: int,
    hidden_size: int,
    heads: int,
    kv_heads: int,
    intermediate_size: int,
    tied: bool = False,
    expert_width: int = 0,
) -> ModelConfig:
    return ModelConfig(
        model_type=SPARSE if expert_width else DENSE,
        vision=_tower(large=large_tower, out_hidden_size=hidden_size),
        text=TextConfig(
            vocab_size=151936,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=128,
            rope_theta=5e6,
            mrope_section=(24, 20, 20),
            tie_word_embeddings=tied,
            num_experts=128 if expert_width else 0,
            num_experts_per_tok=8 if expert_width else 0,
            moe_intermediate_size=expert_width,
        ),
        image_token_id=151655,
        video_token_id=151656,
        vision_start_token_id=151652,
        vision_end_token_id=151653,
    )


RELEASED: Mapping[str, ModelConfig] = {
    "2B": _released(
        large_tower=False,
        layers=28,
        hidden_size=2048,
        heads=16,
        kv_heads=8,
        intermediate_size=6144,
        tied=True,
    ),
    "4B": _released(
        large_tower=False,
        layers=36,
        hidden_size=2560,
        heads=32,
        kv_heads=8,
        intermediate_size=9728,
        tied=True,
    ),
    "8B": _released(
        large_tower=True,
        layers=36,
        hidden_size=4096,
        heads=32,
        kv_heads=8,
        intermediate_size=12288,
    ),
    "32B": _released(
        large_tower=True,
        layers=64,
        hidden_size=5120,
        heads=64,
        kv_heads=8,
        intermediate_size=25600,
    ),
    "30B-A3B": _released(
        large_tower=True,
        layers=48,
        hidden_size=2048,
        heads=32,
        kv_heads=4,
        intermediate_size=6144,  # written in its config, and unused: every layer is sparse
        expert_width=768,
    ),
    "235B-A22B": _released(
        large_tower=True,
        layers=94,
        hidden_size=4096,
        heads=64,
        kv_heads=4,
        intermediate_size=12288,  # unused
        expert_width=1536,
    ),
}


def shrunk(config: ModelConfig) -> ModelConfig:
    """The same structure with an eighth of the widths and a fraction of the depth.

    Kept: widths of heads (so M-RoPE sections too), queries to a key-value head, ratio of an MLP to
    its input, side of the position table, experts of a token, tied or not. Made smaller: heads
    (two key-value heads, so that a mix-up of groups shows), layers, blocks and the taps with them,
    experts, vocabulary.
    """
    vision, text = config.vision, config.text
    queries = text.num_attention_heads // text.num_key_value_heads
    return ModelConfig(
        model_type=config.model_type,
        vision=dataclasses.replace(
            vision,
            depth=vision.depth // DEPTH_DIVISOR,
            hidden_size=vision.hidden_size // WIDTH_DIVISOR,
            intermediate_size=vision.intermediate_size // WIDTH_DIVISOR,
            num_heads=vision.num_heads // WIDTH_DIVISOR,
            out_hidden_size=text.hidden_size // WIDTH_DIVISOR,
            deepstack_visual_indexes=tuple(
                (index + 1) // DEPTH_DIVISOR - 1 for index in vision.deepstack_visual_indexes
            ),
        ),
        text=dataclasses.replace(
            text,
            vocab_size=SMALL_VOCABULARY,
            hidden_size=text.hidden_size // WIDTH_DIVISOR,
            intermediate_size=text.intermediate_size // WIDTH_DIVISOR,
            num_hidden_layers=SMALL_LAYERS,
            num_attention_heads=SMALL_KV_HEADS * queries,
            num_key_value_heads=SMALL_KV_HEADS,
            num_experts=SMALL_EXPERTS if text.num_experts else 0,
            moe_intermediate_size=text.moe_intermediate_size // WIDTH_DIVISOR,
        ),
        image_token_id=SMALL_VOCABULARY - 1,
        video_token_id=SMALL_VOCABULARY - 2,
        vision_start_token_id=SMALL_VOCABULARY - 3,
        vision_end_token_id=SMALL_VOCABULARY - 4,
    )
