# SPDX-License-Identifier: Apache-2.0
"""The main path, with real engines of random weights and a head that says what a test wants said.

Questions of place here, all others in test_perception_ask.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.errors import AnswerError, ContextError, QueryError
from qwen3vl_ros.language.chat_template import ChatStyle
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.taught_tasks import TaughtTasks
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.scene.camera import Frame, Intrinsics
from qwen3vl_ros.scene.detections import BoxSource, Query, Task
from tests.speaking import ScriptedHead, fenced, model_saying

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 640, 480
K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
RED_BOX = Query(task=Task.REFER, text="the red box", query_id="7")

# 2D boxes in thousandths of the picture, and 3D boxes in metres where those are seen.
LEFT_2D = '\t{"bbox_2d": [200, 400, 300, 600], "label": "red box"}'
RIGHT_2D = '\t{"bbox_2d": [700, 400, 800, 600], "label": "blue ball"}'
LEFT_3D = '\t{"bbox_3d": [-0.64, 0.0, 2.0, 0.2, 0.3, 0.2, 0, 0, 0], "label": "red box"}'
RIGHT_3D = '\t{"bbox_3d": [0.64, 0.0, 2.0, 0.2, 0.3, 0.2, 0, 0, 0], "label": "blue ball"}'


@pytest.fixture
def saying(random_engines: Mapping[str, Path]) -> Callable[..., tuple[Perception, ScriptedHead]]:
    """A perception that will answer with the given texts."""

    def build(
        *answers: str, taught: TaughtTasks | None = None, **how: ChatStyle
    ) -> tuple[Perception, ScriptedHead]:
        model, head = model_saying(random_engines["int4"], *answers, **how)
        return Perception(model, taught=taught), head

    return build


def frame(*, depth_m: np.ndarray | None = None, calibrated: bool = True) -> Frame:
    rng = np.random.default_rng(0)
    return Frame(
        image=rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        stamp_ns=1_700_000_000_123_456_789,
        frame_id="camera_optical",
        intrinsics=Intrinsics(K=K, width=WIDTH, height=HEIGHT) if calibrated else None,
        depth_m=depth_m,
    )


def depth_with_a_box_on_the_left() -> np.ndarray:
    """A wall at 3 m and a flat box before it at 2 m; nothing known of the right half."""
    depth_m = np.full((HEIGHT, WIDTH), 3.0, np.float32)
    depth_m[192:288, 128:192] = 2.0
    depth_m[:, WIDTH // 2 :] = np.nan
    return depth_m


def test_a_thinkers_answer_begins_after_its_thought(saying):
    thought = f"Is it {fenced(RIGHT_2D)}? No.\n</think>\n\n"
    perception, head = saying(thought + fenced(LEFT_2D), style=ChatStyle.THINKING)
    grounding = perception.ground(frame(), RED_BOX, model_boxes=False)
    (found,) = grounding.detections_2d
    np.testing.assert_allclose(found.xyxy_px, [128, 192, 192, 288])
    assert 0.9 < found.score <= 1.0
    assert head.is_done


def test_a_thinker_that_never_stops_thinking_has_not_answered(saying):
    perception, _ = saying(f"Is it {fenced(LEFT_2D)}?", style=ChatStyle.THINKING)
    with pytest.raises(AnswerError, match="still thinking"):
        perception.ground(frame(), RED_BOX)


def test_a_question_that_is_not_about_places_is_refused_and_told_what_can_be_asked(saying):
    perception, _ = saying()
    with pytest.raises(QueryError, match=r"'ask' query .* one of detect, refer, point, detect_3d"):
        perception.ground(frame(), Query(task=Task.ASK, text="What is it?"))


def test_a_picture_and_a_query_become_boxes_in_pixels_and_metres(saying):
    perception, head = saying(fenced(LEFT_2D))
    grounding = perception.ground(frame(depth_m=depth_with_a_box_on_the_left()), RED_BOX)
    assert (grounding.stamp_ns, grounding.frame_id) == (
        1_700_000_000_123_456_789,
        "camera_optical",
    )
    assert grounding.query is RED_BOX
    assert grounding.complete
    (found,) = grounding.detections_2d
    np.testing.assert_allclose(found.xyxy_px, [128, 192, 192, 288])
    assert found.label == "red box"
    assert 0.9 < found.score <= 1.0
    (lifted,) = grounding.detections_3d
    assert lifted.source is BoxSource.DEPTH
    corners = lifted.box.corners()
    assert corners[:, 2].min() == pytest.approx(
        2.0, abs=0.05
    )  # its face; how deep it is, is a guess
    assert corners[:, 0].mean() == pytest.approx(-0.64, abs=0.05)
    assert head.is_done


def test_without_depth_the_model_is_asked_for_its_own_boxes_of_the_same_thing(saying):
    perception, head = saying(fenced(LEFT_2D), fenced(LEFT_3D))
    grounding = perception.ground(frame(), RED_BOX)
    (box,) = grounding.detections_3d
    assert box.source is BoxSource.MODEL
    np.testing.assert_allclose(box.box.center_m, [-0.64, 0.0, 2.0])
    assert len(grounding.detections_2d) == 1
    assert any("has no depth; no 3D box from depth" in note for note in grounding.notes)
    assert any("kept the model's own 3D box" in note for note in grounding.notes)
    assert head.is_done


def test_only_what_has_no_depth_gets_the_models_own_box(saying):
    """The model lists both, right one first; each goes where it is seen."""
    perception, _ = saying(fenced(LEFT_2D, RIGHT_2D), fenced(RIGHT_3D, LEFT_3D))
    grounding = perception.ground(frame(depth_m=depth_with_a_box_on_the_left()), RED_BOX)
    left, right = grounding.detections_3d
    assert (left.label, left.source) == ("red box", BoxSource.DEPTH)
    assert (right.label, right.source) == ("blue ball", BoxSource.MODEL)
    np.testing.assert_allclose(right.box.center_m, [0.64, 0.0, 2.0])


def test_categories_are_asked_for_one_at_a_time_and_only_those_without_depth(saying):
    query = Query(task=Task.DETECT, categories=("red box", "Blue Ball", "cup"))
    perception, head = saying(fenced(LEFT_2D, RIGHT_2D), fenced(RIGHT_3D))
    grounding = perception.ground(frame(depth_m=depth_with_a_box_on_the_left()), query)
    assert [box.source for box in grounding.detections_3d] == [BoxSource.DEPTH, BoxSource.MODEL]
    assert head.is_done


def test_whoever_does_not_want_the_models_boxes_pays_for_none(saying):
    perception, head = saying(fenced(LEFT_2D))
    grounding = perception.ground(frame(), RED_BOX, model_boxes=False)
    assert len(grounding.detections_2d) == 1
    assert grounding.detections_3d == ()
    assert any("no depth" in note for note in grounding.notes)
    assert head.is_done


def test_a_3d_answer_that_cannot_be_read_leaves_the_2d_answer_standing(saying):
    perception, _ = saying(fenced(LEFT_2D), "I would rather not say.")
    grounding = perception.ground(frame(), RED_BOX)
    assert len(grounding.detections_2d) == 1
    assert grounding.detections_3d == ()
    assert any("no 3D box of 'the red box' from the model" in note for note in grounding.notes)


def test_an_uncalibrated_camera_gets_the_models_boxes_and_is_told_what_they_are(saying):
    perception, _ = saying(fenced(LEFT_2D), fenced(LEFT_3D))
    grounding = perception.ground(
        frame(depth_m=depth_with_a_box_on_the_left(), calibrated=False), RED_BOX
    )
    (box,) = grounding.detections_3d
    assert box.source is BoxSource.MODEL
    assert any("not calibrated: the model's 3D boxes guess" in note for note in grounding.notes)


def test_an_empty_answer_is_nothing_there(saying):
    perception, _ = saying(fenced())
    grounding = perception.ground(frame(), RED_BOX)
    assert (grounding.detections_2d, grounding.detections_3d) == ((), ())
    assert grounding.complete
    assert grounding.answer_text == fenced()


def test_an_unreadable_answer_is_an_error_and_not_nothing_there(saying):
    perception, _ = saying("The red box is on the left.")
    with pytest.raises(AnswerError) as error:
        perception.ground(frame(), RED_BOX)
    assert error.value.answer_text == "The red box is on the left."


def test_an_engine_that_was_not_taught_a_task_says_so_with_its_answer(saying):
    perception, _ = saying(fenced(), taught=TaughtTasks(tasks=(Task.POINT,)))
    (warning,) = perception.ground(frame(), RED_BOX).warnings
    assert warning == "this engine was not taught 'refer'; its answer may be noise; taught: point"


def test_one_that_was_taught_it_or_does_not_say_says_nothing(saying):
    for taught in (None, TaughtTasks(tasks=(Task.REFER,))):
        perception, _ = saying(fenced(), taught=taught)
        assert perception.ground(frame(), RED_BOX).warnings == ()


def test_3d_boxes_that_it_was_not_taught_are_told_of_only_when_it_was_asked_for_them(saying):
    perception, _ = saying(
        fenced(LEFT_2D), fenced(LEFT_3D), taught=TaughtTasks(tasks=(Task.REFER,))
    )
    (warning,) = perception.ground(frame(), RED_BOX).warnings
    assert "not taught 'detect_3d'" in warning


def test_noise_that_cannot_be_read_is_told_with_what_was_taught(saying):
    perception, _ = saying("box box box", taught=TaughtTasks(tasks=(Task.POINT,)))
    with pytest.raises(AnswerError, match="was not taught 'refer'") as error:
        perception.ground(frame(), RED_BOX)
    assert error.value.answer_text == "box box box"


def test_what_nobody_asked_for_keeps_its_name_and_is_told(saying):
    """It may be a synonym, or a thing that is not wanted: only the asker knows."""
    perception, _ = saying(fenced(LEFT_2D, RIGHT_2D))
    query = Query(task=Task.DETECT, categories=("Red_box", "mug"))
    grounding = perception.ground(frame(), query, model_boxes=False)
    assert [found.label for found in grounding.detections_2d] == ["red box", "blue ball"]
    assert grounding.warnings == (
        "named otherwise than asked ('Red_box', 'mug'): 'blue ball', 1 of 2 objects; they keep "
        "the model's names",
    )


def test_a_description_has_no_list_of_names_that_an_answer_could_leave(saying):
    perception, _ = saying(fenced(RIGHT_2D))
    assert perception.ground(frame(), RED_BOX, model_boxes=False).warnings == ()


def test_an_answer_longer_than_was_asked_for_is_cut_and_says_so(saying):
    endless = fenced(*[LEFT_2D.replace("200", str(200 + i)) for i in range(9)])
    perception, _ = saying(endless)
    grounding = perception.ground(
        frame(), Query(task=Task.REFER, text="the red box", max_objects=2), model_boxes=False
    )
    assert len(grounding.detections_2d) == 2
    assert not grounding.complete


def test_a_3d_query_is_answered_by_the_model_alone(saying):
    perception, head = saying(fenced(LEFT_3D, RIGHT_3D))
    query = Query(task=Task.DETECT_3D, text="thing")
    grounding = perception.ground(frame(depth_m=depth_with_a_box_on_the_left()), query)
    assert [box.source for box in grounding.detections_3d] == [BoxSource.MODEL] * 2
    assert grounding.detections_2d == ()
    assert head.is_done


def test_metres_from_an_uncalibrated_camera_come_with_a_warning(saying):
    perception, _ = saying(fenced(LEFT_3D))
    query = Query(task=Task.DETECT_3D, text="thing")
    grounding = perception.ground(frame(calibrated=False), query)
    assert len(grounding.detections_3d) == 1
    assert any("guess its focal length" in note for note in grounding.notes)


def test_points_come_in_pixels(saying):
    perception, _ = saying(fenced('\t{"point_2d": [500, 250], "label": "handle"}'))
    grounding = perception.ground(frame(), Query(task=Task.POINT, text="the handle"))
    (point,) = grounding.points
    np.testing.assert_allclose(point.uv_px, [320, 120])


def test_a_query_too_long_for_the_cache_is_refused_with_the_numbers(saying):
    perception, _ = saying(fenced())
    query = Query(task=Task.REFER, text="red box " * 200)
    with pytest.raises(ContextError, match=r"of the cache's 384 tokens .* expected at least 51"):
        perception.ground(frame(), query)


def test_the_stopwatch_is_told_of_every_stage_and_all_the_work(saying):
    heard: list[str] = []
    watch = Stopwatch(on_stage=heard.append)
    perception, _ = saying(fenced(LEFT_2D), fenced(LEFT_3D))
    perception.ground(frame(), RED_BOX, stopwatch=watch)
    asked = ["prefill", "decode", "lift"]
    assert heard == ["preprocess", "vision", *asked, *asked[:2]]
    stats = watch.stats()
    assert stats.image_tokens == 70
    assert stats.prompt_tokens > 2 * 70
    assert stats.passes == stats.answer_tokens - 2  # each answer's first token is its prefill's
    stages = (stats.preprocess_s, stats.vision_s, stats.prefill_s, stats.decode_s, stats.lift_s)
    assert 0 < sum(stages) <= stats.total_s


def test_the_whole_path_runs_without_torch_transformers_or_onnx(random_engines):
    """A robot installs none of them."""
    code = f"""
import sys
import numpy as np
from pathlib import Path
from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.scene.camera import Frame, Intrinsics
from qwen3vl_ros.scene.detections import Detection2D, Query, Task
from qwen3vl_ros.scene.lifting import lift
perception = Perception.load(Path({str(random_engines["int4"])!r}), threads=1)
K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
frame = Frame(
    image=np.zeros((480, 640, 3), np.uint8), stamp_ns=0, frame_id="camera",
    intrinsics=Intrinsics(K=K, width=640, height=480), depth_m=np.full((480, 640), 2, np.float32),
)
try:
    perception.ground(frame, Query(task=Task.REFER, text="the red box", max_objects=1))
except AnswerError:
    print("answered")  # random weights talk nonsense
lift(frame, [Detection2D(label="box", xyxy_px=np.array([9.0, 9, 99, 99]), score=1.0)])
print(*sorted({{"torch", "transformers", "onnx", "onnxscript"}} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (result.returncode, result.stdout.split()) == (0, ["answered"]), result.stderr
