# SPDX-License-Identifier: Apache-2.0
"""A random checkpoint of the true architecture, and its engines, made once by the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

CACHE_LENGTH = 384
ROOMY_CACHE_LENGTH = 4096  # for clips, crops and long prompts


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory with a real tokenizer and random weights, every one of which matters.

    A 640x480 picture takes 70 of its image tokens.
    """
    import torch

    from qwen3vl_ros.model_config import ModelConfig, TextConfig, VisionConfig
    from qwen3vl_ros.offline.checkpoint import write_checkpoint
    from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
    from qwen3vl_ros.offline.tiny_tokenizer import write_tiny_tokenizer

    directory = tmp_path_factory.mktemp("checkpoint")
    tokenizer = write_tiny_tokenizer(["the red box"], directory)
    model = ReferenceModel(
        ModelConfig(
            model_type="qwen3_vl",
            vision=VisionConfig(
                depth=3,
                hidden_size=64,
                intermediate_size=96,
                num_heads=4,
                out_hidden_size=64,
                num_position_embeddings=144,
                deepstack_visual_indexes=(0, 1, 2),
            ),
            text=TextConfig(
                vocab_size=tokenizer.vocab_size,
                hidden_size=64,
                intermediate_size=80,  # two blocks of 32 and a half
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=32,  # heads are wider together than the hidden size
                rope_theta=10000.0,
                mrope_section=(6, 5, 5),
                tie_word_embeddings=True,
            ),
            image_token_id=tokenizer.image_token_id,
            video_token_id=tokenizer.video_token_id,
            vision_start_token_id=tokenizer.vision_start_token_id,
            vision_end_token_id=tokenizer.vision_end_token_id,
        )
    )
    init_weights(model, seed=0, std=0.12)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:  # norms that are not one, biases that are not zero
                weight += 0.2 * torch.randn(weight.shape, generator=generator)
    write_checkpoint(model, directory, dtype=torch.float32)
    return directory


@pytest.fixture(scope="session")
def random_engines(
    random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Engine directories of the random checkpoint, by precision."""
    from qwen3vl_ros.offline.export import PRECISIONS, export_checkpoint

    root = tmp_path_factory.mktemp("engines")
    directories = {precision: root / f"onnxruntime-{precision}" for precision in PRECISIONS}
    for precision, directory in directories.items():
        export_checkpoint(
            random_checkpoint, directory, precision=precision, cache_length=CACHE_LENGTH
        )
    return directories


@pytest.fixture(scope="session")
def roomy_engine(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int4 engine directory of the random checkpoint whose cache holds a long conversation."""
    from qwen3vl_ros.offline.export import export_checkpoint

    directory = tmp_path_factory.mktemp("engines") / "roomy"
    export_checkpoint(
        random_checkpoint, directory, precision="int4", cache_length=ROOMY_CACHE_LENGTH
    )
    return directory
