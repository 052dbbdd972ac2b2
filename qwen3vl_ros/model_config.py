# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL sizes as data, read from a checkpoint's own files and never guessed from a name.

Knows no weights and no engine. Field names are upstream's (transformers `configuration_qwen3_vl`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ConfigError

FAMILIES = ("qwen3_vl", "qwen3_vl_moe")


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionConfig:
    """Shape of the vision tower."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    out_hidden_size: int
    num_position_embeddings: int
    deepstack_visual_indexes: tuple[int, ...]
    patch_size: int = 16
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    in_channels: int = 3

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Values in one flattened patch: channels x temporal x y x x."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def position_grid(self) -> int:
        """Side of the square table of learned positions."""
        return math.isqrt(self.num_position_embeddings)

    @property
    def merged_patch_size(self) -> int:
        """Pixels, in the resized image, along the side of one language-model image token."""
        return self.patch_size * self.spatial_merge_size


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """Shape of the text decoder. `num_experts` 0 means dense layers."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rope_theta: float
    mrope_section: tuple[int, int, int]
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 262144
    tie_word_embeddings: bool = False
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A whole Qwen3-VL checkpoint's shape and special token ids."""

    model_type: str
    vision: VisionConfig
    text: TextConfig
    image_token_id: int
    video_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int


def load_model_config(path: Path) -> ModelConfig:
    """Read `config.json` of a checkpoint or engine directory (or the file itself).

    Raises:
        ConfigError: the file is missing, is not JSON, or is of another model family.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the model config: {error}; expected the config.json of a Qwen3-VL "
            f"checkpoint at {file}"
        ) from error
    return model_config_from_dict(values)


def model_config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """A `ModelConfig` from the parsed `config.json` of a Qwen3-VL checkpoint.

    Raises:
        ConfigError: another family, or a field is missing or inconsistent.
    """
    model_type = str(values.get("model_type", ""))
    if model_type not in FAMILIES:
        raise ConfigError(
            f"config.json says model_type '{model_type}', expected one of {', '.join(FAMILIES)}; "
            "this project runs Qwen3-VL only, give it a Qwen3-VL checkpoint"
        )
    try:
        vision = _vision_from_dict(values["vision_config"])
        text = _text_from_dict(
            values["text_config"], tied=bool(values.get("tie_word_embeddings", False))
        )
        config = ModelConfig(
            model_type=model_type,
            vision=vision,
            text=text,
            image_token_id=int(values["image_token_id"]),
            video_token_id=int(values["video_token_id"]),
            vision_start_token_id=int(values["vision_start_token_id"]),
            vision_end_token_id=int(values["vision_end_token_id"]),
        )
    except KeyError as error:
        raise ConfigError(f"config.json has no field {error}; is the checkpoint whole?") from error
    _check(config)
    return config


def _vision_from_dict(values: Mapping[str, Any]) -> VisionConfig:
    return VisionConfig(
        depth=int(values["depth"]),
        hidden_size=int(values["hidden_size"]),
        intermediate_size=int(values["intermediate_size"]),
        num_heads=int(values["num_heads"]),
        out_hidden_size=int(values["out_hidden_size"]),
        num_position_embeddings=int(values["num_position_embeddings"]),
        deepstack_visual_indexes=tuple(int(i) for i in values["deepstack_visual_indexes"]),
        patch_size=int(values.get("patch_size", 16)),
        temporal_patch_size=int(values.get("temporal_patch_size", 2)),
        spatial_merge_size=int(values.get("spatial_merge_size", 2)),
        in_channels=int(values.get("in_channels", 3)),
    )


def _text_from_dict(values: Mapping[str, Any], *, tied: bool) -> TextConfig:
    # transformers 5 writes `rope_parameters`; released checkpoints carry `rope_theta` beside
    # `rope_scaling`. The class default of theta (500 000) is wrong for every released checkpoint.
    rope = values.get("rope_parameters") or values.get("rope_scaling")
    if rope is None:
        raise KeyError("text_config.rope_scaling")
    theta = rope.get("rope_theta", values.get("rope_theta"))
    if theta is None:
        raise KeyError("text_config.rope_theta")
    section = tuple(int(n) for n in rope["mrope_section"])
    if len(section) != 3:
        raise ConfigError(f"mrope_section has {len(section)} entries, expected 3 (T, H, W)")
    heads = int(values["num_attention_heads"])
    hidden = int(values["hidden_size"])
    return TextConfig(
        vocab_size=int(values["vocab_size"]),
        hidden_size=hidden,
        intermediate_size=int(values["intermediate_size"]),
        num_hidden_layers=int(values["num_hidden_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=int(values["num_key_value_heads"]),
        head_dim=int(values.get("head_dim") or hidden // heads),
        rope_theta=float(theta),
        mrope_section=section,
        rms_norm_eps=float(values.get("rms_norm_eps", 1e-6)),
        max_position_embeddings=int(values.get("max_position_embeddings", 262144)),
        tie_word_embeddings=bool(values.get("tie_word_embeddings", tied) or tied),
        num_experts=int(values.get("num_experts") or 0),
        num_experts_per_tok=int(values.get("num_experts_per_tok") or 0),
        moe_intermediate_size=int(values.get("moe_intermediate_size") or 0),
    )


def _check(config: ModelConfig) -> None:
    text, vision = config.text, config.vision
    if sum(text.mrope_section) * 2 != text.head_dim:
        raise ConfigError(
            f"mrope_section {list(text.mrope_section)} sums to {sum(text.mrope_section)}, "
            f"expected half of head_dim {text.head_dim}"
        )
    if text.num_attention_heads % text.num_key_value_heads:
        raise ConfigError(
            f"{text.num_attention_heads} attention heads cannot share "
            f"{text.num_key_value_heads} key-value heads evenly"
        )
    if vision.out_hidden_size != text.hidden_size:
        raise ConfigError(
            f"vision out_hidden_size is {vision.out_hidden_size}, expected the text hidden_size "
            f"{text.hidden_size}"
        )
    if vision.position_grid**2 != vision.num_position_embeddings:
        raise ConfigError(
            f"num_position_embeddings {vision.num_position_embeddings} is not a square"
        )
    if any(not 0 <= index < vision.depth for index in vision.deepstack_visual_indexes):
        raise ConfigError(
            f"deepstack_visual_indexes {list(vision.deepstack_visual_indexes)} reach beyond the "
            f"tower's {vision.depth} blocks"
        )
