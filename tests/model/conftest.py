# SPDX-License-Identifier: Apache-2.0
"""The random checkpoint twice: as the torch reference and as a decoder over its engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.decoder import Decoder
from qwen3vl_ros.model.vision import VisionEncoder
from qwen3vl_ros.model_config import ModelConfig, load_model_config
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.runtime.loading import Engines, load_engines


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A picture and a prompt about it, meaningless and complete."""

    patches: Patches
    input_ids: npt.NDArray[np.int64]


@pytest.fixture(scope="session")
def config(random_checkpoint: Path) -> ModelConfig:
    return load_model_config(random_checkpoint)


@pytest.fixture(scope="session")
def reference(random_checkpoint: Path) -> ReferenceModel:
    return load_checkpoint(random_checkpoint).eval()


@pytest.fixture(scope="session")
def engines(random_engines: Mapping[str, Path]) -> Engines:
    return load_engines(random_engines["float32"], threads=1)


@pytest.fixture(scope="session")
def vision_encoder(engines: Engines, config: ModelConfig) -> VisionEncoder:
    return VisionEncoder(
        engines.vision, config.vision, max_visual_tokens=engines.manifest.max_visual_tokens
    )


@pytest.fixture(scope="session")
def decoder(engines: Engines, config: ModelConfig) -> Decoder:
    return decoder_that_stops_at(engines, config)


def decoder_that_stops_at(engines: Engines, config: ModelConfig, *stop_ids: int) -> Decoder:
    return Decoder(
        engines.decoder,
        engines.lm_head,
        engines.embed_tokens,
        config,
        cache_length=engines.manifest.cache_length,
        stop_token_ids=stop_ids,
    )


@pytest.fixture(scope="session")
def decoder_stopping(engines: Engines, config: ModelConfig) -> Callable[..., Decoder]:
    return lambda *stop_ids: decoder_that_stops_at(engines, config, *stop_ids)


@pytest.fixture(scope="session")
def question(config: ModelConfig) -> Question:
    """5 words, a picture of 4 x 3 tokens, 6 words."""
    rng = np.random.default_rng(0)
    rows, columns = 8, 6
    pixel_values = rng.uniform(-1, 1, (rows * columns, config.vision.patch_dim))
    words = rng.integers(0, 200, 11)
    return Question(
        patches=Patches(
            pixel_values=pixel_values.astype(np.float32),
            grid_thw=np.array([[1, rows, columns]], np.int64),
        ),
        input_ids=np.concatenate([words[:5], np.full(12, config.image_token_id), words[5:]]),
    )
