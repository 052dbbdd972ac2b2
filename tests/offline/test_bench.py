# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl bench` on an engine of random weights: what is measured, what is said, what is refused.

No test asks how long anything took.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen3vl_ros import cli
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline import engine_passes
from qwen3vl_ros.offline.bench_plan import sizes_that_fit
from qwen3vl_ros.offline.computer import cpu_facts
from qwen3vl_ros.runtime.flavours import GRAPH_FILES, PLAN_RUNTIMES
from qwen3vl_ros.runtime.loading import Engines, load_engines

SMALL = ("--image-tokens", "4", "6", "--text-tokens", "5", "--cached-tokens", "10", "40")
QUICK = ("--windows", "1", "3", "--rounds", "2", "--passes", "1", "--read-megabytes", "8")


@pytest.fixture(scope="module")
def report(
    random_engines: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Any]:
    """What the command writes."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    engine = ("--engines", str(random_engines["int4"]), "--threads", "1")
    assert cli.main(["bench", *SMALL, *QUICK, *engine, "--json", str(file)]) == 0
    values: Mapping[str, Any] = json.loads(file.read_text())
    return values


def stages(report: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [stage for stage in report["stages"] if stage["stage"] == kind]


def test_a_report_says_on_what_it_was_measured(report):
    assert report["cpu"]["name"]
    assert report["versions"].keys() == {"python", "onnxruntime", "numpy"}
    assert report["engine"]["precision"] == "int4"
    assert report["plan"]["threads"] == 1
    assert "not spinning" in report["running"]
    assert len(report["load_average"]["before"]) == len(report["load_average"]["after"]) == 3
    assert report["read_bandwidth_gb_s"] > 0


def test_pictures_are_encoded_and_prefilled_in_every_size(report):
    assert [stage["image_tokens"] for stage in stages(report, "vision")] == [4, 6]
    assert [stage["image_tokens"] for stage in stages(report, "prefill")] == [4, 6]


def test_one_token_is_decoded_behind_every_length_over_two_caches(report):
    single = [stage for stage in stages(report, "decode") if stage["rows"] == 1]
    assert [(stage["cached_tokens"], stage["cache_length"]) for stage in single] == [
        (10, 384),
        (10, 768),
        (40, 384),
        (40, 768),
    ]
    assert ["over_smaller_cache" in stage for stage in single] == [False, True, False, True]


def test_a_longer_cache_is_more_to_read_by_its_keys_and_values(report):
    short, long = (
        next(
            stage
            for stage in stages(report, "decode")
            if (stage["rows"], stage["cached_tokens"]) == (1, tokens)
        )
        for tokens in (10, 40)
    )
    assert long["bytes_read"] - short["bytes_read"] == 30 * 3 * (2 + 2) * 32 * 4
    assert short["bytes_read"] - 10 * 1536 == report["engine"]["bytes_of_weights_a_pass"]


def test_several_rows_are_told_beside_one(report):
    (wide,) = (stage for stage in stages(report, "decode") if stage["rows"] == 3)
    assert wide["cached_tokens"] == 10
    assert wide["over_one_row"] > 0
    assert wide["over_one_row_cpu"] > 0


def test_every_stage_has_as_many_turns_as_there_were_rounds(report):
    for stage in report["stages"]:
        assert len(stage["wall_s_by_round"]) == 2
        assert stage["wall_s"] > 0
        assert math.isfinite(stage["cpu_s"])


def test_the_table_has_a_line_for_each_stage(report, random_engines, capsys):
    engine = ("--engines", str(random_engines["int4"]), "--threads", "1")
    assert cli.main(["bench", *SMALL, *QUICK, *engine]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("vision,", "prefill,", "decode ")) for line in lines) == len(
        report["stages"]
    )
    assert any("of the memory floor" in line for line in lines)


def test_what_does_not_fit_the_cache_is_refused_with_its_size(random_engines, capsys):
    command = ["bench", *QUICK, "--cached-tokens", "383", "--image-tokens", "4"]
    assert cli.main([*command, "--engines", str(random_engines["int4"])]) == cli.EXIT_FAILED
    assert "3 rows behind 383 tokens need a cache of 386, the engine's holds 384" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx", "tensorrt-onnx"])
def test_what_onnx_runtime_does_not_run_is_not_looked_for_a_decoder_onnx(
    random_engines, tmp_path, capsys, flavour
):
    """A directory of plans ended in a decoder.onnx that was not found, after loading it all."""
    directory = Path(shutil.copytree(random_engines["int4"], tmp_path / "plans"))
    as_flavour(directory, flavour)
    assert cli.main(["bench", *QUICK, "--engines", str(directory)]) == cli.EXIT_FAILED
    (said,) = capsys.readouterr().err.splitlines()
    assert f"engines of flavour 'onnxruntime', this one is '{flavour}'" in said
    assert "InferenceStatus" in said
    assert said.endswith(f"qwen3vl export --checkpoint <checkpoint> --output {tmp_path}")


def as_flavour(directory: Path, flavour: str) -> None:
    """Calls an engine by another flavour, with what a manifest of it has to say."""
    file = directory / "manifest.json"
    values = json.loads(file.read_text()) | {"flavour": flavour}
    if flavour in PLAN_RUNTIMES:
        values["gpu_architecture"] = "sm_89"
        values["profiles"] = {plan: [] for plan in GRAPH_FILES[flavour]}
        values["tools"][flavour] = "10.15"
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("usual", "most", "sizes"),
    [
        pytest.param((300, 1024), 2000, (300, 1024), id="all"),
        pytest.param((300, 1024), 300, (300,), id="just the smaller"),
        pytest.param((300, 1024), 75, (75,), id="none: what it can"),
    ],
)
def test_an_engine_is_measured_at_the_usual_sizes_that_it_takes(usual, most, sizes):
    assert sizes_that_fit(usual, most=most) == sizes


class Listening:
    """An engine that remembers what it was fed."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.fed: list[Mapping[str, Any]] = []

    def run(self, feeds: Mapping[str, Any]) -> Any:
        self.fed.append(feeds)
        return self._engine.run(feeds)


