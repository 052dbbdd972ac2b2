# SPDX-License-Identifier: Apache-2.0
"""The node with real engines of random weights: everything runs, and nonsense is not "nothing"."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.ros.asked_model import load_perception
from tests.rehashed import with_hashes_made_to_fit
from tests.ros.graph import image_message

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE


@pytest.fixture
def engine_dir(random_engines, tmp_path):
    """A copy that a test may damage."""
    directory = tmp_path / "engine"
    shutil.copytree(random_engines["int4"], directory)
    return directory


def test_a_real_engine_looks_at_a_picture_and_its_babble_is_not_nothing_there(world, engine_dir):
    node = world.start(load=load_perception, engine_dir=str(engine_dir), threads=1, max_objects=1)
    assert node.is_active
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    stamp_ns = world.send(image_message(noise))
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.UNREADABLE
    assert status.answer_text
    assert world.at("~/detections_2d", stamp_ns) == []
    assert status.image_tokens == 70
    assert status.prompt_tokens > status.image_tokens
    assert status.answer_tokens > 0
    stages = [status.preprocess_s, status.vision_s, status.prefill_s, status.decode_s]
    assert all(seconds > 0 for seconds in stages)
    assert np.isnan(status.lift_s), "not reached"
    assert sum(stages) <= status.total_s


def test_a_smaller_budget_of_pixels_is_fewer_image_tokens(world, engine_dir):
    """20480 pixels have the aspect of 640 x 480 at 160 x 96: 5 by 3 tokens."""
    world.start(
        load=load_perception,
        engine_dir=str(engine_dir),
        threads=1,
        max_objects=1,
        max_pixels=20 * 1024,
    )
    stamp_ns = world.send(image_message(np.zeros((480, 640, 3), np.uint8)))
    assert world.status_of(stamp_ns).image_tokens == 15


def test_a_manifest_that_does_not_match_is_named_and_the_node_configures_once_it_is_mended(
    world, engine_dir, capfd
):
    manifest = engine_dir / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(good), "config_sha256": "0" * 64}))
    node = world.start(load=load_perception, engine_dir=str(engine_dir), threads=1)
    assert not node.is_active
    shown = world.diagnostic("engine", b"\x02", "config.json with sha256 000000000000")
    assert "config_sha256" in [value.value for value in shown.values]
    errors = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert "config.json with sha256 000000000000" in errors[0]
    manifest.write_text(good)
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    world.diagnostic("engine", b"\x00")


def test_a_damaged_file_is_refused_before_it_is_opened(world, engine_dir):
    graph = engine_dir / "decoder.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    node = world.start(load=load_perception, engine_dir=str(engine_dir), threads=1)
    assert not node.is_active
    world.diagnostic("engine", b"\x02", "decoder.onnx")


def test_an_engine_that_is_not_right_is_refused_with_the_numbers(world, engine_dir, capfd):
    """Every hash is right, and the rows of the embedding table are not."""
    table = np.load(engine_dir / "embed_tokens.npy")
    np.save(engine_dir / "embed_tokens.npy", np.roll(table, 1, axis=0))
    with_hashes_made_to_fit(engine_dir)
    node = world.start(load=load_perception, engine_dir=str(engine_dir), threads=1)
    assert not node.is_active
    shown = world.diagnostic("engine", b"\x02", "the logits along the answer are off by")
    assert "not reached" in {value.key: value.value for value in shown.values}["golden_check"]
    (error,) = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert "cannot configure: the engine does not say what the checkpoint's reference" in error
    assert "qwen3vl export --checkpoint" in error
    assert node.trigger_configure() == FAILURE


def test_a_right_engine_tells_its_numbers_and_where_it_runs(world, engine_dir):
    world.start(load=load_perception, engine_dir=str(engine_dir), threads=1, spinning=True)
    shown = world.diagnostic("engine", b"\x00")
    facts = {value.key: value.value for value in shown.values}
    assert facts["runs_on"].endswith("on CPUExecutionProvider, 1 threads, spinning")
    assert facts["golden_check"].startswith("vision cosine 1.000000, taps 1.000000, 1.000000")
    assert float(facts["golden_check_ms"]) > 0


def test_an_engine_that_was_not_taught_the_question_says_so_with_every_answer(
    world, engine_dir, capfd
):
    (engine_dir / "grounding.json").write_text('{"tasks": ["refer"]}')
    with_hashes_made_to_fit(engine_dir)
    world.start(load=load_perception, engine_dir=str(engine_dir), threads=1, max_objects=1)
    shown = world.diagnostic("engine", b"\x00")
    assert {value.key: value.value for value in shown.values}["taught"] == "refer"
    warning = "this engine was not taught 'detect'; its answer may be noise; taught: refer"
    for _ in range(2):
        stamp_ns = world.send(image_message(np.zeros((480, 640, 3), np.uint8)))
        assert warning in world.status_of(stamp_ns).message
    world.diagnostic("inference", b"\x02", warning)
    assert capfd.readouterr().err.count(warning) == 1


def test_an_engine_that_nobody_can_check_runs_and_diagnostics_warn(world, engine_dir):
    (engine_dir / "golden.npz").unlink()
    with_hashes_made_to_fit(engine_dir)
    node = world.start(load=load_perception, engine_dir=str(engine_dir), threads=1)
    assert node.is_active
    world.diagnostic("engine", b"\x01", "came without golden outputs")


def test_a_provider_that_is_not_there_is_refused_and_not_replaced(world, engine_dir):
    node = world.start(load=load_perception, engine_dir=str(engine_dir), providers=["cuda"])
    assert not node.is_active
    world.diagnostic("engine", b"\x02", "CUDAExecutionProvider")
