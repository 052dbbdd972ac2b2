# SPDX-License-Identifier: Apache-2.0
"""Bad input: one clear error each, nothing invented, and the next good picture is looked at."""

from __future__ import annotations

import array
from dataclasses import replace

import numpy as np
import pytest

from qwen3vl_ros.errors import AnswerError, EngineError
from qwen3vl_ros.msg import InferenceStatus
from tests.ros.graph import (
    CAMERA,
    HEIGHT,
    WIDTH,
    ScriptedPerception,
    camera_info_message,
    depth_message,
    grounding_of,
    header,
    image_message,
    one_mug,
)

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


def is_alive(world) -> None:
    """A good picture is answered as if nothing had been."""
    status = world.spin_through_a_picture()
    assert status.outcome == InferenceStatus.OK
    assert len(world.at("~/detections_2d", world.last_stamp_ns)) == 1


def short_image():
    image = image_message()
    image.data = array.array("B", bytes(100))
    return image


BAD_IMAGES = [
    pytest.param(lambda: image_message(encoding="foo8"), "encoding is 'foo8'", id="encoding"),
    pytest.param(short_image, "data is 100 bytes", id="shorter than its header says"),
    pytest.param(
        lambda: image_message(np.zeros((HEIGHT, WIDTH), np.uint8), "rgb8"), "step is 64", id="step"
    ),
]


@pytest.mark.parametrize(("image", "words"), BAD_IMAGES)
def test_an_image_that_cannot_be_read_is_silence_and_an_error(world, capfd, image, words):
    perception = ScriptedPerception(one_mug)
    world.start(perception)
    stamp_ns = world.send(image())
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.BAD_FRAME
    assert words in status.message
    assert world.at("~/detections_2d", stamp_ns) == []
    assert not perception.seen
    world.diagnostic("image topic status", ERROR, words)
    assert capfd.readouterr().err.count(words) == 1
    is_alive(world)
    world.diagnostic("image topic status", OK)


def test_the_same_bad_image_a_hundred_times_is_one_line_in_the_log(world, capfd):
    node = world.start()
    for n in range(100):
        world.send(image_message(encoding="foo8"))
        world.until(lambda n=n: node._pairing.counts.taken == n + 1)
    is_alive(world)
    assert capfd.readouterr().err.count("foo8") == 1


def test_without_depth_or_calibration_there_are_boxes_in_the_picture_only(world):
    world.start()
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.OK
    assert "no camera_info has come" in status.message
    assert len(world.at("~/detections_2d", stamp_ns)) == 1
    assert world.at("~/detections_3d", stamp_ns) == []
    world.diagnostic("depth topic status", WARN)
    world.diagnostic("camera_info topic status", WARN)


def test_depth_whose_stamp_is_far_from_the_images_is_not_used(world):
    perception = ScriptedPerception(one_mug)
    world.start(perception, depth_slop_s=0.05, pairing_wait_s=0.1)
    world.with_depth()
    late_ns = world.next_stamp_ns()
    depth = depth_message(np.ones((HEIGHT, WIDTH), np.float32))
    depth.header = header(late_ns - 200_000_000)
    info = camera_info_message()
    info.header = header(late_ns)
    image = image_message()
    image.header = header(late_ns)
    world.camera_info_out.publish(info)
    world.depth_out.publish(depth)
    world.image_out.publish(image)
    status = world.status_of(late_ns)
    assert "more than depth_slop_s: synchronise the two" in status.message
    assert perception.seen[0][0].depth_m is None
    assert perception.seen[0][0].intrinsics is not None


def unknown_depth(value: float):
    return lambda: depth_message(np.full((HEIGHT, WIDTH), value, np.float32))


def depth_of_another_size():
    return depth_message(np.ones((24, 32), np.float32))


def depth_in_colour():
    return image_message()


BAD_DEPTHS = [
    pytest.param(unknown_depth(np.nan), "unknown in every pixel", id="all NaN"),
    pytest.param(unknown_depth(0.0), "unknown in every pixel", id="all zeros"),
    pytest.param(unknown_depth(np.inf), "unknown in every pixel", id="all infinite"),
    pytest.param(depth_of_another_size, "expected depth registered", id="another size"),
    pytest.param(depth_in_colour, "depth encoding is 'rgb8'", id="a colour image"),
]


@pytest.mark.parametrize(("depth", "words"), BAD_DEPTHS)
def test_depth_that_cannot_be_used_costs_the_third_dimension_only(world, depth, words):
    world.start()
    world.with_depth()
    stamp_ns = world.send(depth=depth())
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.OK
    assert words in status.message
    assert len(world.at("~/detections_2d", stamp_ns)) == 1
    assert world.at("~/detections_3d", stamp_ns) == []
    world.diagnostic("depth topic status", WARN, words)
    is_alive(world)


def test_depth_with_holes_is_depth(world):
    """NaN, zeros and infinities in places reach the core as NaN, the rest as it is."""
    perception = ScriptedPerception(one_mug)
    world.start(perception)
    world.with_depth()
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth[0, :3] = (np.nan, 0.0, np.inf)
    stamp_ns = world.send(depth=depth_message(depth))
    assert world.status_of(stamp_ns).message == ""
    assert len(world.at("~/detections_3d", stamp_ns)) == 1
    seen = perception.seen[0][0].depth_m
    assert np.isnan(seen[0, :3]).all()
    assert np.isfinite(seen).sum() == HEIGHT * WIDTH - 3


def uncalibrated():
    info = camera_info_message()
    info.k = [0.0] * 9
    return info


def of_another_view():
    info = camera_info_message()
    info.height = 20
    return info


