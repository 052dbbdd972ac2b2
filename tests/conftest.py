# SPDX-License-Identifier: Apache-2.0
"""A random checkpoint of the true architecture, its engines and graphs, each made once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qwen3vl_ros.offline.tensorrt_choices import OperatorSet

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


@pytest.fixture(scope="session")
def tensorrt_graph(
    random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Writes a graph for TensorRT with the random checkpoint's weights, once, and gives its path.

    Tracing one takes five to ten seconds, so that whoever looks at graphs shares them.
    """
    import onnx_ir as ir

    from qwen3vl_ros.model_config import load_model_config
    from qwen3vl_ros.offline.checkpoint import checked_files
    from qwen3vl_ros.offline.stored_weights import StoredWeights
    from qwen3vl_ros.offline.tensorrt_graphs import decoder_graph, head_graph, vision_graph
    from qwen3vl_ros.offline.tensorrt_weights import attach_weights

    config = load_model_config(random_checkpoint)
    weights = StoredWeights(files=checked_files(random_checkpoint, config))
    root = tmp_path_factory.mktemp("tensorrt_graphs")

    @functools.cache
    def tensorrt_graph(
        name: str,
        operators: OperatorSet,
        width: str,
        block_size: int | None = None,
        *,
        int8: bool = False,
    ) -> Path:
        if name == "vision":
            model = vision_graph(config.vision, operators=operators, width=width)
        elif name == "decoder":
            model = decoder_graph(
                config.text, operators=operators, width=width, cache_length=CACHE_LENGTH
            )
        else:
            model = head_graph(config, operators=operators, width=width)
        attach_weights(model, weights, int4_block_size=block_size, int8=int8)
        bits = "int8" if int8 else block_size
        path = root / f"{name}-{operators.value}-{width}-{bits}.onnx"
        ir.save(model, path)
        return path

    return tensorrt_graph
