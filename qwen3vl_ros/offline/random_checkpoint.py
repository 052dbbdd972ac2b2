# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of a released shape with random weights: true in size and time, not in words.

For measuring exports, builds and passes where the real weights are not at hand. Weights are drawn
and written shard by shard, so that memory holds one shard and not the model. Tokenizer, template
and processor configs are real ones; only pictures are kept smaller than released configs allow
(`image_tokens`), since what they allow decides the length of an engine's cache.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..model_config import ModelConfig
from .checkpoint import INDEX_FILE
from .config_writing import config_dict
from .reference_model import ReferenceModel
from .tiny_tokenizer import qwen_ranks, tokenizer_for_texts, write_tokenizer
from .whole_tokenizer import whole_tokenizer

SHARD_BYTES = 512 * 1024**2
IMAGE_TOKENS = 1024
PIXELS_OF_A_TOKEN = 32 * 32
STD = 0.02  # initializer_range of released configs

Progress = Callable[[str, int, int], None]


def write_random_checkpoint(
    config: ModelConfig,
    directory: Path,
    *,
    seed: int = 0,
    image_tokens: int = IMAGE_TOKENS,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write a sharded bfloat16 checkpoint of a shape, with everything an exporter reads.

    Args:
        config: a shape of `family.py`; a vocabulary too small for Qwen's tokenizer gets
            bytes and the added tokens alone.
        directory: new or empty.
        seed: each tensor is drawn from it and its own name.
        image_tokens: of the largest picture.
        shard_bytes: a shard is closed before it grows beyond this; a larger tensor has its own.
        progress: called with a name, bytes written and bytes in all.

    Raises:
        CheckpointError: the directory holds something.
        ConfigError: the shape has no room for a tokenizer.
        MissingDependency: dashscope is not installed.
    """
    if directory.exists() and any(directory.iterdir()):
        raise CheckpointError(
            f"will not write a random checkpoint among other files; give an empty or new "
            f"directory instead of {directory}"
        )
    directory.mkdir(parents=True, exist_ok=True)
    config = _with_tokenizer(config, directory, image_tokens=image_tokens)
    shapes = _shapes(config)
    shards = list(_shards(shapes, shard_bytes))
    total, written = 2 * sum(shape.numel() for shape in shapes.values()), 0
    weight_map: dict[str, str] = {}
    for index, names in enumerate(shards, 1):
        file = f"model-{index:05}-of-{len(shards):05}.safetensors"
        tensors = {name: _drawn(name, shapes[name], seed) for name in names}
        save_file(tensors, directory / file, metadata={"format": "pt"})
        (directory / file).chmod(0o644)  # safetensors writes for its owner only
        weight_map |= dict.fromkeys(names, file)
        written += 2 * sum(shapes[name].numel() for name in names)
        if progress is not None:
            progress("random weights", written, total)
    _write_json(
        directory / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map}
    )
    _write_json(directory / "config.json", config_dict(config))  # last: now it is whole


def _with_tokenizer(config: ModelConfig, directory: Path, *, image_tokens: int) -> ModelConfig:
    """The shape with the ids of the tokenizer that is written for it."""
    ranks, longest_edge = qwen_ranks(), image_tokens * PIXELS_OF_A_TOKEN
    if len(ranks) < config.text.vocab_size:
        tokenizer = whole_tokenizer(ranks)
    else:
        tokenizer = tokenizer_for_texts([], ranks)  # bytes, and the added tokens
    ids = write_tokenizer(tokenizer, directory, longest_edge=longest_edge)
    if ids.vocab_size > config.text.vocab_size:
        raise ConfigError(
            f"vocab_size is {config.text.vocab_size}, expected at least the {ids.vocab_size} "
            "tokens of the smallest tokenizer we can cut; give a shape with more"
        )
    return dataclasses.replace(
        config,
        image_token_id=ids.image_token_id,
        video_token_id=ids.video_token_id,
        vision_start_token_id=ids.vision_start_token_id,
        vision_end_token_id=ids.vision_end_token_id,
    )


def _shapes(config: ModelConfig) -> Mapping[str, torch.Size]:
    with torch.device("meta"):
        state: Mapping[str, Tensor] = ReferenceModel(config).state_dict()
    return {name: weight.shape for name, weight in state.items()}


def _shards(shapes: Mapping[str, torch.Size], shard_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        if names and size + 2 * shape.numel() > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += 2 * shape.numel()
    yield names


def _drawn(name: str, shape: torch.Size, seed: int) -> Tensor:
    """Matrices normal, norms about one, biases about zero: each one matters."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    weight = torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, STD, generator=generator)
    is_norm = len(shape) == 1 and name.endswith("weight")
    return weight + 1 if is_norm else weight


def _write_json(file: Path, values: object) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
