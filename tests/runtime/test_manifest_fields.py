# SPDX-License-Identifier: Apache-2.0
"""Every field of a manifest has a form, and what has another is refused by the field's name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.manifest_fields import (
    FileEntry,
    Manifest,
    ShapeRange,
    manifest_from_dict,
)

SHAPES = {"min": [1, 1, 64], "opt": [1, 320, 64], "max": [1, 768, 64]}
GOOD: dict[str, Any] = {
    "format_version": 2,
    "flavour": "tensorrt",
    "precision": "int4",
    "vision_precision": "float16",
    "model_id": "Qwen/Qwen3-VL-2B-Instruct",
    "model_type": "qwen3_vl",
    "config_sha256": "c" * 64,
    "weights_sha256": "0" * 64,
    "cache_length": 1024,
    "max_visual_tokens": 75,
    "profiles": {"decoder.plan": [{"token_embeds": SHAPES}]},
    "tools": {"tensorrt": "10.13.0.35"},
    "gpu_architecture": "sm_87",
    "driver": "540.4.0",
    "files": {"decoder.plan": {"sha256": "f" * 64, "size_bytes": 12}},
}


def test_a_manifest_is_read_field_by_field():
    assert manifest_from_dict(GOOD) == Manifest(
        **GOOD
        | {
            "profiles": {
                "decoder.plan": (
                    {
                        "token_embeds": ShapeRange(
                            min=(1, 1, 64), opt=(1, 320, 64), max=(1, 768, 64)
                        )
                    },
                )
            },
            "files": {"decoder.plan": FileEntry(sha256="f" * 64, size_bytes=12)},
        }
    )


@pytest.mark.parametrize("field", ["vision_precision", "gpu_architecture", "driver"])
def test_what_is_not_known_is_null(field):
    assert getattr(manifest_from_dict(GOOD | {field: None}), field) is None


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Manifest)])
def test_a_field_that_is_missing_is_named(field):
    values = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(EngineError, match=f"has no {field}") as refusal:
        manifest_from_dict(values)
    assert refusal.value.field == field


def test_a_field_nobody_knows_is_named():
    with pytest.raises(EngineError, match=r"unknown fields \['colour'\]") as refusal:
        manifest_from_dict(GOOD | {"colour": "red"})
    assert refusal.value.field == "colour"


def shapes(**changed: Any) -> dict[str, Any]:
    return {"decoder.plan": [{"token_embeds": SHAPES | changed}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("format_version", "2", id="version-as-text"),
        pytest.param("flavour", 1, id="flavour-as-number"),
        pytest.param("precision", "", id="no-precision"),
        pytest.param("precision", "int4; reboot", id="precision-for-a-shell"),
        pytest.param("precision", "--help", id="precision-as-an-option"),
        pytest.param("vision_precision", 16, id="vision-precision-as-number"),
        pytest.param("model_id", None, id="no-name-is-an-empty-one"),
        pytest.param("model_id", "Qwen\x1b[2J", id="name-for-a-terminal"),
        pytest.param("model_type", ["qwen3_vl"], id="type-in-a-list"),
        pytest.param("config_sha256", "c" * 63, id="hash-too-short"),
        pytest.param("weights_sha256", "G" * 64, id="hash-not-hexadecimal"),
        pytest.param("cache_length", "1024", id="length-as-text"),
        pytest.param("cache_length", True, id="true-is-no-number"),
        pytest.param("cache_length", 0, id="no-room"),
        pytest.param("max_visual_tokens", 75.0, id="half-a-token-is-none"),
        pytest.param("max_visual_tokens", -1, id="fewer-than-none"),
        pytest.param("profiles", [], id="profiles-in-a-list"),
        pytest.param("tools", "torch", id="tools-as-text"),
        pytest.param("gpu_architecture", "8.7", id="architecture-as-number"),
        pytest.param("gpu_architecture", "sm_87 ", id="architecture-and-a-space"),
        pytest.param("driver", "unknown", id="driver-as-a-word"),
        pytest.param("files", [], id="files-in-a-list"),
    ],
)
def test_a_field_of_another_form_is_named_with_what_it_may_be(field, value):
    with pytest.raises(EngineError, match=f"has {field} = .*, expected ") as refusal:
        manifest_from_dict(GOOD | {field: value})
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("values", "field"),
    [
        pytest.param({"tools": {"torch": 2}}, "tools.torch", id="version-as-number"),
        pytest.param(
            {"profiles": {"decoder.plan": {}}}, "profiles.decoder.plan", id="profiles-no-list"
        ),
        pytest.param(
            {"profiles": {"decoder.plan": ["x"]}}, "profiles.decoder.plan", id="profile-no-object"
        ),
        pytest.param(
            {"profiles": shapes(min=None)}, "profiles.decoder.plan.token_embeds", id="no-shape"
        ),
        pytest.param(
            {"profiles": shapes(low=[1])}, "profiles.decoder.plan.token_embeds", id="four-shapes"
        ),
        pytest.param(
            {"profiles": shapes(min=[1, 1])}, "profiles.decoder.plan.token_embeds", id="ranks"
        ),
        pytest.param(
            {"profiles": shapes(opt=[1, 769, 64])},
            "profiles.decoder.plan.token_embeds",
            id="best-above-largest",
        ),
        pytest.param(
            {"profiles": shapes(min=[1, -1, 64])},
            "profiles.decoder.plan.token_embeds",
            id="axis-below-nothing",
        ),
        pytest.param({"files": {"a": "b"}}, "files.a", id="entry-as-text"),
        pytest.param({"files": {"a": {"sha256": "f" * 64}}}, "files.a", id="entry-without-size"),
        pytest.param(
            {"files": {"a": {"sha256": "f" * 64, "size_bytes": 1, "mode": 0}}},
            "files.a",
            id="entry-with-more",
        ),
        pytest.param(
            {"files": {"a": {"sha256": "f", "size_bytes": 1}}}, "files.a", id="entry-hash"
        ),
        pytest.param(
            {"files": {"a": {"sha256": "f" * 64, "size_bytes": -1}}}, "files.a", id="entry-size"
        ),
    ],
)
def test_what_is_wrong_inside_a_field_is_named_by_its_place(values, field):
    with pytest.raises(EngineError, match="expected") as refusal:
        manifest_from_dict(GOOD | values)
    assert refusal.value.field == field


def test_a_wrong_value_is_shown_but_not_at_any_length():
    with pytest.raises(EngineError) as refusal:
        manifest_from_dict(GOOD | {"driver": "x" * 10_000})
    assert len(str(refusal.value)) < 200