@pytest.fixture
def decoder(random_engines: Mapping[str, Path]) -> tuple[engine_passes.EnginePasses, Listening]:
    directory = random_engines["int4"]
    loaded = load_engines(directory, threads=1)
    listening = Listening(loaded.decoder)
    engines = Engines(
        manifest=loaded.manifest,
        vision=loaded.vision,
        decoder=listening,  # type: ignore[arg-type]
        lm_head=loaded.lm_head,
        embed_tokens=loaded.embed_tokens,
        running=loaded.running,
    )
    return engine_passes.EnginePasses(engines, load_model_config(directory)), listening


def test_a_prefill_has_the_picture_amid_its_words(decoder):
    passes, listening = decoder
    passes.prefill(image_tokens=6, text_tokens=5)
    (fed,) = listening.fed
    assert fed["visual_rows"].tolist() == [[-1, -1, 0, 1, 2, 3, 4, 5, -1, -1, -1]]
    assert fed["output_rows"].tolist() == [10]
    assert fed["visual_embeds"].shape[0] == 6


def test_a_pass_of_decoding_comes_after_what_is_cached(decoder):
    passes, listening = decoder
    passes.append(rows=3, cached_tokens=40)
    (fed,) = listening.fed
    assert fed["cached_tokens"].tolist() == [40]
    assert fed["output_rows"].tolist() == [0, 1, 2]
    assert fed["token_embeds"].shape[:2] == (1, 3)


def test_a_picture_is_cut_as_square_as_its_tokens_allow(decoder):
    passes, _ = decoder
    embeds = passes.encode(image_tokens=12)
    np.testing.assert_array_equal(embeds.grid_thw, [[1, 6, 8]])


def test_a_processor_without_names_is_still_described():
    """As on the Arm cores of a Jetson."""
    facts = cpu_facts("processor : 0\nFeatures : fp asimd asimddp bf16 i8mm\nCPU part : 0xd42\n")
    assert facts["name"]
    assert facts["instructions"] == ["asimddp", "i8mm", "bf16"]
