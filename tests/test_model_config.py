# SPDX-License-Identifier: Apache-2.0
"""Configs of every released size are read; whatever this project does not compute is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.model_config import load_model_config, model_config_from_dict

DENSE_8B: dict[str, Any] = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "image_token_id": 151655,
    "model_type": "qwen3_vl",
    "text_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "dtype": "bfloat16",
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 12288,
        "max_position_embeddings": 262144,
        "model_type": "qwen3_vl_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "mrope_interleaved": True,
            "mrope_section": [24, 20, 20],
            "rope_type": "default",
        },
        "rope_theta": 5000000,
        "use_cache": True,
        "vocab_size": 151936,
    },
    "tie_word_embeddings": False,
    "transformers_version": "4.57.0.dev0",
    "video_token_id": 151656,
    "vision_config": {
        "deepstack_visual_indexes": [8, 16, 24],
        "depth": 27,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": 4304,
        "model_type": "qwen3_vl",
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
}


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config with fields set, by dotted name; None removes one."""
    values = copy.deepcopy(values)
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        target = values
        for section in sections:
            target = target[section]
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    return values


SPARSE_30B = changed(
    DENSE_8B,
    {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "text_config.model_type": "qwen3_vl_moe_text",
        "text_config.decoder_sparse_step": 1,
        "text_config.hidden_size": 2048,
        "text_config.intermediate_size": 6144,
        "text_config.mlp_only_layers": [],
        "text_config.moe_intermediate_size": 768,
        "text_config.norm_topk_prob": True,
        "text_config.num_experts": 128,
        "text_config.num_experts_per_tok": 8,
        "text_config.num_hidden_layers": 48,
        "text_config.num_key_value_heads": 4,
        "vision_config.model_type": "qwen3_vl_moe",
        "vision_config.out_hidden_size": 2048,
    },
)


def test_a_dense_config_is_read() -> None:
    config = model_config_from_dict(DENSE_8B)
    text, vision = config.text, config.vision
    assert (text.hidden_size, text.num_hidden_layers, text.head_dim) == (4096, 36, 128)
    assert (text.rope_theta, text.mrope_section) == (5e6, (24, 20, 20))
    assert (text.num_experts, text.tie_word_embeddings) == (0, False)
    assert (vision.head_dim, vision.intermediate_size, vision.position_grid) == (72, 4304, 48)
    assert vision.deepstack_visual_indexes == (8, 16, 24)
    assert not any(text.is_sparse(layer) for layer in range(36))


def test_a_config_with_experts_is_read() -> None:
    text = model_config_from_dict(SPARSE_30B).text
    assert (text.num_experts, text.num_experts_per_tok, text.moe_intermediate_size) == (
        128,
        8,
        768,
    )
    assert text.norm_topk_prob
    assert all(text.is_sparse(layer) for layer in range(48))


def read(changes: dict[str, Any], values: dict[str, Any] = DENSE_8B) -> Any:
    return model_config_from_dict(changed(values, changes))


def test_transformers_5_writes_the_same_model_otherwise() -> None:
    rope = {
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_theta": 5e6,
        "rope_type": "default",
    }
    as_written = {
        "text_config.rope_scaling": None,
        "text_config.rope_theta": None,
        "text_config.rope_parameters": rope,
        "text_config.num_experts": None,
        "text_config.num_local_experts": 128,
        "vision_config.model_type": "qwen3_vl_moe_vision",
        "vision_config.rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"},
    }
    assert read(as_written, SPARSE_30B) == read({}, SPARSE_30B)


def test_the_width_of_mlps_that_no_layer_has_may_be_left_out() -> None:
    left_out = {"text_config.intermediate_size": None}
    assert read(left_out, SPARSE_30B).text.intermediate_size == 0
    with pytest.raises(ConfigError, match=r"no text_config\.intermediate_size"):
        read(left_out | {"text_config.mlp_only_layers": [3]}, SPARSE_30B)


