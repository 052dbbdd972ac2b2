# SPDX-License-Identifier: Apache-2.0
"""Real models small enough for a laptop: the tiny shape, and one that is smaller still."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from qwen3vl_ros.image.preprocess import preprocess_config_from_dict
from qwen3vl_ros.language.tokenizer import Tokenizer, load_tokenizer
from qwen3vl_ros.model_config import ModelConfig, TextConfig, VisionConfig
from qwen3vl_ros.offline.recipe_graphs import graphs_for_recipe
from qwen3vl_ros.offline.recipes import Recipe
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights
from qwen3vl_ros.offline.tiny import tiny_config
from qwen3vl_ros.offline.tiny_tokenizer import PREPROCESSOR, write_tiny_tokenizer
from qwen3vl_ros.synthetic.corpus import corpus
from qwen3vl_ros.synthetic.shards import Shard, cache_pictures, read_shards

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "checkpoint"


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
def small_experts_config(small_config: ModelConfig) -> ModelConfig:
    """The same with an own head, and 8 experts in layers 0, 2 and 3, of which 3 see a token."""
    text = dataclasses.replace(
        small_config.text,
        tie_word_embeddings=False,
        num_experts=8,
        num_experts_per_tok=3,
        moe_intermediate_size=20,
        mlp_only_layers=(1,),
    )
    return dataclasses.replace(small_config, model_type="qwen3_vl_moe", text=text)


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


@pytest.fixture(scope="session")
def tokenizer_and_config(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Tokenizer, ModelConfig]:
    """The tiny checkpoint's tokenizer and shape."""
    directory = tmp_path_factory.mktemp("tokenizer")
    written = write_tiny_tokenizer(corpus(), directory)
    config = tiny_config(
        vocab_size=written.vocab_size,
        image_token_id=written.image_token_id,
        video_token_id=written.video_token_id,
        vision_start_token_id=written.vision_start_token_id,
        vision_end_token_id=written.vision_end_token_id,
    )
    return load_tokenizer(directory), config


@pytest.fixture(scope="session")
def shard(tmp_path_factory: pytest.TempPathFactory, small_shards: None) -> Shard:
    """A handful of rendered pictures of one size."""
    directory = tmp_path_factory.mktemp("pictures")
    config = preprocess_config_from_dict(PREPROCESSOR)
    list(cache_pictures(directory, count=8, config=config, processes=1))
    return max(read_shards(directory, count=8).values(), key=lambda some: len(some.images))


@pytest.fixture(scope="session")
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qwen3vl_ros.synthetic.shards.SHARD", 8)
        yield


@pytest.fixture(scope="session")
def tiny_graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """Graphs of the tiny checkpoint for a recipe, exported once."""
    root = tmp_path_factory.mktemp("graphs")

    def tiny_graphs(recipe: Recipe) -> Path:
        directory = root / f"{recipe.operators.value}-{recipe.precision}"
        if not directory.is_dir():
            graphs_for_recipe(TINY, directory, recipe)
        return directory

    return tiny_graphs
