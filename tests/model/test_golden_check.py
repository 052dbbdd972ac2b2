# SPDX-License-Identifier: Apache-2.0
"""An engine is held against the reference's answer, and what is wrong with it is seen.

The tiny engines that ship, whole and with one thing wrong each; hashes are made to fit, so that
nothing but the golden outputs can tell.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model import decoder, vision
from qwen3vl_ros.model.golden import GOLDEN_FILE
from qwen3vl_ros.model.golden_check import GoldenNumbers, check_golden
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.runtime.manifest import MANIFEST_FILE
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from tests.rehashed import with_hashes_made_to_fit

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"


def checked(directory: Path) -> GoldenNumbers | None:
    return check_golden(LocalModel.load(directory, threads=1), directory)


@pytest.fixture
def engine(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a tiny engine, to be broken."""

    def copied(precision: str) -> Path:
        return Path(shutil.copytree(TINY / f"onnxruntime-{precision}", tmp_path / precision))

    return copied


def test_the_float32_engine_says_what_the_reference_said():
    numbers = checked(TINY / "onnxruntime-float32")
    assert numbers is not None
    for rows in (numbers.image_embeds, *numbers.deepstack_embeds):
        assert rows.cosine > 0.999999
        assert rows.error < 1e-5
    assert numbers.first_error < 1e-5
    assert numbers.answer_error < 1e-5
    assert numbers.first_token_lag == 0
    assert numbers.equal_tokens == numbers.answer_tokens == 41
    assert numbers.overlap == 1
    assert "red cylinder" in numbers.answer_text


def test_four_bits_are_off_by_what_four_bits_cost():
    numbers = checked(TINY / "onnxruntime-int4")
    assert numbers is not None
    assert numbers.image_embeds.cosine > 0.999999, "the tower is in float32"
    assert 1e-3 < numbers.first_error < 0.15
    assert 1e-3 < numbers.answer_error < 0.1
    assert numbers.overlap is not None
    assert 0.9 < numbers.overlap < 1


def with_weights(directory: Path, graph: str, change: Callable[[str, np.ndarray], Any]) -> None:
    """Change a graph's weights in place, by name; the manifest fits afterwards."""
    model = onnx.load(directory / graph)
    changed = 0
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight).copy()
        if change(weight.name, values) is not None:
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
            changed += 1
    assert changed
    (directory / f"{graph}.data").unlink()
    onnx.save(model, directory / graph, save_as_external_data=True, location=f"{graph}.data")
    with_hashes_made_to_fit(directory)


def a_tap_is_zeroed(directory: Path) -> None:
    def zero(name: str, weight: np.ndarray) -> bool | None:
        if ".deepstack_merger_list.1.linear_fc2." not in name:
            return None
        weight[...] = 0
        return True

    with_weights(directory, "vision.onnx", zero)


def a_tap_is_twice_as_long(directory: Path) -> None:
    """Its direction is right."""

    def double(name: str, weight: np.ndarray) -> bool | None:
        if ".deepstack_merger_list.2.linear_fc2." not in name:
            return None
        weight *= 2
        return True

    with_weights(directory, "vision.onnx", double)


def a_layer_is_of_another_model(directory: Path) -> None:
    def shuffle(name: str, weight: np.ndarray) -> bool | None:
        if "layers.3.mlp." not in name or weight.ndim < 2:
            return None
        weight[...] = np.random.default_rng(0).permutation(weight, axis=0)
        return True

    with_weights(directory, "decoder.onnx", shuffle)


def the_weights_are_of_another_model(directory: Path) -> None:
    """A file of the same size and kind, whose hash is in the manifest."""

    def shuffle(name: str, weight: np.ndarray) -> bool | None:
        if weight.ndim < 2:
            return None
        weight[...] = np.random.default_rng(0).permutation(weight, axis=0)
        return True

    with_weights(directory, "decoder.onnx", shuffle)


def the_table_is_of_another_model(directory: Path) -> None:
    table = np.load(directory / "embed_tokens.npy")
    np.save(directory / "embed_tokens.npy", np.roll(table, 1, axis=0))
    with_hashes_made_to_fit(directory)


@pytest.mark.parametrize(
    ("damage", "precision", "message"),
    [
        pytest.param(
            a_tap_is_zeroed,
            "float32",
            r"deepstack tap 1 have a cosine of 0\.000000, expected at least 0\.99999; .*off by 1",
            id="a tap is zeroed",
        ),
        pytest.param(
            a_tap_is_zeroed, "int4", r"deepstack tap 1 have a cosine of 0", id="the same, in int4"
        ),
        pytest.param(
            a_tap_is_twice_as_long,
            "int4",
            r"picture: deepstack tap 2 are off by 1 of",
            id="length",
        ),
        pytest.param(
            a_layer_is_of_another_model, "float32", r"logits along the answer are off by", id="mlp"
        ),
        pytest.param(
            the_weights_are_of_another_model, "int4", r"first logits are off by", id="weights"
        ),
        pytest.param(
            the_table_is_of_another_model, "int4", r"logits along the answer", id="table"
        ),
    ],
)
def test_weights_that_are_wrong_are_seen_where_every_hash_is_right(
    engine, damage, precision, message
):
    directory = engine(precision)
    damage(directory)
    with pytest.raises(EngineError, match=message) as refusal:
        checked(directory)
    assert refusal.value.field == "", "no field of the manifest says so"
    assert f"--precision {precision}" in str(refusal.value), "the command that builds it again"


