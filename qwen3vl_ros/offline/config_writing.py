# SPDX-License-Identifier: Apache-2.0
"""A model's shape as the `config.json` of a checkpoint; `model_config.py` reads it back.

Knows no files. Written in the form of released checkpoints, which transformers 4 and 5 both read.
"""

from __future__ import annotations

from typing import Any

import torch

from ..model_config import DENSE, SPARSE, ModelConfig, TextConfig

ARCHITECTURES = {
    DENSE: "Qwen3VLForConditionalGeneration",
    SPARSE: "Qwen3VLMoeForConditionalGeneration",
}


def config_dict(config: ModelConfig, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """`config.json` as released checkpoints write it: `rope_theta` beside `rope_scaling`.

    transformers 5 reads this form too. The inverse of `model_config_from_dict`.
    """
    text, vision = config.text, config.vision
    dtype_name = str(dtype).removeprefix("torch.")
    return {
        "architectures": [ARCHITECTURES[config.model_type]],
        "model_type": config.model_type,
        "dtype": dtype_name,
        "image_token_id": config.image_token_id,
        "video_token_id": config.video_token_id,
        "vision_start_token_id": config.vision_start_token_id,
        "vision_end_token_id": config.vision_end_token_id,
        "tie_word_embeddings": text.tie_word_embeddings,
        "text_config": {
            "model_type": f"{config.model_type}_text",
            "dtype": dtype_name,
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "head_dim": text.head_dim,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "rms_norm_eps": text.rms_norm_eps,
            "max_position_embeddings": text.max_position_embeddings,
            "rope_theta": text.rope_theta,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": list(text.mrope_section),
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": text.tie_word_embeddings,
            **_expert_fields(text),
        },
        "vision_config": {
            "model_type": config.model_type,  # sic: without `_vision`, as released
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "hidden_act": "gelu_pytorch_tanh",
            "in_channels": vision.in_channels,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "spatial_merge_size": vision.spatial_merge_size,
            "out_hidden_size": vision.out_hidden_size,
            "num_position_embeddings": vision.num_position_embeddings,
            "deepstack_visual_indexes": list(vision.deepstack_visual_indexes),
        },
    }


def _expert_fields(text: TextConfig) -> dict[str, Any]:
    if not text.num_experts:
        return {}
    return {
        "num_experts": text.num_experts,
        "num_experts_per_tok": text.num_experts_per_tok,
        "moe_intermediate_size": text.moe_intermediate_size,
        "norm_topk_prob": text.norm_topk_prob,
        "decoder_sparse_step": text.decoder_sparse_step,
        "mlp_only_layers": list(text.mlp_only_layers),
    }
