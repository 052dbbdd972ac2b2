# SPDX-License-Identifier: Apache-2.0
"""A real tokenizer, cut from Qwen's, in a directory as a checkpoint has it, and its config."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3vl_ros.language.tokenizer import Tokenizer, load_tokenizer
from qwen3vl_ros.model_config import ModelConfig, TextConfig, VisionConfig
from qwen3vl_ros.offline.tiny_tokenizer import write_tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tiny_tokenizer(["the turquoise mug"], directory)
    return directory


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@pytest.fixture(scope="session")
def config(tokenizer: Tokenizer) -> ModelConfig:
    return ModelConfig(
        model_type="qwen3_vl",
        vision=VisionConfig(
            depth=1,
            hidden_size=8,
            intermediate_size=8,
            num_heads=1,
            out_hidden_size=8,
            num_position_embeddings=4,
            deepstack_visual_indexes=(0,),
        ),
        text=TextConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=8,
            rope_theta=10000.0,
            mrope_section=(2, 1, 1),
        ),
        image_token_id=tokenizer.token_id("<|image_pad|>"),
        video_token_id=tokenizer.token_id("<|video_pad|>"),
        vision_start_token_id=tokenizer.token_id("<|vision_start|>"),
        vision_end_token_id=tokenizer.token_id("<|vision_end|>"),
    )