@pytest.mark.parametrize(
    ("top", "text", "tied"),
    [
        pytest.param(True, True, True, id="both"),
        pytest.param(False, True, False, id="the section carries its class's default"),
        pytest.param(True, None, True, id="top alone"),
        pytest.param(None, True, True, id="section alone"),
        pytest.param(None, None, False, id="neither"),
    ],
)
def test_the_top_level_says_whether_the_head_is_tied(
    top: bool | None, text: bool | None, tied: bool
) -> None:
    changes = {"tie_word_embeddings": top, "text_config.tie_word_embeddings": text}
    assert read(changes).text.tie_word_embeddings is tied


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": 3}, r"model_type is 3, expected a string"),
        ({"text_config": None}, "no text_config"),
        ({"vision_config": [1]}, "vision_config is not a JSON object"),
        ({"image_token_id": None}, "no image_token_id"),
        ({"image_token_id": -1}, "image_token_id is -1, expected an integer of at least 0"),
        ({"image_token_id": 151656}, "expected four different ids"),
        ({"text_config.vocab_size": 1000}, "ids below vocab_size 1000"),
        ({"tie_word_embeddings": "yes"}, r'tie_word_embeddings is "yes", expected true or false'),
        ({"text_config.num_hidden_layers": 0}, r"text_config\.num_hidden_layers is 0"),
        ({"text_config.num_hidden_layers": 2}, "3 deepstack taps .* there are 2"),
        ({"text_config.hidden_size": 4096.5}, r"text_config\.hidden_size is 4096\.5, expected"),
        ({"text_config.hidden_size": True}, r"text_config\.hidden_size is true, expected"),
        ({"text_config.hidden_size": 2048}, "out_hidden_size is 4096, expected .* 2048"),
        ({"text_config.num_key_value_heads": 5}, "32 attention heads cannot share 5"),
        ({"text_config.rms_norm_eps": 0}, r"rms_norm_eps is 0, expected a number above 0"),
        ({"text_config.rope_theta": None}, r"no text_config\.rope_theta"),
        ({"text_config.rope_theta": float("inf")}, r"rope_theta is Infinity"),
        ({"text_config.rope_scaling": None}, r"no text_config\.rope_scaling"),
        (
            {"text_config.rope_scaling.rope_type": "yarn"},
            r'rope_type is "yarn", expected "default"',
        ),
        ({"text_config.rope_scaling.mrope_interleaved": False}, "mrope_interleaved is false"),
        ({"text_config.rope_scaling.mrope_section": [24, 40]}, "2 entries, expected 3"),
        ({"text_config.rope_scaling.mrope_section": [24, 20, 21]}, "sums to 65, expected half of"),
        ({"text_config.rope_scaling.mrope_section": [10, 10, 44]}, "cannot be interleaved"),
        (
            {"text_config.rope_scaling.mrope_section": "24"},
            r'is "24", expected a list of integers',
        ),
        ({"text_config.hidden_act": "gelu"}, r'hidden_act is "gelu", expected "silu"'),
        ({"text_config.attention_bias": True}, "attention_bias is true, expected false"),
        ({"text_config.num_experts": 128}, "num_experts is 128, expected 0"),
        ({"vision_config.hidden_act": "silu"}, r'expected "gelu_pytorch_tanh"'),
        ({"vision_config.num_heads": 7}, "cannot be shared evenly by 7 heads"),
        ({"vision_config.num_heads": 64}, "18 wide, expected a multiple of 4"),
        ({"vision_config.num_position_embeddings": 2300}, "2300 is not a square"),
        ({"vision_config.deepstack_visual_indexes": [8, 16, 27]}, "27 blocks, counted from 0"),
        ({"vision_config.deepstack_visual_indexes": [16, 8, 24]}, "do not rise"),
        ({"vision_config.rope_parameters": {"rope_theta": 5e6}}, "rope_theta is 5000000"),
    ],
    ids=str,
)
def test_what_is_not_qwen3_vl_is_refused_by_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(changes)


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        ("qwen2_vl", "Qwen2-VL"),
        ("qwen2_5_vl", "Qwen2.5-VL"),
        ("qwen3_5", "Qwen3.5"),
        ("qwen3_5_moe", "Qwen3.5"),
        ("qwen3", "Qwen3, which sees no pictures"),
        ("qwen3_moe", "Qwen3, which sees no pictures"),
        ("qwen3_vl_text", "Qwen3-VL's decoder, saved without the tower"),
        ("llava", "another family"),
    ],
)
def test_another_family_is_named_and_so_is_ours(model_type: str, family: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({"model_type": model_type})
    assert str(caught.value) == (
        f"config.json is of {family} (model_type '{model_type}'), expected Qwen3-VL (one of "
        "qwen3_vl, qwen3_vl_moe); this project runs no other, give it a Qwen3-VL checkpoint"
    )


@pytest.mark.parametrize("taps", [None, []], ids=["left out", "none"])
def test_a_tower_without_deepstack_taps_is_taken_for_the_successors(
    taps: list[int] | None,
) -> None:
    """Qwen3.5 has the same tower, and a name in its config can be changed by hand."""
    changes = {"vision_config.deepstack_visual_indexes": taps, "text_config.vocab_size": 248320}
    with pytest.raises(ConfigError, match=r"no deepstack taps .* Qwen3\.5 .* \(here 248320\)"):
        read(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_config.num_experts": None}, r"no text_config\.num_experts"),
        ({"text_config.num_experts": 0}, "num_experts is 0, expected an integer of at least 1"),
        ({"text_config.num_experts": 4}, "num_experts_per_tok is 8, expected at most the 4"),
        ({"text_config.moe_intermediate_size": None}, r"no text_config\.moe_intermediate_size"),
        ({"text_config.decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        ({"text_config.decoder_sparse_step": 49}, "no layer is sparse"),
        ({"text_config.mlp_only_layers": [48]}, "beyond the decoder's 48 layers"),
        ({"text_config.norm_topk_prob": 1}, "norm_topk_prob is 1, expected true or false"),
    ],
    ids=str,
)
def test_experts_that_cannot_be_are_refused_by_field(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(changes, SPARSE_30B)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda file: None, "cannot read the model config", id="missing"),
        pytest.param(
            lambda file: file.write_text("{"), "cannot read the model config", id="cut short"
        ),
        pytest.param(
            lambda file: file.write_text("[]"), "config.json is not a JSON object", id="a list"
        ),
        pytest.param(
            lambda file: file.write_text(json.dumps({"model_type": "llama"})),
            "'llama'",
            id="another family",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=message) as caught:
        load_model_config(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
