# SPDX-License-Identifier: Apache-2.0
"""A cache in int8: what it holds, what it costs, and that what is asked for is what is loaded."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from qwen3vl_ros import cli
from qwen3vl_ros.errors import CheckpointError, ConfigError, EngineError
from qwen3vl_ros.image.positions import text_positions, text_rotary
from qwen3vl_ros.model.decoder import Decoder
from qwen3vl_ros.model.golden_check import check_golden
from qwen3vl_ros.model.golden_tolerances import decoder_tolerance
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.vision import VisualEmbeds
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline import calibration
from qwen3vl_ros.offline.agreement import (
    EngineSpeaker,
    agreement,
    said_by_reference,
    taught_questions,
)
from qwen3vl_ros.offline.bench import bench
from qwen3vl_ros.offline.bench_plan import BenchPlan
from qwen3vl_ros.offline.cache_ranges import MARGIN, CacheRanges
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.precisions import (
    precision_from_name,
    with_cache,
    with_calibration,
    with_tower,
)
from qwen3vl_ros.offline.reference_decoder import KVCache
from qwen3vl_ros.offline.tensorrt_choices import GraphChoices, OperatorSet
from qwen3vl_ros.runtime.engine_memory import memory_needed
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import read_manifest
from tests.offline.engines import graph_of, relative_error

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"
PROMPT, ANSWER = np.arange(100, 140), np.arange(60, 70)


@pytest.fixture(scope="module")
def engine(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random checkpoint's, weights whole."""
    directory = tmp_path_factory.mktemp("cache") / "onnxruntime-float32-cache8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "SCENES_FOR_CACHE", 1)
        export_checkpoint(
            random_checkpoint,
            directory,
            precision="float32-cache8",
            cache_length=384,
            golden=False,
        )
    return directory