def tower_rows_and_columns_swapped(patch: pytest.MonkeyPatch) -> None:
    right = vision.vision_rotary

    def swapped(*args: Any, **kwargs: Any) -> tuple[np.ndarray, ...]:
        return tuple(
            np.roll(angles, angles.shape[1] // 2, axis=1) for angles in right(*args, **kwargs)
        )

    patch.setattr(vision, "vision_rotary", swapped)


def decoder_rows_and_columns_swapped(patch: pytest.MonkeyPatch) -> None:
    right = decoder.text_positions

    def swapped(*args: Any) -> tuple[np.ndarray, int]:
        position_ids, rope_delta = right(*args)
        return position_ids[[0, 2, 1]], rope_delta

    patch.setattr(decoder, "text_positions", swapped)


def cosine_and_sine_swapped(patch: pytest.MonkeyPatch) -> None:
    right = decoder.text_rotary
    patch.setattr(decoder, "text_rotary", lambda *args: right(*args)[::-1])


@pytest.mark.parametrize(
    ("mistake", "precision", "message"),
    [
        pytest.param(tower_rows_and_columns_swapped, "int4", "image rows", id="tower"),
        pytest.param(decoder_rows_and_columns_swapped, "float32", "first logits", id="decoder"),
        pytest.param(cosine_and_sine_swapped, "int4", "boxes overlap .* by 0.000", id="angles"),
    ],
)
def test_a_rotary_axis_swapped_is_seen(monkeypatch, mistake, precision, message):
    vision._positions.cache_clear()
    mistake(monkeypatch)
    with pytest.raises(EngineError, match=message):
        checked(TINY / f"onnxruntime-{precision}")
    vision._positions.cache_clear()


def test_a_tap_that_never_reaches_the_decoder_is_seen_in_four_bits(monkeypatch):
    """The tower is right, and the first token is a fence whatever the picture shows."""
    right = decoder._joined

    def without_tap(visuals: Any) -> vision.VisualEmbeds:
        visual = right(visuals)
        taps = visual.deepstack_embeds.copy()
        taps[1] = 0
        return dataclasses.replace(visual, deepstack_embeds=taps)

    monkeypatch.setattr(decoder, "_joined", without_tap)
    with pytest.raises(EngineError, match=r"picture: its boxes overlap the reference's by 0\.000"):
        checked(TINY / "onnxruntime-int4")


def test_another_tokenizer_is_seen(engine):
    directory = engine("int4")
    file = directory / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>assistant", "<|im_start|> assistant"))
    config = directory / "preprocessor_config.json"
    config.write_text(config.read_text().replace('"longest_edge": 76800', '"longest_edge": 50000'))
    with_hashes_made_to_fit(directory)
    with pytest.raises(EngineError, match="tokenizer, template or preprocessing"):
        checked(directory)


def test_an_engine_without_golden_outputs_is_not_called_right(engine):
    directory = engine("int4")
    (directory / GOLDEN_FILE).unlink()
    with_hashes_made_to_fit(directory)
    assert checked(directory) is None


def as_a_plan(directory: Path, *, window: int) -> None:
    """The manifest of a plan with such a decode window, in the place of a loaded engine's."""
    file = directory / MANIFEST_FILE
    rows = {"output_rows": {"min": [1], "opt": [1], "max": [window]}}
    profiles = {"vision.plan": [], "decoder.plan": [rows, rows], "lm_head.plan": []}
    values = json.loads(file.read_text())
    values |= {"flavour": "tensorrt", "gpu_architecture": "sm_87", "profiles": profiles}
    values["tools"]["tensorrt"] = "10.3.0"
    file.write_text(json.dumps(values))


@pytest.mark.parametrize("window", [1, 16])
def test_a_plan_is_asked_for_no_more_rows_at_once_than_it_gives(engine, monkeypatch, window):
    """An answer of 41 tokens was followed in one pass, which no recipe's plan takes."""
    directory, run, asked = engine("float32"), OnnxRuntimeEngine.run, []

    def narrow(self: OnnxRuntimeEngine, feeds: dict[str, Any]) -> dict[str, Any]:
        asked.append(len(feeds.get("output_rows", ())))
        return run(self, feeds)

    model = LocalModel.load(directory, threads=1)
    as_a_plan(directory, window=window)
    monkeypatch.setattr(OnnxRuntimeEngine, "run", narrow)
    numbers = check_golden(model, directory)
    assert max(asked) == window
    assert numbers is not None
    assert numbers.answer_error < 1e-5
