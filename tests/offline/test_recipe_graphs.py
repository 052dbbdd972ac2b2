# SPDX-License-Identifier: Apache-2.0
"""The graphs that plans are built from: what they are limited to, and when they are used again."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.offline.recipe_graphs import graphs_for_recipe, what_differs
from qwen3vl_ros.offline.recipes import load_recipe
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.runtime.manifest import read_manifest
from tests.offline.conftest import TINY
from tests.rehashed import with_hashes_made_to_fit

RECIPE = load_recipe("rtx-ada")


def test_pictures_larger_than_a_recipe_takes_will_be_scaled_not_refused(tmp_path):
    recipe = dataclasses.replace(
        RECIPE, image_tokens=dataclasses.replace(RECIPE.image_tokens, min=16, opt=40, max=40)
    )
    graphs_for_recipe(TINY, tmp_path / "graphs", recipe)
    preprocessor = json.loads((tmp_path / "graphs" / "preprocessor_config.json").read_text())
    assert preprocessor["size"] == {"shortest_edge": 16384, "longest_edge": 40 * 32 * 32}
    assert read_manifest(tmp_path / "graphs").max_visual_tokens == 40


def test_pictures_smaller_than_a_checkpoint_makes_are_refused(tmp_path):
    tokens = dataclasses.replace(RECIPE.image_tokens, min=1, opt=8, max=8)
    recipe = dataclasses.replace(RECIPE, image_tokens=tokens)
    with pytest.raises(ConfigError, match=r"limited to 8, and this checkpoint's smallest .* 16"):
        graphs_for_recipe(TINY, tmp_path / "graphs", recipe)


@pytest.fixture
def graphs(tiny_graphs: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint's graphs, to be changed."""
    return Path(shutil.copytree(tiny_graphs(RECIPE), tmp_path / "graphs"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be changed."""
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


def test_graphs_are_used_again_where_exporting_them_would_give_the_same(graphs):
    before = (graphs / "manifest.json").stat().st_mtime_ns
    said: list[str] = []
    assert not graphs_for_recipe(TINY, graphs, RECIPE, on_outdated=said.append)
    assert said == []
    assert (graphs / "manifest.json").stat().st_mtime_ns == before


def test_graphs_that_are_outdated_are_exported_again_and_it_is_said_why(graphs):
    recipe, said = dataclasses.replace(RECIPE, precision="float16"), list[str]()
    assert graphs_for_recipe(TINY, graphs, recipe, on_outdated=said.append)
    assert said == ["precision was int4, is float16"]
    assert what_differs(TINY, graphs, recipe) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"precision": "int4-128"}, "precision was int4, is int4-128", id="precision"),
        pytest.param(
            {"vision_precision": "float32"}, "vision_precision was float16, is float32", id="tower"
        ),
        pytest.param({"cache_length": 8192}, "cache_length was 4096, is 8192", id="cache"),
        pytest.param(
            {"operators": OperatorSet.PLAIN}, "operators was fused, is plain", id="operators"
        ),
        pytest.param(
            {"image_tokens": dataclasses.replace(RECIPE.image_tokens, min=1, opt=40, max=40)},
            "max_visual_tokens was 75, is 40",
            id="pictures",
        ),
    ],
)
def test_graphs_of_another_recipe_are_not_used(graphs, changed, words):
    assert what_differs(TINY, graphs, dataclasses.replace(RECIPE, **changed)) == words


def other_weights(checkpoint: Path) -> None:
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x2a")


def another_tokenizer(checkpoint: Path) -> None:
    with (checkpoint / "tokenizer.json").open("a") as file:
        file.write("\n")


def a_template_less(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").unlink()


def other_colours(checkpoint: Path) -> None:
    file = checkpoint / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_mean": [0.4, 0.5, 0.5]}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(other_weights, r"weights_sha256 was \w{12}, is \w{12}", id="weights"),
        pytest.param(another_tokenizer, r"tokenizer.json was \w{12}, is \w{12}", id="tokenizer"),
        pytest.param(a_template_less, r"chat_template.jinja was \w{12}, is none", id="template"),
        pytest.param(
            other_colours, r"preprocessor_config.json is another one", id="preprocessing"
        ),
    ],
)
def test_graphs_of_another_checkpoint_are_not_used(graphs, checkpoint, change, words):
    """Tokenizer and template once came along from the checkpoint before."""
    change(checkpoint)
    assert re.fullmatch(words, what_differs(checkpoint, graphs, RECIPE) or "nothing")


def by_an_older_exporter(graphs: Path) -> None:
    """Their manifest names another version of us, as of every earlier commit."""
    file = graphs / "manifest.json"
    values = json.loads(file.read_text())
    values["tools"]["qwen3vl_ros"] = "0.0.9+0123456789ab"
    file.write_text(json.dumps(values))


def without_golden_outputs(graphs: Path) -> None:
    (graphs / "golden.npz").unlink()
    with_hashes_made_to_fit(graphs)


def damaged(graphs: Path) -> None:
    with (graphs / "vision.onnx").open("a") as file:
        file.write("x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            by_an_older_exporter,
            r"tools.qwen3vl_ros was 0\.0\.9\+0123456789ab, is \d+\.\d+\.\d+\+\w{12}",
            id="exporter",
        ),
        pytest.param(without_golden_outputs, "it came without golden outputs", id="golden"),
        pytest.param(damaged, "files.vision.onnx is not what its manifest says", id="damaged"),
        pytest.param(shutil.rmtree, "it cannot be read as graphs", id="nothing"),
    ],
)
def test_graphs_that_are_not_what_would_be_exported_now_are_not_used(graphs, change, words):
    """Graphs of an exporter since mended were built again and again."""
    change(graphs)
    assert re.fullmatch(words, what_differs(TINY, graphs, RECIPE) or "nothing")