@pytest.fixture(scope="module")
def whole(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a cache in float32."""
    directory = tmp_path_factory.mktemp("whole") / "onnxruntime-float32"
    export_checkpoint(
        random_checkpoint, directory, precision="float32", cache_length=384, golden=False
    )
    return directory


@pytest.fixture
def decoder(engine: Path) -> Decoder:
    engines = load_engines(engine, threads=1)
    return Decoder(
        engines.decoder,
        engines.lm_head,
        engines.embed_tokens,
        load_model_config(engine),
        cache_length=engines.manifest.cache_length,
        stop_token_ids=(),
    )


def scales_of(engine: Path) -> Mapping[str, torch.Tensor]:
    """By "key_0.scales" and so on, (1, kv_heads, 1, head_dim)."""
    graph = onnx.load(engine / "decoder.onnx").graph
    return {
        weight.name: torch.from_numpy(numpy_helper.to_array(weight).copy())
        for weight in graph.initializer
        if weight.name.startswith(("key_", "value_"))
    }


def test_a_scale_is_the_largest_of_its_channel_and_some_room(random_checkpoint):
    text = load_model_config(random_checkpoint).text
    ranges = CacheRanges(text)
    k = torch.zeros(1, text.num_key_value_heads, 3, text.head_dim)
    k[0, 1, 2, 5], k[0, 1, 0, 5], k[0, 0, 0, 0] = -8.0, 4.0, 0.5
    for part in (k[:, :, :1], k[:, :, 1:]):  # of several conversations
        ranges.append(2, part, 2 * part)
    keys, values = ranges.scales(2)
    assert keys.shape == (1, text.num_key_value_heads, 1, text.head_dim)
    assert keys[0, 1, 0, 5] == pytest.approx(8 * MARGIN / 127)
    assert keys[0, 0, 0, 0] == pytest.approx(0.5 * MARGIN / 127)
    np.testing.assert_allclose(values, 2 * keys)
    assert keys.min() > 0, "a channel that was never used has a step, too"
    ranges.append(0, k.fill_(torch.nan), k)
    with pytest.raises(CheckpointError, match="layer 0 hold what is no number"):
        ranges.scales(0)


class RoundedCache(KVCache):
    """What the graph does: the first pass sees its own rows whole, later ones see all rounded."""

    scales: Mapping[str, torch.Tensor]

    def append(self, layer, k, v):
        rounded = [
            torch.clamp(torch.round(x / step), -128, 127) * step
            for x, step in (
                (k, self.scales[f"key_{layer}.scales"]),
                (v, self.scales[f"value_{layer}.scales"]),
            )
        ]
        seen = super().append(layer, *rounded)
        return (k, v) if self.length == 0 else seen


def test_an_engine_says_what_the_reference_says_over_a_cache_that_is_rounded(
    decoder, engine, random_checkpoint
):
    got = [
        decoder.prefill(PROMPT, [])[None],
        decoder.decode(ANSWER[:1]),
        decoder.decode(ANSWER[1:]),
    ]
    model = load_checkpoint(random_checkpoint).eval()
    text = model.config.text

    def said(cache: KVCache) -> np.ndarray:
        ids = np.concatenate([PROMPT, ANSWER])
        position_ids, _ = text_positions(ids, np.zeros((0, 3), np.int64), model.config)
        cos, sin = (torch.from_numpy(x)[None] for x in text_rotary(position_ids, text))
        rows = []
        with torch.no_grad():
            embeds = model.language_model.embed_tokens(torch.from_numpy(ids))[None]
            for start, end in ((0, 40), (40, 41), (41, 50)):
                part = slice(start, end)
                hidden = model.language_model(
                    embeds[:, part], cos[:, part], sin[:, part], cache=cache
                )
                rows.append(model.logits(hidden[0])[-1 if start == 0 else 0 :])
        return torch.cat(rows).numpy()

    like = torch.empty(0)
    rounded = RoundedCache(text, batch=1, capacity=64, like=like)
    rounded.scales = scales_of(engine)
    truth, whole = said(rounded), said(KVCache(text, batch=1, capacity=64, like=like))
    assert relative_error(np.concatenate(got)[:1], whole[:1]) < 1e-5, "a prompt loses nothing"
    assert relative_error(np.concatenate(got), truth) < 1e-4
    assert relative_error(whole[1:], truth[1:]) > 1e-3, "rounding is seen"


def test_a_draft_is_verified_as_it_is_decoded_and_given_up_without_a_trace(decoder):
    """All widths but one row are the same to the bit, and what lies beyond is never looked at."""
    decoder.prefill(PROMPT, [])
    whole = decoder.decode(ANSWER)
    decoder.prefill(PROMPT, [])
    decoder.decode(np.arange(150, 170))  # a draft that is not taken
    decoder.prefill(PROMPT, [])
    in_parts = [decoder.decode(ANSWER[start : start + 2]) for start in range(0, 10, 2)]
    np.testing.assert_array_equal(np.concatenate(in_parts), whole)


def test_a_second_question_about_a_picture_agrees_within_rounding_and_is_repeatable(
    decoder, random_checkpoint
):
    config = load_model_config(random_checkpoint)
    rng, width = np.random.default_rng(0), config.text.hidden_size
    visual = VisualEmbeds(
        image_embeds=rng.normal(0, 0.1, (12, width)).astype(np.float32),
        deepstack_embeds=rng.normal(0, 0.1, (3, 12, width)).astype(np.float32),
        grid_thw=np.array([[1, 8, 6]]),
    )
    ids = np.concatenate([[5, 6], np.full(12, config.image_token_id), np.arange(60, 70)])
    other = decoder.prefill(np.concatenate([ids[:16], [7, 8, 9]]), [visual])
    again = decoder.prefill(ids, [visual])
    fresh = decoder.prefill(ids, [dataclasses.replace(visual)])
    # Nothing was learned: eight-bit weights move these logits by as much.
    assert 0 < relative_error(again, fresh) < 0.05
    assert relative_error(other, fresh) > 0.5
    decoder.prefill(np.concatenate([ids[:16], [7, 8, 9]]), [dataclasses.replace(visual)])
    np.testing.assert_array_equal(decoder.prefill(ids, [dataclasses.replace(visual)]), fresh)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed checkpoint's, weights whole."""
    directory = tmp_path_factory.mktemp("tiny") / "onnxruntime-float32-cache8"
    export_checkpoint(
        TINY / "checkpoint", directory, precision="float32-cache8", cache_length=1024
    )
    return directory


def test_the_tiny_checkpoint_loses_less_than_a_per_cent_of_its_logits(tiny):
    """Eight-bit weights lose 0.6 per cent, four-bit ones 3."""
    model = load_checkpoint(TINY / "checkpoint").eval()
    speaker = EngineSpeaker(load_engines(tiny, threads=1), tiny)
    questions = taught_questions(TINY / "checkpoint", scenes=2)
    found = agreement([(speaker.said(q), said_by_reference(model, q)) for q in questions])
    assert 1e-4 < found.mean_rel < 0.005
    assert found.max_rel < 0.05
    assert found.top1 > 0.99
    assert found.image_cosine > 1 - 1e-9  # the tower is not touched


def test_its_answer_to_the_golden_picture_is_the_references_token_by_token(tiny):
    found = check_golden(LocalModel.load(tiny, threads=1), tiny)
    assert found is not None
    assert found.equal_tokens == found.answer_tokens


def test_keys_and_values_are_int8_in_the_graph_and_all_else_as_it_was(engine, whole):
    kinds, usual = (
        {
            value.name: (value.type.tensor_type.elem_type, value.type.tensor_type.shape)
            for graph in [graph_of(directory / "decoder.onnx")]
            for value in (*graph.input, *graph.output)
        }
        for directory in (engine, whole)
    )
    assert [*kinds] == [*usual]
    cache = {name for name in kinds if name.startswith(("past_", "present_"))}
    assert len(cache) == 12
    for name, (kind, shape) in kinds.items():
        assert kind == (onnx.TensorProto.INT8 if name in cache else usual[name][0])
        assert shape == usual[name][1]


def test_weights_and_cache_are_calibrated_in_one_walk(random_checkpoint, tmp_path, monkeypatch):
    walks, walk = [], calibration.taught_questions
    monkeypatch.setattr(calibration, "SCENES", 1)
    monkeypatch.setattr(
        calibration, "taught_questions", lambda *a, **k: walks.append(k) or walk(*a, **k)
    )
    arguments = ["export", "--checkpoint", str(random_checkpoint), "--output", str(tmp_path)]
    arguments += ["--precision", "int4", "--calibrate", "--cache", "int8", "--tower", "int8"]
    arguments += ["--no-golden"]
    assert cli.main(arguments) == 0
    assert walks == [{"scenes": 1, "first_seed": 0}]
    (directory,) = tmp_path.iterdir()
    assert directory.name == "onnxruntime-int4-calibrated-cache8-tower8"
    manifest = read_manifest(directory)
    assert f"onnxruntime-{manifest.precision}" == directory.name
    assert load_engines(directory, threads=1).manifest == manifest


@pytest.mark.parametrize(
    ("precision", "graph_of_engine", "kept"),
    [
        pytest.param("float32", "cache8", "float32, .* keeps past_key_0 as int8",
                     id="int8 that nobody named"),
        pytest.param("float32-cache8", "whole", "int8, .* keeps past_key_0 as float32",
                     id="named and not there"),
    ],
)  # fmt: skip
def test_a_cache_that_is_not_what_the_manifest_names_is_refused(
    engine, whole, tmp_path, precision, graph_of_engine, kept
):
    source = engine if graph_of_engine == "cache8" else whole
    directory = Path(shutil.copytree(source, tmp_path / "engine"))
    file = directory / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"precision": precision}))
    with pytest.raises(EngineError, match=f"'{precision}', whose cache is {kept}") as refusal:
        load_engines(directory, threads=1)
    assert refusal.value.field == "precision"
    assert f"--precision {precision}" in str(refusal.value)


