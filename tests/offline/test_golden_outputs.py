# SPDX-License-Identifier: Apache-2.0
"""What an exporter writes for an engine to be held against."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.image.preprocess import load_preprocess_config, patches_from_image
from qwen3vl_ros.language.prompt import prompt_from_query
from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.model.golden import MOST_ANSWER_TOKENS, read_golden
from qwen3vl_ros.model.golden_check import check_golden
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline import golden_outputs
from qwen3vl_ros.offline.checkpoint import checked_files, load_checkpoint
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.export_memory import export_memory_bytes
from qwen3vl_ros.offline.family import RELEASED
from qwen3vl_ros.offline.recipes import load_recipe
from qwen3vl_ros.offline.reference_generation import encode_pictures, generate_greedy
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.streamed_reference import StreamedReference
from qwen3vl_ros.offline.tensorrt_export import export_for_tensorrt
from qwen3vl_ros.runtime import engine_memory
from qwen3vl_ros.runtime.manifest import read_manifest

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"
SHIPPED = TINY / "onnxruntime-int4" / "golden.npz"
# Of random weights; what trained ones cost is held by tests/model/test_golden_check.py.
PRECISIONS = ("float32", "bfloat16", "float16", "int8", "int4", "int4-128", "int4-a16")


def test_outputs_are_what_the_reference_says_when_it_is_loaded_whole(
    random_checkpoint, random_engines
):
    golden = read_golden(random_engines["int4"] / "golden.npz")
    model = load_checkpoint(random_checkpoint).eval()
    tokenizer = load_tokenizer(random_checkpoint)
    patches = patches_from_image(golden.image, load_preprocess_config(random_checkpoint))
    prompt = prompt_from_query(golden.query, patches.grid_thw, tokenizer, model.config)
    np.testing.assert_array_equal(golden.input_ids, prompt.input_ids)
    with torch.no_grad():
        visual = encode_pictures(model, torch.from_numpy(patches.pixel_values), patches.grid_thw)
    rows = golden.visual_rows
    np.testing.assert_allclose(
        golden.image_embeds, visual.image_embeds.numpy()[rows], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        golden.deepstack_embeds, visual.deepstack_embeds.numpy()[:, rows], rtol=1e-4, atol=1e-4
    )
    answer = generate_greedy(
        model,
        prompt.input_ids,
        patches.pixel_values,
        patches.grid_thw,
        max_new_tokens=MOST_ANSWER_TOKENS,
        stop_ids=frozenset(tokenizer.eos_token_ids),
    )
    said = golden.answer_ids.tolist()
    assert said == answer[: len(said)]
    assert golden.answer_text == tokenizer.decode(said)
    assert golden.weights_sha256 == read_manifest(random_engines["int4"]).weights_sha256


@pytest.mark.parametrize("precision", PRECISIONS)
def test_random_weights_are_within_the_limits_of_every_precision(random_engines, precision):
    directory = random_engines[precision]
    numbers = check_golden(LocalModel.load(directory, threads=1), directory)
    assert numbers is not None
    assert numbers.overlap is None, "babble holds no boxes"


def test_every_precision_of_a_checkpoint_carries_the_same_outputs(random_engines):
    files = {(random_engines[name] / "golden.npz").read_bytes() for name in PRECISIONS}
    assert len(files) == 1


def test_the_reference_is_asked_once_for_all_precisions(random_checkpoint, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(golden_outputs, "golden_outputs", lambda *args, **_: asked.append(args))
    export_checkpoint(random_checkpoint, tmp_path / "a", precision="int8", cache_length=384)
    assert asked == []


def test_without_room_for_the_question_there_are_none_and_somebody_is_told(
    random_checkpoint, tmp_path, caplog
):
    with caplog.at_level(logging.WARNING):
        export_checkpoint(random_checkpoint, tmp_path / "a", precision="int4", cache_length=80)
    (warning,) = caplog.messages
    assert "no golden outputs: the question takes" in warning
    assert "golden.npz" not in read_manifest(tmp_path / "a").files


def test_whoever_wants_none_gets_none(random_checkpoint, tmp_path, caplog):
    export_checkpoint(
        random_checkpoint, tmp_path / "a", precision="int4", cache_length=384, golden=False
    )
    assert "golden.npz" not in read_manifest(tmp_path / "a").files
    assert caplog.messages == []


def for_onnx_runtime(checkpoint: Path, directory: Path) -> None:
    export_checkpoint(checkpoint, directory, precision="int4", cache_length=384)


def for_tensorrt(checkpoint: Path, directory: Path) -> None:
    export_for_tensorrt(checkpoint, directory, load_recipe("orin-nano").choices)


@pytest.mark.parametrize("export", [for_onnx_runtime, for_tensorrt])
def test_an_export_that_memory_is_too_short_for_is_refused_before_it_begins(
    random_checkpoint, tmp_path, monkeypatch, export
):
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 500_000_000)
    with pytest.raises(
        EngineError, match=r"the export needs about 0\.7\d GB .* 0\.50 GB are free"
    ):
        export(random_checkpoint, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "least_gb", "most_gb"), [("2B", 1.3, 2.5), ("8B", 1.8, 4), ("30B-A3B", 4.5, 8)]
)
def test_an_export_of_a_released_shape_needs_far_less_than_its_weights(size, least_gb, most_gb):
    needed = export_memory_bytes(RELEASED[size], golden=True) / 1e9
    assert least_gb < needed < most_gb
    assert export_memory_bytes(RELEASED[size], golden=False) / 1e9 < needed


@pytest.mark.parametrize(("size", "least_gb", "most_gb"), [("2B", 2.5, 4), ("8B", 7, 10)])
def test_to_calibrate_takes_more_memory_and_that_is_said(size, least_gb, most_gb):
    """The squares of 8B's widest linear alone: 12288 x 12288, a float32 and three float64."""
    config = RELEASED[size]
    needed = export_memory_bytes(config, golden=True, calibrated=True)
    assert needed > export_memory_bytes(config, golden=True)
    assert needed > 28 * config.text.intermediate_size**2
    assert least_gb < needed / 1e9 < most_gb


