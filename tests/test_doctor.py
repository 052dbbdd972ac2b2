# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl doctor`: what it says of an engine that is right, one that is not, and of none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros import cli
from qwen3vl_ros.commands.examination import Level, examine
from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.runtime import engine_memory, onnxruntime_engine
from tests.rehashed import with_hashes_made_to_fit

TINY = Path(__file__).resolve().parents[1] / "engines" / "tiny" / "onnxruntime-int4"
STEPS = ["versions", "machine", "manifest", "files", "taught", "memory", "runtime", "golden"]


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A copy of the tiny engine, to be broken."""
    return Path(shutil.copytree(TINY, tmp_path / "engine"))


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Exit code, and the lines it printed, all of them on stdout."""
    code = cli.main(["doctor", "--threads", "1", *arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return code, out.splitlines()


def test_a_right_engine_is_told_step_by_step_and_ends_in_one_verdict(capsys):
    code, lines = doctor(capsys)
    assert code == 0
    assert [line.split()[0] for line in lines] == ["engine", *STEPS, "verdict"]
    said = dict(line.split(maxsplit=1) for line in lines)
    assert "onnxruntime" in said["versions"]
    assert "int4, tower float32, cache of 1024 tokens" in said["manifest"]
    assert "sizes and sha256 as the manifest says" in said["files"]
    assert said["memory"].startswith("needs about 0.")
    assert "on CPUExecutionProvider, 1 threads, not spinning" in said["runtime"]
    assert said["golden"].startswith("vision cosine 1.000000, taps 1.000000, 1.000000, 1.000000")
    assert said["verdict"].startswith("ok: ")


def test_the_same_as_json(capsys):
    code, lines = doctor(capsys, "--engine", str(TINY), "--json")
    report = json.loads("\n".join(lines))
    assert code == 0
    assert (report["engine_dir"], report["verdict"]) == (str(TINY), "ok")
    facts = {one["step"]: one["facts"] for one in report["findings"]}
    assert list(facts) == STEPS
    assert {one["level"] for one in report["findings"]} == {"ok"}
    assert facts["manifest"]["precision"] == "int4"
    assert facts["golden"]["image_embeds"]["cosine"] > 0.999999
    assert facts["golden"]["answer_error"] < 0.1
    assert facts["memory"]["total"] < facts["memory"]["free"]
    assert facts["runtime"]["on"] == ["CPUExecutionProvider"]


def test_an_engine_that_is_not_right_fails_with_the_numbers_and_the_command(capsys, engine):
    np.save(engine / "embed_tokens.npy", np.roll(np.load(engine / "embed_tokens.npy"), 1, axis=0))
    with_hashes_made_to_fit(engine)
    code, lines = doctor(capsys, "--engines", str(engine))
    assert code == 1
    assert lines[-2].startswith("golden    FAIL: the engine does not say what the checkpoint's")
    assert "first logits are off by" in lines[-2]
    assert f"qwen3vl export --checkpoint <checkpoint> --output {engine.parent}" in lines[-2]
    assert lines[-1] == "verdict   fail: do not use this engine here"


def test_what_an_engine_was_taught_is_said(capsys, engine):
    (engine / "grounding.json").write_text('{"tasks": ["refer"], "labels_note": "solids"}')
    with_hashes_made_to_fit(engine)
    code, lines = doctor(capsys, "--engines", str(engine))
    assert code == 0
    assert "taught    refer (solids)" in lines


def test_what_says_no_task_of_ours_fails(capsys, engine):
    (engine / "grounding.json").write_text('{"tasks": ["fly"]}')
    with_hashes_made_to_fit(engine)
    code, lines = doctor(capsys, "--engines", str(engine))
    assert code == 1
    assert lines[-2].startswith('taught    FAIL: grounding.json says tasks = ["fly"], expected')


def test_a_damaged_file_fails_and_nothing_is_loaded_after_it(capsys, engine):
    with (engine / "vision.onnx.data").open("r+b") as file:
        file.write(b"\xff")
    code, lines = doctor(capsys, "--engines", str(engine))
    assert code == 1
    assert "files     FAIL: the engine's vision.onnx.data has sha256" in lines[-2]
    assert not any(line.startswith(("runtime", "golden")) for line in lines)


def test_an_engine_that_nobody_can_check_is_a_warning(capsys, engine):
    (engine / "golden.npz").unlink()
    with_hashes_made_to_fit(engine)
    code, lines = doctor(capsys, "--engines", str(engine))
    assert code == 0
    assert lines[-2].startswith("golden    WARN: the engine came without golden outputs")
    assert lines[-1].startswith("verdict   warn: ")


def test_an_engine_too_large_for_what_is_free_fails_before_it_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 50_000_000)
    code, lines = doctor(capsys)
    assert code == 1
    assert lines[-2].startswith("memory    FAIL: the engine needs about 0.")


def test_the_hosts_memory_says_nothing_of_an_engine_on_a_gpu(monkeypatch):
    """Weights of 8B on a card of 24 GB were refused on a host of 16."""
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime_engine, "installed_providers", lambda: both)
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 50_000_000)

    def load() -> LocalModel:
        raise EngineError("there is no card here")

    found = {one.step: one for one in examine(TINY, load, providers=None).findings}
    assert found["memory"].level is Level.OK
    assert found["memory"].text == "not estimated for what runs on a GPU"
    assert found["runtime"].text == "there is no card here"
    on_host = examine(TINY, load, providers=["cpu"]).findings[-1]
    assert (on_host.step, on_host.level) == ("memory", Level.FAIL)


def test_a_provider_that_is_not_installed_fails(capsys):
    code, lines = doctor(capsys, "--providers", "cuda")
    assert code == 1
    assert lines[-2].startswith("runtime   FAIL: execution providers ['CUDAExecutionProvider']")


def test_no_engine_at_all_fails_and_json_says_so_too(capsys, tmp_path):
    code, lines = doctor(capsys, "--engines", str(tmp_path / "none"), "--json")
    report = json.loads("\n".join(lines))
    assert code == 1
    assert report["verdict"] == "fail"
    assert report["findings"][-1]["step"] == "files"
    assert "no engine directory" in report["findings"][-1]["text"]