def test_a_cache_in_int8_takes_a_quarter_and_is_read_so(engine, whole):
    plan = BenchPlan(
        image_tokens=(12,), text_tokens=4, cached_tokens=(64,), windows=(1,), rounds=1, passes=1,
        threads=1, read_megabytes=1,
    )  # fmt: skip
    read, needed = [], []
    for directory in (engine, whole):
        (decoding, _) = (s for s in bench(directory, plan)["stages"] if s["stage"] == "decode")
        read.append(decoding["bytes_read"])
        needed.append(memory_needed(read_manifest(directory), load_model_config(directory)).cache)
    numbers = 3 * 2 * 2 * 32  # layers, keys and values, heads, their width
    scales = 3 * 2 * 2 * 32 * 4
    assert needed == [numbers * 384, 4 * numbers * 384]
    assert read[1] - read[0] == pytest.approx(3 * numbers * 64 - scales, abs=64)


def test_names_hold_what_was_asked_for_in_one_order():
    name = with_tower(with_cache(with_calibration("int4-128"), "int8"), "int8")
    assert name == "int4-128-calibrated-cache8-tower8"
    assert with_calibration(with_cache("int4-128-tower8", "int8")) == name
    precision = precision_from_name(name)
    assert (precision.cached.name, precision.computed.name) == ("INT8", "FLOAT")


@pytest.mark.parametrize("name", ["float16", "int4-a16"])
def test_what_computes_in_float16_is_refused_a_cache_in_int8(name):
    with pytest.raises(ConfigError, match=f"precision is '{name}', which computes in float16"):
        with_cache(name, "int8")
    with pytest.raises(ConfigError, match=r"in int8 \(not with float16 or int4-a16\) by -cache8"):
        precision_from_name(f"{name}-cache8")


def test_tensorrts_graphs_are_refused_a_cache_in_int8():
    with pytest.raises(ConfigError, match="precision is 'int4-cache8', expected one of float32"):
        GraphChoices(
            operators=OperatorSet.FUSED,
            precision="int4-cache8",
            vision_precision="float16",
            cache_length=1024,
        )


def test_a_cache_in_int8_may_be_off_by_more_than_weights_alone(engine, whole):
    own, usual = (decoder_tolerance(read_manifest(directory)) for directory in (engine, whole))
    assert own.first_error == pytest.approx(usual.first_error + 0.05)
    assert own.answer_error == pytest.approx(usual.answer_error + 0.02)
    assert (own.overlap, usual.overlap) == (0.9, 0.99)
