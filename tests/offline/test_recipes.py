# SPDX-License-Identifier: Apache-2.0
"""Recipes: each of ours reads, and a wrong one says which field, what it is, what was expected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.offline.recipes import (
    TokenRange,
    load_recipe,
    recipe_from_dict,
    recipe_names,
    recipes_directory,
)
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_operators import operators_read_by

TARGETS = {
    "orin-nano": ("tensorrt", "10.3", "sm_87"),
    "orin-nx": ("tensorrt", "10.3", "sm_87"),
    "agx-orin": ("tensorrt", "10.3", "sm_87"),
    "thor": ("tensorrt", "10.13", "sm_110"),
    "rtx-ampere": ("tensorrt-rtx", "1.7", "sm_86"),
    "rtx-ada": ("tensorrt-rtx", "1.7", "sm_89"),
    "rtx-blackwell": ("tensorrt-rtx", "1.7", "sm_120"),
}
RIGHT = {
    "target": "a robot",
    "model_size": "2B",
    "flavour": "tensorrt",
    "tensorrt": "10.3",
    "operators": "plain",
    "precision": "int4",
    "vision_precision": "float16",
    "image_tokens": {"min": 64, "opt": 300, "max": 1024},
    "cache_length": 2048,
    "decode_window": 16,
    "gpu_architecture": "sm_87",
}


def test_every_target_has_its_recipe():
    assert set(recipe_names()) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_recipe_of_ours_reads_and_is_for_what_its_device_runs(name):
    recipe = load_recipe(name)
    assert (recipe.flavour, recipe.tensorrt, recipe.gpu_architecture) == TARGETS[name]
    assert recipe.name == name
    assert recipe.choices.max_visual_tokens == recipe.image_tokens.max


@pytest.mark.parametrize("name", TARGETS)
def test_a_recipe_of_ours_takes_operators_that_its_tensorrt_reads(name):
    recipe = load_recipe(name)
    reads_fused = {"Attention", "TensorScatter"} <= operators_read_by(recipe.release)
    assert reads_fused or recipe.operators is OperatorSet.PLAIN


def test_a_recipe_may_lie_anywhere(tmp_path):
    file = tmp_path / "my-robot.json"
    file.write_text(json.dumps(RIGHT))
    recipe = load_recipe(str(file))
    assert (recipe.name, recipe.operators) == ("my-robot", OperatorSet.PLAIN)
    assert recipe.image_tokens == TokenRange(min=64, opt=300, max=1024)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        pytest.param("target", "", "the device in words", id="no-words"),
        pytest.param("target", "a\nb", "the device in words", id="two-lines"),
        pytest.param("model_size", 2, "a size such as '2B'", id="size-number"),
        pytest.param("flavour", "onnxruntime", "one of tensorrt, tensorrt-rtx", id="flavour"),
        pytest.param("tensorrt", 10.3, "a version such as '10.3'", id="version-number"),
        pytest.param("tensorrt", "10", "a version such as '10.3'", id="version-short"),
        pytest.param("operators", "all", "one of fused, plain", id="operators"),
        pytest.param(
            "precision", "int3", "one of float32, float16, bfloat16, int8, int4", id="int3"
        ),
        pytest.param("vision_precision", "int4", "one of float32, float16", id="tower-int4"),
        pytest.param("image_tokens", 300, "counts min <= opt <= max", id="one-number"),
        pytest.param(
            "image_tokens",
            {"min": 64, "opt": 2000, "max": 1024},
            "counts min <= opt <= max",
            id="opt-above-max",
        ),
        pytest.param(
            "image_tokens", {"min": 0, "opt": 1, "max": 2}, "counts min <= opt <= max", id="zero"
        ),
        pytest.param("cache_length", True, "a count of at least 1", id="true-is-no-count"),
        pytest.param(
            "cache_length", 1040, "more than image_tokens.max and decode_window", id="short-cache"
        ),
        pytest.param("decode_window", 0, "a count of at least 1", id="no-window"),
        pytest.param("gpu_architecture", "8.7", "an architecture such as 'sm_87'", id="gpu"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_is_and_what_was_expected(field, value, expected):
    with pytest.raises(ConfigError) as refusal:
        recipe_from_dict({**RIGHT, field: value}, name="mine")
    assert f"recipe 'mine' has {field} = {value!r}, expected {expected}" in str(refusal.value)


@pytest.mark.parametrize("field", RIGHT)
def test_a_missing_field_is_named(field):
    values = {name: value for name, value in RIGHT.items() if name != field}
    with pytest.raises(ConfigError, match=f"has {field} = 'missing', expected"):
        recipe_from_dict(values, name="mine")


def test_an_unknown_field_is_named_because_it_may_be_a_misspelt_one():
    with pytest.raises(ConfigError, match="has decode_windows = 16, expected only target"):
        recipe_from_dict({**RIGHT, "decode_windows": 16}, name="mine")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{", "cannot read the recipe", id="not-json"),
        pytest.param("[]", r"is \[\], expected a JSON object", id="a-list"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, words):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_recipe(str(file))


def test_a_name_that_no_recipe_has_gets_a_list_of_those_there_are():
    with pytest.raises(ConfigError, match="recipe is 'orin', expected one of agx-orin, orin-nano"):
        load_recipe("orin")


def test_a_name_that_a_shell_would_act_on_is_refused():
    """It becomes a directory, and part of the command that a refusal prints."""
    with pytest.raises(ConfigError, match="expected letters, digits"):
        recipe_from_dict(RIGHT, name="a;b")


def test_a_recipe_and_a_build_need_no_torch():
    """A Jetson builds from graphs that were exported elsewhere."""
    code = (
        "import sys; import qwen3vl_ros.commands.build; from qwen3vl_ros.offline.recipes import "
        "load_recipe; load_recipe('orin-nano'); print(*{'torch', 'onnx', 'onnx_ir'} & "
        "set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_recipes_lie_beside_the_engines_that_come_with_the_package():
    assert recipes_directory() == Path(__file__).parents[2] / "engines" / "recipes"
