# SPDX-License-Identifier: Apache-2.0
"""The committed tiny checkpoint and its engines: whole, alike, and as right as they were.

The floors are what was measured on these 40 scenes (docs/LOG.md) less a margin; they guard against
getting worse.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3vl_ros.image.preprocess import load_preprocess_config, patches_from_image
from qwen3vl_ros.language.prompt import prompt_from_query
from qwen3vl_ros.language.tokenizer import load_tokenizer
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.evaluation import evaluate, summary
from qwen3vl_ros.offline.reference_generation import generate_greedy
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import Query, Task
from qwen3vl_ros.synthetic.dataset import HELD_OUT_SEED, scene_from_seed

TINY = Path(__file__).resolve().parents[1] / "engines" / "tiny"
CHECKPOINT = TINY / "checkpoint"
SCENES = 40
IOU_MEAN_FLOOR = 0.69  # measured 0.743
IOU_AT_LEAST_HALF_FLOOR = 0.88  # measured 0.938
DEPTH_CENTER_CEILING_M = 0.01  # measured 0.001
MODEL_CENTER_CEILING_M = 0.12  # measured 0.105
ABSENT_FLOOR = 0.75  # measured 0.875


def test_the_checkpoint_is_small_enough_to_live_in_the_repository():
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 40_000_000


def test_the_float32_engine_says_word_for_word_what_the_reference_says():
    model, tokenizer = load_checkpoint(CHECKPOINT), load_tokenizer(CHECKPOINT)
    _, _, rendered = scene_from_seed(HELD_OUT_SEED, width=640, height=480)
    perception = Perception.load(TINY / "onnxruntime-float32", threads=1)
    patches = patches_from_image(rendered.image, load_preprocess_config(CHECKPOINT))
    for task in (Task.REFER, Task.DETECT_3D):
        query = Query(task=task, text=rendered.truth[0].solid.name)
        prompt = prompt_from_query(query, patches.grid_thw, tokenizer, model.config)
        expected = generate_greedy(
            model,
            prompt.input_ids,
            patches.pixel_values,
            patches.grid_thw,
            max_new_tokens=100,
            stop_ids=frozenset(tokenizer.eos_token_ids),
        )
        frame = Frame(image=rendered.image, stamp_ns=1, frame_id="camera")
        grounding = perception.ground(frame, query, model_boxes=False)
        assert grounding.answer_text == tokenizer.decode(expected)


@pytest.fixture(scope="module")
def numbers():
    perception = Perception.load(TINY / "onnxruntime-int4")
    objects, absent = [], []
    for found, missing in evaluate(perception, scenes=SCENES):
        objects.extend(found)
        absent.extend(missing)
    return summary(objects, absent)


def test_the_int4_engine_is_as_right_as_it_was(numbers):
    assert numbers["unreadable"] == 0
    assert numbers["iou_mean"] >= IOU_MEAN_FLOOR
    assert numbers["iou_at_least_half"] >= IOU_AT_LEAST_HALF_FLOOR
    assert numbers["model_center_median_m"] <= MODEL_CENTER_CEILING_M
    assert numbers["depth_center_median_m"] <= DEPTH_CENTER_CEILING_M
    assert numbers["absent_answered_empty"] >= ABSENT_FLOOR
