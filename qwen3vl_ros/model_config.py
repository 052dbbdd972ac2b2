# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL sizes as data, read from a checkpoint's own files and never guessed from a name.

Knows no weights and no engine. Field names are upstream's (transformers `configuration_qwen3_vl`
and `configuration_qwen3_vl_moe`). What a config may not leave open is never filled in: upstream's
class defaults are of other models (a RoPE theta of 500 000, 60 experts).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config_fields import ConfigFields
from .errors import ConfigError

DENSE, SPARSE = "qwen3_vl", "qwen3_vl_moe"
FAMILIES = (DENSE, SPARSE)
# By model_type, what else is at hand under names much like these.
OTHER_FAMILIES = {
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen2_5_omni": "Qwen2.5-Omni",
    "qwen3_omni_moe": "Qwen3-Omni",
    "qwen3_5": "Qwen3.5",
    "qwen3_5_moe": "Qwen3.5",
    "qwen2": "Qwen2 or Qwen2.5, which see no pictures",
    "qwen3": "Qwen3, which sees no pictures",
    "qwen3_moe": "Qwen3, which sees no pictures",
    "qwen3_vl_text": "Qwen3-VL's decoder, saved without the tower",
    "qwen3_vl_moe_text": "Qwen3-VL's decoder, saved without the tower",
}


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
    """Shape of the text decoder. `num_experts` 0 means dense layers.

    Attributes:
        intermediate_size: width of a dense layer's MLP; 0 where there is none.
        num_experts_per_tok: experts that see one token.
        moe_intermediate_size: width of one expert.
        norm_topk_prob: the shares of a token's experts are scaled to sum to 1. True in released
            checkpoints; transformers 5.23 scales whatever the config says.
        decoder_sparse_step: every how many layers one is sparse.
        mlp_only_layers: layers that are dense nevertheless.
    """

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
    norm_topk_prob: bool = True
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()

    def is_sparse(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has experts in place of one MLP."""
        if not self.num_experts or layer in self.mlp_only_layers:
            return False
        return (layer + 1) % self.decoder_sparse_step == 0


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
        ConfigError: the file is missing, is not JSON, or does not describe a Qwen3-VL model.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the model config: {error}; expected the config.json of a Qwen3-VL "
            f"checkpoint at {file}"
        ) from error
    try:
        return model_config_from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{error}: {file}") from error


def model_config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """A `ModelConfig` from the parsed `config.json` of a Qwen3-VL checkpoint.

    Raises:
        ConfigError: another family, or a field is missing, of the wrong kind, or inconsistent.
    """
    fields = ConfigFields("", values)
    model_type = fields.text("model_type")
    if model_type not in FAMILIES:
        found = OTHER_FAMILIES.get(model_type, "another family")
        raise ConfigError(
            f"config.json is of {found} (model_type '{model_type}'), expected Qwen3-VL (one of "
            f"{', '.join(FAMILIES)}); this project runs no other, give it a Qwen3-VL checkpoint"
        )
    text_fields, vision_fields = fields.section("text_config"), fields.section("vision_config")
    if not vision_fields.values.get("deepstack_visual_indexes"):
        raise ConfigError(
            "config.json names no deepstack taps (vision_config.deepstack_visual_indexes), which "
            "every Qwen3-VL has; Qwen3.5 has the tower without them, and 248320 tokens (here "
            f"{text_fields.values.get('vocab_size')}): give it a Qwen3-VL checkpoint"
        )
    # As transformers has it, the top level decides; a text section saved on its own carries the
    # default of its class there.
    tied = (fields if fields.has("tie_word_embeddings") else text_fields).flag(
        "tie_word_embeddings", default=False
    )
    config = ModelConfig(
        model_type=model_type,
        vision=_vision_config(vision_fields),
        text=_text_config(text_fields, tied=tied, sparse=model_type == SPARSE),
        image_token_id=fields.count("image_token_id", least=0),
        video_token_id=fields.count("video_token_id", least=0),
        vision_start_token_id=fields.count("vision_start_token_id", least=0),
        vision_end_token_id=fields.count("vision_end_token_id", least=0),
    )
    _check_vision(config.vision)
    _check_text(config.text)
    _check_together(config)
    return config


def _vision_config(fields: ConfigFields) -> VisionConfig:
    fields.expect("hidden_act", "gelu_pytorch_tanh")
    if fields.has("rope_parameters"):  # transformers 5 writes down what was always so
        rope = fields.section("rope_parameters")
        rope.expect("rope_type", "axial")
        rope.expect("rope_theta", 10000.0)
    return VisionConfig(
        depth=fields.count("depth"),
        hidden_size=fields.count("hidden_size"),
        intermediate_size=fields.count("intermediate_size"),
        num_heads=fields.count("num_heads"),
        out_hidden_size=fields.count("out_hidden_size"),
        num_position_embeddings=fields.count("num_position_embeddings"),
        deepstack_visual_indexes=fields.counts("deepstack_visual_indexes"),
        patch_size=fields.count("patch_size", default=16),
        temporal_patch_size=fields.count("temporal_patch_size", default=2),
        spatial_merge_size=fields.count("spatial_merge_size", default=2),
        in_channels=fields.count("in_channels", default=3),
    )


def _text_config(fields: ConfigFields, *, tied: bool, sparse: bool) -> TextConfig:
    fields.expect("hidden_act", "silu")
    fields.expect("attention_bias", False)
    # transformers 5 writes `rope_parameters`; released checkpoints carry `rope_theta` beside
    # `rope_scaling`.
    rope = fields.section("rope_parameters" if fields.has("rope_parameters") else "rope_scaling")
    for key in ("rope_type", "type"):
        rope.expect(key, "default")
    rope.expect("mrope_interleaved", True)
    section = rope.counts("mrope_section")
    if len(section) != 3:
        raise ConfigError(f"mrope_section has {len(section)} entries, expected 3 (T, H, W)")
    heads, hidden_size = fields.count("num_attention_heads"), fields.count("hidden_size")
    experts: dict[str, Any] = {}
    if sparse:
        experts = _expert_fields(fields)
    else:
        fields.expect("num_experts", 0)
    # Unused, and not always written, where every layer is sparse.
    unused = sparse and experts["decoder_sparse_step"] == 1 and not experts["mlp_only_layers"]
    return TextConfig(
        vocab_size=fields.count("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.count(
            "intermediate_size", default=0 if unused else None, least=0 if unused else 1
        ),
        num_hidden_layers=fields.count("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=fields.count("num_key_value_heads"),
        head_dim=fields.count("head_dim", default=hidden_size // heads),
        rope_theta=(rope if rope.has("rope_theta") else fields).number("rope_theta"),
        mrope_section=(section[0], section[1], section[2]),
        rms_norm_eps=fields.number("rms_norm_eps", default=1e-6),
        max_position_embeddings=fields.count("max_position_embeddings", default=262144),
        tie_word_embeddings=tied,
        **experts,
    )


def _expert_fields(fields: ConfigFields) -> dict[str, Any]:
    # transformers 5 writes `num_local_experts`.
    experts = "num_experts" if fields.has("num_experts") else "num_local_experts"
    return {
        "num_experts": fields.count(experts if fields.has(experts) else "num_experts"),
        "num_experts_per_tok": fields.count("num_experts_per_tok"),
        "moe_intermediate_size": fields.count("moe_intermediate_size"),
        "norm_topk_prob": fields.flag("norm_topk_prob", default=True),
        "decoder_sparse_step": fields.count("decoder_sparse_step", default=1),
        "mlp_only_layers": fields.counts("mlp_only_layers", default=()),
    }


def _inconsistent(words: str) -> ConfigError:
    """Fields that are readable one by one, and cannot all be true."""
    return ConfigError(
        f"{words}; config.json is damaged or of another model: download the checkpoint whole"
    )


def _check_vision(vision: VisionConfig) -> None:
    if vision.hidden_size % vision.num_heads:
        raise _inconsistent(
            f"vision_config.hidden_size {vision.hidden_size} cannot be shared evenly by "
            f"{vision.num_heads} heads"
        )
    if vision.head_dim % 4:
        raise _inconsistent(
            f"the tower's heads are {vision.head_dim} wide, expected a multiple of 4: rows and "
            "columns each turn pairs of them"
        )
    if vision.position_grid**2 != vision.num_position_embeddings:
        raise _inconsistent(
            f"num_position_embeddings {vision.num_position_embeddings} is not a square"
        )
    taps = vision.deepstack_visual_indexes
    if any(not 0 <= index < vision.depth for index in taps):
        raise _inconsistent(
            f"deepstack_visual_indexes {list(taps)} should name some of the tower's "
            f"{vision.depth} blocks, counted from 0"
        )
    if list(taps) != sorted(set(taps)):
        raise _inconsistent(f"deepstack_visual_indexes {list(taps)} do not rise from tap to tap")


def _check_text(text: TextConfig) -> None:
    if text.num_attention_heads % text.num_key_value_heads:
        raise _inconsistent(
            f"{text.num_attention_heads} attention heads cannot share "
            f"{text.num_key_value_heads} key-value heads evenly"
        )
    section, half = text.mrope_section, text.head_dim // 2
    if sum(section) * 2 != text.head_dim:
        raise _inconsistent(
            f"mrope_section {list(section)} sums to {sum(section)}, expected half of head_dim "
            f"{text.head_dim}"
        )
    if any(axis + 3 * (section[axis] - 1) >= half for axis in (1, 2)):
        raise _inconsistent(
            f"mrope_section {list(section)} cannot be interleaved: rows and columns take every "
            f"third of {half} frequencies"
        )
    if text.num_experts_per_tok > text.num_experts:
        raise _inconsistent(
            f"num_experts_per_tok is {text.num_experts_per_tok}, expected at most the "
            f"{text.num_experts} experts there are"
        )
    layers = text.num_hidden_layers
    if any(layer >= layers for layer in text.mlp_only_layers):
        raise _inconsistent(
            f"mlp_only_layers {list(text.mlp_only_layers)} reach beyond the decoder's {layers} "
            "layers"
        )
    if text.num_experts and not any(text.is_sparse(layer) for layer in range(layers)):
        raise _inconsistent(
            f"no layer is sparse with decoder_sparse_step {text.decoder_sparse_step} and "
            f"mlp_only_layers {list(text.mlp_only_layers)}, expected model_type '{DENSE}' then"
        )


def _check_together(config: ModelConfig) -> None:
    text, vision = config.text, config.vision
    if vision.out_hidden_size != text.hidden_size:
        raise _inconsistent(
            f"vision out_hidden_size is {vision.out_hidden_size}, expected the text hidden_size "
            f"{text.hidden_size}"
        )
    if len(vision.deepstack_visual_indexes) > text.num_hidden_layers:
        raise _inconsistent(
            f"{len(vision.deepstack_visual_indexes)} deepstack taps go into the first decoder "
            f"layers, and there are {text.num_hidden_layers}"
        )
    ids = {
        name: getattr(config, name)
        for name in (
            "image_token_id",
            "video_token_id",
            "vision_start_token_id",
            "vision_end_token_id",
        )
    }
    if len(set(ids.values())) < len(ids) or max(ids.values()) >= text.vocab_size:
        raise _inconsistent(
            f"the special tokens are {ids}, expected four different ids below vocab_size "
            f"{text.vocab_size}"
        )