BAD_CALIBRATIONS = [
    pytest.param(uncalibrated, "not calibrated", id="K of zeros"),
    pytest.param(of_another_view, "not the same view", id="another view"),
    pytest.param(lambda: camera_info_message(D=(0.1, 0.1, 0.1)), "D of 3 numbers", id="D of 3"),
]


@pytest.mark.parametrize(("info", "words"), BAD_CALIBRATIONS)
def test_a_calibration_that_cannot_be_used_costs_the_third_dimension_only(world, info, words):
    perception = ScriptedPerception(one_mug)
    world.start(perception)
    world.with_depth()
    stamp_ns = world.send(camera_info=info())
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.OK
    assert words in status.message
    assert perception.seen[0][0].intrinsics is None
    assert len(world.at("~/detections_2d", stamp_ns)) == 1
    assert world.at("~/detections_3d", stamp_ns) == []
    world.diagnostic("camera_info topic status", WARN, words)
    is_alive(world)
    world.diagnostic("camera_info topic status", OK)


def test_a_missing_transform_is_said_and_3d_goes_out_in_the_cameras_own_frame(world, capfd):
    world.start(target_frame="base_link", tf_timeout_s=0.0)
    world.with_depth()
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.NO_TRANSFORM
    assert "base_link" in status.message
    assert CAMERA in status.message
    (solid,) = world.at("~/detections_3d", stamp_ns)
    assert solid.header.frame_id == CAMERA
    assert solid.detections[0].bbox.center.position.z == 1.0
    world.diagnostic("transform", ERROR, "base_link")
    assert capfd.readouterr().err.count("[ERROR]") == 1
    world.send_transform("base_link", CAMERA, (0.0, 0.0, 0.0))
    world.until(lambda: world.spin_through_a_picture().outcome == InferenceStatus.OK)
    assert world.got["~/detections_3d"][-1].header.frame_id == "base_link"
    world.diagnostic("transform", OK)


def test_a_missing_transform_silences_3d_where_that_is_asked_for(world):
    world.start(target_frame="base_link", tf_fallback="drop", tf_timeout_s=0.0)
    world.with_depth()
    stamp_ns = world.send()
    assert world.status_of(stamp_ns).outcome == InferenceStatus.NO_TRANSFORM
    assert len(world.at("~/detections_2d", stamp_ns)) == 1
    assert world.at("~/detections_3d", stamp_ns) == []
    assert world.at_markers(stamp_ns) == []


def test_an_image_without_a_stamp_is_never_placed_by_the_latest_transform(world):
    """To tf2 the stamp 0 means "latest", which is where the camera is now, not where it was."""
    world.start(target_frame="base_link", tf_fallback="drop", max_image_age_s=0.0)
    world.with_depth()
    world.send_transform("base_link", CAMERA, (0.0, 0.0, 0.0))
    world.send(stamp_ns=0)
    status = world.status_of(0)
    assert status.outcome == InferenceStatus.NO_TRANSFORM
    assert "no stamp" in status.message
    assert np.isnan(status.age_s)
    assert len(world.at("~/detections_2d", 0)) == 1
    assert world.got["~/detections_3d"] == []
    world.diagnostic("image topic status", ERROR, "Zero timestamp seen.")


def test_an_old_image_is_not_looked_at(world):
    perception = ScriptedPerception(one_mug)
    world.start(perception, max_image_age_s=5.0)
    stamp_ns = world.next_stamp_ns() - 10_000_000_000
    world.send(stamp_ns=stamp_ns)
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.BAD_FRAME
    assert "use_sim_time" in status.message
    assert not perception.seen
    is_alive(world)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        pytest.param(
            AnswerError("answer is no JSON: 'I see'", answer_text="I see \x1b[31m\na mug"),
            InferenceStatus.UNREADABLE,
            id="unreadable answer",
        ),
        pytest.param(
            EngineError("the decoder ran out of memory"),
            InferenceStatus.ENGINE_FAILED,
            id="engine",
        ),
    ],
)
def test_a_model_that_fails_is_never_nothing_there(world, capfd, error, outcome):
    failing = [error]

    def answer(frame, query):
        if failing:
            raise failing.pop()
        return grounding_of(frame, query)

    world.start(ScriptedPerception(answer))
    world.with_depth()
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.outcome == outcome
    assert str(error) in status.message
    assert world.at("~/detections_2d", stamp_ns) == world.at("~/detections_3d", stamp_ns) == []
    assert world.at_markers(stamp_ns) == []
    world.diagnostic("inference", ERROR, str(error))
    assert capfd.readouterr().err.count(str(error)) == 1
    is_alive(world)
    world.diagnostic("inference", OK)


def test_what_speaks_against_an_answer_is_a_line_in_the_log_and_lapses(world, capfd):
    """The answer goes out all the same, and its status says so as well."""
    doubt = "this engine was not taught 'detect'; its answer may be noise; taught: refer"
    doubts = [(doubt,), (doubt,)]

    def answer(frame, query):
        return replace(one_mug(frame, query), warnings=doubts.pop() if doubts else ())

    world.start(ScriptedPerception(answer))
    for _ in range(2):
        stamp_ns = world.send()
        status = world.status_of(stamp_ns)
        assert (status.outcome, doubt in status.message) == (InferenceStatus.OK, True)
        assert len(world.at("~/detections_2d", stamp_ns)) == 1
    world.diagnostic("inference", WARN, doubt)
    assert capfd.readouterr().err.count(doubt) == 1
    assert doubt not in world.status_of(world.send()).message
    world.diagnostic("inference", OK)