@pytest.mark.parametrize(
    ("true_answer", "most_passes"),
    [
        pytest.param("[]", 50, id="a draft that is wrong from its first token"),
        pytest.param(golden_outputs.TRUE_ANSWER, 50, id="a draft that is right in parts"),
    ],
)
def test_a_draft_changes_how_long_it_takes_and_nothing_else(
    random_checkpoint, random_engines, monkeypatch, true_answer, most_passes
):
    monkeypatch.setattr(golden_outputs, "TRUE_ANSWER", true_answer)
    monkeypatch.setattr(golden_outputs, "MOST_PASSES", most_passes)
    files = checked_files(random_checkpoint, load_model_config(random_checkpoint))
    golden = golden_outputs.golden_outputs(
        random_checkpoint, StoredWeights(files=files), weights_sha256="0" * 64
    )
    model, tokenizer = load_checkpoint(random_checkpoint).eval(), load_tokenizer(random_checkpoint)
    patches = patches_from_image(golden.image, load_preprocess_config(random_checkpoint))
    token_by_token = generate_greedy(
        model,
        golden.input_ids,
        patches.pixel_values,
        patches.grid_thw,
        max_new_tokens=MOST_ANSWER_TOKENS,
        stop_ids=frozenset(tokenizer.eos_token_ids),
    )
    assert golden.answer_ids.tolist() == token_by_token


def test_a_checkpoint_that_says_anything_else_is_not_asked_for_ever(random_engines):
    golden = read_golden(random_engines["int4"] / "golden.npz")
    assert golden_outputs.MOST_PASSES < len(golden.answer_ids) <= MOST_ANSWER_TOKENS


def test_the_tiny_checkpoints_answer_takes_seven_passes_and_not_forty(monkeypatch):
    passes = []
    decode = StreamedReference.decode

    def count(self: StreamedReference, token_ids: Any, **kwargs: Any) -> Any:
        passes.append(len(token_ids))
        return decode(self, token_ids, **kwargs)

    monkeypatch.setattr(StreamedReference, "decode", count)
    files = checked_files(TINY / "checkpoint", load_model_config(TINY / "checkpoint"))
    golden = golden_outputs.golden_outputs(
        TINY / "checkpoint", StoredWeights(files=files), weights_sha256="0" * 64
    )
    assert golden.answer_ids.tolist() == read_golden(SHIPPED).answer_ids.tolist()
    assert len(passes) == 7
    assert passes[0] == 40, "the whole of the true answer goes along"
