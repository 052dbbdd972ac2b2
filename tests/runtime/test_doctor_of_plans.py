# SPDX-License-Identifier: Apache-2.0
"""What `qwen3vl doctor` says of the memory of plans, with a GPU to be asked and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qwen3vl_ros.commands.examination import Finding, Level, examine
from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.runtime.manifest import ShapeRange, read_manifest, write_manifest
from tests.runtime.conftest import forget

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "onnxruntime-int4"


def fixed(*shape: int) -> ShapeRange:
    return ShapeRange(min=shape, opt=shape, max=shape)


# By hand: a cache of 6 layers, 100 kB of keys and as much of values each.
PROFILES = {
    "vision.plan": [{"pixel_values": fixed(1, 300, 1536)}],
    "decoder.plan": [
        {"token_embeds": fixed(1, 1024, 256), "output_rows": fixed(8)}
        | {
            f"past_{kind}_{n}": fixed(1, 1, 1000, 50)
            for n in range(6)
            for kind in ("key", "value")
        }
    ],
    "lm_head.plan": [{"hidden_states": fixed(1, 8, 256)}],
}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A directory as `qwen3vl build` writes it; its plans are nobody's."""
    engine = Path(shutil.copytree(TINY, tmp_path / "engine"))
    for name in ("vision", "decoder", "lm_head"):
        (engine / f"{name}.onnx.data").unlink()
        (engine / f"{name}.onnx").rename(engine / f"{name}.plan")
    told = read_manifest(engine)
    (engine / "manifest.json").unlink()
    write_manifest(
        engine,
        flavour="tensorrt-rtx",
        precision="int4",
        vision_precision="float16",
        model_type=told.model_type,
        weights_sha256=told.weights_sha256,
        cache_length=1000,
        max_visual_tokens=75,
        profiles=PROFILES,
        tools={"tensorrt-rtx": "1.7.0.60"},
        gpu_architecture="sm_87",
    )
    return engine


def memory_found(engine: Path) -> Finding:
    def load() -> LocalModel:
        raise EngineError("nothing is loaded here")

    return {one.step: one for one in examine(engine, load, providers=None).findings}["memory"]


def test_where_no_device_can_be_asked_the_need_is_told_and_what_is_free_is_unknown(engine):
    forget()  # no cuda-python here
    found = memory_found(engine)
    assert found.level is Level.OK
    assert found.text.startswith("needs about 0.0")
    assert "estimate, not yet run on hardware" in found.text
    assert found.text.endswith("on the GPU, an unknown amount is free")
    assert found.facts["cache"] == 6 * 2 * 100_000
    assert found.facts["free"] is None


def test_a_device_is_asked_what_it_has_free(engine, tensorrt_engine, cuda):
    found = memory_found(engine)
    assert found.level is Level.OK
    assert found.text.endswith("on the GPU, 1.00 GB are free")
    assert found.facts["free"] == cuda.free_bytes


def test_too_little_is_a_warning_because_the_estimate_was_never_held_against_a_gpu(
    engine, tensorrt_engine, cuda
):
    cuda.free_bytes = 1_000_000
    found = memory_found(engine)
    assert found.level is Level.WARN
    assert found.text.endswith("on the GPU, 0.00 GB are free")


def test_a_driver_without_a_device_has_an_unknown_amount_free(engine, tensorrt_engine, cuda):
    cuda.has_device = False
    assert memory_found(engine).text.endswith("an unknown amount is free")


@pytest.mark.parametrize(
    "profiles",
    [
        pytest.param([], id="none"),
        pytest.param([{"output_rows": {"min": [1], "opt": [1], "max": [8]}}], id="few inputs"),
    ],
)
def test_profiles_that_are_no_decoders_are_a_finding_and_no_traceback(engine, profiles):
    values = json.loads((engine / "manifest.json").read_text())
    values["profiles"]["decoder.plan"] = profiles
    (engine / "manifest.json").write_text(json.dumps(values))
    found = memory_found(engine)
    assert found.level is Level.FAIL
    assert found.text.startswith("manifest.json has profiles that are no engine's (")
