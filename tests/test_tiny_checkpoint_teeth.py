# SPDX-License-Identifier: Apache-2.0
"""What guards the tiny checkpoint bites: each mistake below turns it red.

Every mistake is of a kind that leaves all shapes as they are, so that nothing but what the model
says can tell. Two guards: the accuracy of tests/test_tiny_checkpoint.py, on the first of its
scenes, and the golden outputs that the float32 engine carries.

Measured for the checkpoint of 2026-11-22 (docs/LOG.md): its accuracy does not feel swapped M-RoPE
axes, nor the loss of its last tap. It has learned to take places from the tower's rows alone. Of
those two only the golden outputs tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.errors import AnswerError, EngineError
from qwen3vl_ros.image import positions, preprocess
from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.golden_check import check_golden
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.vision import VisionEncoder, VisualEmbeds
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import Grounding, Query, Task
from qwen3vl_ros.scene.geometry import overlap_of_boxes
from qwen3vl_ros.synthetic.dataset import HELD_OUT_SEED, is_worth_asking, scene_from_seed
from tests.test_tiny_checkpoint import IOU_MEAN_FLOOR, MODEL_CENTER_CEILING_M

TINY = Path(__file__).resolve().parents[1] / "engines" / "tiny"
FLOAT32 = TINY / "onnxruntime-float32"
SCENES = 6
PATCH_PX = 32  # of a 640x480 picture, which the tiny model sees at half its size

Mistake = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def perception() -> Perception:
    return Perception.load(TINY / "onnxruntime-int4", threads=1)


def accuracy(perception: Perception) -> tuple[float, float]:
    """Of every object of some held-out scenes, asked for by its name: mean IoU, and the median
    distance of the model's own 3D centre, metres."""
    overlaps, distances = [], []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + SCENES):
        _, _, rendered = scene_from_seed(seed, width=640, height=480)
        frame = Frame(image=rendered.image, stamp_ns=seed, frame_id="camera")
        for index, truth in enumerate(rendered.truth):
            if not is_worth_asking(rendered, index):
                continue
            flat = asked(perception, frame, Task.REFER, truth.solid.name).detections_2d
            overlaps.append(overlap_of_boxes(flat[0].xyxy_px, truth.xyxy_px) if flat else 0.0)
            solid = asked(perception, frame, Task.DETECT_3D, truth.solid.name).detections_3d
            missed = truth.box.center_m - (solid[0].box.center_m if solid else np.inf)
            distances.append(float(np.linalg.norm(missed)))
    return float(np.mean(overlaps)), float(np.median(distances))


def asked(perception: Perception, frame: Frame, task: Task, name: str) -> Grounding:
    query = Query(task=task, text=name)
    try:
        return perception.ground(frame, query)
    except AnswerError:
        return Grounding(stamp_ns=frame.stamp_ns, frame_id=frame.frame_id, query=query)


def is_red(perception: Perception) -> bool:
    iou, center_m = accuracy(perception)
    return iou < IOU_MEAN_FLOOR or center_m > MODEL_CENTER_CEILING_M


def two_axes_are_swapped(first: int, second: int) -> Mistake:
    """Of a picture's tokens; text has the same positions on all axes."""
    order = [0, 1, 2]
    order[first], order[second] = second, first

    def mistake(patch: pytest.MonkeyPatch) -> None:
        def swapped(*args: object) -> tuple[np.ndarray, int]:
            position_ids, delta = positions.text_positions(*args)
            return position_ids[order], delta

        patch.setattr("qwen3vl_ros.model.decoder.text_positions", swapped)

    return mistake


def one_tap_is_dropped(tap: int) -> Mistake:
    def mistake(patch: pytest.MonkeyPatch) -> None:
        encode = VisionEncoder.encode

        def dropped(self: VisionEncoder, patches: Patches) -> VisualEmbeds:
            embeds = encode(self, patches)
            taps = embeds.deepstack_embeds.copy()
            taps[tap] = 0
            return replace(embeds, deepstack_embeds=taps)

        patch.setattr(VisionEncoder, "encode", dropped)

    return mistake


def the_picture_is_shifted_by_a_patch(patch: pytest.MonkeyPatch) -> None:
    def shifted(image: np.ndarray, *rest: object) -> Patches:
        return preprocess.patches_from_image(np.roll(image, PATCH_PX, axis=1), *rest)

    patch.setattr("qwen3vl_ros.model.local_model.patches_from_image", shifted)


def patch_columns_are_permuted(patch: pytest.MonkeyPatch) -> None:
    """The two columns of every block of four patches change places."""

    def permuted(*args: object) -> Patches:
        patches = preprocess.patches_from_image(*args)
        blocks = patches.pixel_values.reshape(-1, 2, 2, patches.pixel_values.shape[1])
        rows = blocks[:, :, ::-1].reshape(patches.pixel_values.shape)
        return replace(patches, pixel_values=np.ascontiguousarray(rows))

    patch.setattr("qwen3vl_ros.model.local_model.patches_from_image", permuted)


def test_without_a_mistake_nothing_is_red(perception):
    assert not is_red(perception)
    assert check_golden(LocalModel.load(FLOAT32, threads=1), FLOAT32) is not None


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(one_tap_is_dropped(0), id="tap-0"),
        pytest.param(one_tap_is_dropped(1), id="tap-1"),
        pytest.param(the_picture_is_shifted_by_a_patch, id="resize"),
        pytest.param(patch_columns_are_permuted, id="patch-columns"),
    ],
)
def test_accuracy_feels(perception, mistake: Mistake):
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        assert is_red(perception)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(two_axes_are_swapped(1, 2), id="m-rope-rows-and-columns"),
        pytest.param(two_axes_are_swapped(0, 1), id="m-rope-times-and-rows"),
        pytest.param(two_axes_are_swapped(0, 2), id="m-rope-times-and-columns"),
        pytest.param(one_tap_is_dropped(0), id="tap-0"),
        pytest.param(one_tap_is_dropped(1), id="tap-1"),
        pytest.param(one_tap_is_dropped(2), id="tap-2"),
        pytest.param(the_picture_is_shifted_by_a_patch, id="resize"),
        pytest.param(patch_columns_are_permuted, id="patch-columns"),
    ],
)
def test_the_golden_outputs_tell(mistake: Mistake):
    model = LocalModel.load(FLOAT32, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)
        with pytest.raises(EngineError, match="does not say what the checkpoint's reference said"):
            check_golden(model, FLOAT32)
