# SPDX-License-Identifier: Apache-2.0
"""What the node publishes: stamps, frames, the newest picture, the question in force.

The perception is scripted here; `test_node_end_to_end.py` runs the real one.
"""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.parameter import Parameter
from visualization_msgs.msg import Marker

from qwen3vl_ros.image.drawing import annotated_image
from qwen3vl_ros.msg import InferenceStatus
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros import topics
from qwen3vl_ros.scene.detections import Point2D
from qwen3vl_ros.srv import SetQuery
from tests.ros.graph import (
    CAMERA,
    ScriptedPerception,
    camera_info_message,
    depth_message,
    detection_2d,
    detection_3d,
    grounding_of,
    image_message,
    nanoseconds,
    one_mug,
)

OK = InferenceStatus.OK


def test_detections_carry_the_stamp_and_frame_of_the_image(world):
    world.start(ScriptedPerception(one_mug))
    world.with_depth()
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    (flat,) = world.at("~/detections_2d", stamp_ns)
    (solid,) = world.at("~/detections_3d", stamp_ns)
    for message in (flat, solid):
        assert message.header.frame_id == CAMERA
        assert all(d.header == message.header for d in message.detections)
    assert flat.detections[0].results[0].hypothesis.class_id == "mug"
    assert flat.detections[0].bbox.center.position.x == 20.0
    position = solid.detections[0].bbox.center.position
    assert (position.x, position.y, position.z) == (0.1, 0.2, 1.0)
    assert (status.outcome, status.detections_2d, status.detections_3d) == (OK, 1, 1)
    assert status.query_id == "query-1"
    assert status.answer_text.startswith("[{")
    assert status.total_s > 0
    assert 0 <= status.age_s < 30


def test_in_a_target_frame_the_numbers_turn_the_size_stays_and_the_header_says_so(world):
    """A box labelled with a frame that its numbers are not in is the classic fault."""
    world.start(ScriptedPerception(one_mug), target_frame="base_link", tf_timeout_s=5.0)
    world.with_depth()
    world.send_transform("base_link", CAMERA, (10.0, 20.0, 30.0))
    stamp_ns = world.send()
    assert world.status_of(stamp_ns).outcome == OK
    (solid,) = world.at("~/detections_3d", stamp_ns)
    assert solid.header.frame_id == "base_link"
    box = solid.detections[0].bbox
    # 90 degrees about z: (0.1, 0.2, 1) -> (-0.2, 0.1, 1), then moved.
    position = box.center.position
    np.testing.assert_allclose([position.x, position.y, position.z], [9.8, 20.1, 31.0], atol=1e-9)
    np.testing.assert_allclose([box.size.x, box.size.y, box.size.z], [0.1, 0.2, 0.3])
    assert abs(box.center.orientation.z) == pytest.approx(np.sqrt(0.5))
    (flat,) = world.at("~/detections_2d", stamp_ns)
    assert flat.header.frame_id == CAMERA
    (markers,) = world.at_markers(stamp_ns)
    assert {m.header.frame_id for m in markers.markers} == {"base_link"}


def test_the_first_answer_is_one_line_in_the_log(world, capfd):
    """So that whoever starts the node sees that it works, and where."""
    world.start(ScriptedPerception(one_mug), task="refer", text="the mug", categories=None)
    world.with_depth()
    for _ in range(2):
        world.spin_through_a_picture()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "first answer" in line]
    assert "[INFO]" in line
    assert (
        f"first answer, to refer 'the mug': 1 found in the picture, 1 in 3D in '{CAMERA}', after"
        in line
    )
    assert line.endswith("see /qwen3vl/detections_2d, /qwen3vl/detections_3d, /qwen3vl/status")


def test_saw_nothing_is_an_empty_array(world):
    world.start(ScriptedPerception())
    world.with_depth()
    stamp_ns = world.send()
    assert world.status_of(stamp_ns).outcome == OK
    (flat,) = world.at("~/detections_2d", stamp_ns)
    (solid,) = world.at("~/detections_3d", stamp_ns)
    assert list(flat.detections) == list(solid.detections) == []
    (markers,) = world.at_markers(stamp_ns)
    assert [m.action for m in markers.markers] == [Marker.DELETEALL]


def test_seen_but_not_placed_is_silence_in_3d(world):
    """An empty 3D array would say that nothing is there; the 2D array says that something is."""

    def answer(frame, query):
        return grounding_of(
            frame, query, detections_2d=(detection_2d(),), notes=("'mug': no depth in its box",)
        )

    world.start(ScriptedPerception(answer))
    world.with_depth()
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.message == "'mug': no depth in its box"
    assert len(world.at("~/detections_2d", stamp_ns)) == 1
    assert world.at("~/detections_3d", stamp_ns) == []


def test_a_truncated_answer_is_published_and_said_to_be(world):
    def answer(frame, query):
        return grounding_of(frame, query, detections_2d=(detection_2d(),), complete=False)

    world.start(ScriptedPerception(answer))
    stamp_ns = world.send()
    status = world.status_of(stamp_ns)
    assert status.outcome == InferenceStatus.TRUNCATED
    assert "broke off after 1 object" in status.message
    assert len(world.at("~/detections_2d", stamp_ns)[0].detections) == 1
    world.diagnostic("inference", b"\x01")


def test_a_point_is_a_box_of_zero_size(world):
    def answer(frame, query):
        point = Point2D(label="handle", uv_px=np.array([12.5, 30.0]), score=0.5)
        return grounding_of(frame, query, points=(point,))

    world.start(ScriptedPerception(answer), task="point", text="the handle")
    stamp_ns = world.send()
    world.status_of(stamp_ns)
    (flat,) = world.at("~/detections_2d", stamp_ns)
    box = flat.detections[0].bbox
    assert (box.center.position.x, box.center.position.y) == (12.5, 30.0)
    assert (box.size_x, box.size_y) == (0.0, 0.0)


def test_the_newest_frame_wins_and_the_overtaken_are_counted(world):
    perception = ScriptedPerception()
    node = world.start(perception)
    perception.may_answer.clear()
    first = world.send()
    world.until(lambda: perception.seen)
    stamps = []
    for _ in range(4):
        stamps.append(world.send())
        world.until(lambda: node._pairing.counts.images == len(stamps) + 1)
    perception.may_answer.set()
    world.status_of(stamps[-1])
    assert [frame.stamp_ns for frame, _ in perception.seen] == [first, stamps[-1]]
    assert node._pairing.counts.overtaken == 3


def test_depth_reaches_the_model_in_metres_with_holes_as_nan(world):
    perception = ScriptedPerception()
    world.start(perception)
    world.with_depth()
    millimetres = np.full((48, 64), 1500, np.uint16)
    millimetres[0, 0] = 0
    world.status_of(world.send(depth=depth_message(millimetres)))
    frame, _ = perception.seen[0]
    assert np.isnan(frame.depth_m[0, 0])
    assert frame.depth_m[1, 1] == np.float32(1.5)
    assert frame.intrinsics.K[0, 0] == 60.0


def test_boxes_of_a_distorted_camera_are_in_pixels_of_its_own_image(world):
    """The model looks at the rectified picture; who overlays boxes has the raw one."""
    box = detection_2d("mug", 40.0, 30.0, 60.0, 45.0)
    world.start(ScriptedPerception(lambda f, q: grounding_of(f, q, detections_2d=(box,))))
    world.with_depth()
    stamp_ns = world.send(camera_info=camera_info_message(D=(-0.3, 0.1, 0.0, 0.0, 0.0)))
    assert world.status_of(stamp_ns).outcome == OK
    (flat,) = world.at("~/detections_2d", stamp_ns)
    raw = flat.detections[0].bbox
    assert raw.center.position.x < 50.0, "barrel distortion draws it to the middle"
    assert raw.center.position.y < 37.5


def test_the_annotated_image_is_drawn_only_for_who_looks(world, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "qwen3vl_ros.ros.publishing.annotated_image",
        lambda *args, **kwargs: drawn.append(1) or annotated_image(*args, **kwargs),
    )
    world.start(ScriptedPerception(one_mug))
    world.spin_through_a_picture()
    assert not drawn
    world.listen(topics.ANNOTATED_IMAGE)
    stamp_ns = world.send()
    (picture,) = world.until(lambda: world.at("~/annotated_image", stamp_ns))
    assert (picture.encoding, picture.width, picture.height) == ("rgb8", 64, 48)
    assert picture.header.frame_id == CAMERA
    assert bytes(picture.data) != bytes(image_message().data)


def test_a_question_is_replaced_by_service_and_its_id_comes_back_with_the_answers(world):
    perception = ScriptedPerception()
    node = world.start(perception)
    assert world.spin_through_a_picture().query_id == "query-1"
    request = SetQuery.Request(query=QueryMessage(task="refer", text="the red mug", id="mine"))
    response = world.call(SetQuery, "/qwen3vl/set_query", request)
    assert (response.success, response.message, response.query_id) == (True, "", "mine")
    status = world.spin_through_a_picture()
    assert (status.query_id, status.task) == ("mine", "refer")
    assert perception.seen[-1][1].text == "the red mug"
    assert node.get_parameter("text").value == "the red mug", "parameters show what is in force"
    assert node.get_parameter("task").value == "refer"


def test_a_question_is_replaced_by_parameters(world):
    perception = ScriptedPerception()
    node = world.start(perception)
    (result,) = node.set_parameters(
        [Parameter("categories", Parameter.Type.STRING_ARRAY, ["laptop", "cup"])]
    )
    assert result.successful
    status = world.spin_through_a_picture()
    assert perception.seen[-1][1].categories == ("laptop", "cup")
    assert status.query_id == perception.seen[-1][1].query_id != "query-1"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param(QueryMessage(), "task is ''", id="empty"),
        pytest.param(QueryMessage(task="refer"), "has no text", id="no text"),
        pytest.param(QueryMessage(task="detect"), "at least one", id="no categories"),
    ],
)
def test_an_empty_question_is_refused_and_the_old_one_stays(world, query, words):
    perception = ScriptedPerception()
    world.start(perception)
    response = world.call(SetQuery, "/qwen3vl/set_query", SetQuery.Request(query=query))
    assert not response.success
    assert words in response.message
    assert response.query_id == ""
    assert world.spin_through_a_picture().query_id == "query-1"
    assert perception.seen[-1][1].categories == ("mug",)


def test_an_answer_belongs_to_the_question_it_was_asked(world):
    """A question replaced while the model thinks must not put its name on the old answer."""
    perception = ScriptedPerception()
    node = world.start(perception)
    perception.may_answer.clear()
    stamp_ns = world.send()
    world.until(lambda: perception.seen)
    node.set_parameters([Parameter("categories", value=["laptop"])])
    perception.may_answer.set()
    assert world.status_of(stamp_ns).query_id == "query-1"
    assert world.spin_through_a_picture().query_id == "query-2"


def test_without_a_question_the_node_waits_and_says_so(world):
    perception = ScriptedPerception()
    node = world.start(perception, categories=None)
    world.diagnostic("question", b"\x01", "no question is in force")
    world.send()
    world.until(lambda: node._pairing.counts.images == 1)
    node.set_parameters([Parameter("categories", value=["mug"])])
    world.until(lambda: world.got["~/status"])
    assert len(perception.seen) == 1
    world.diagnostic("question", b"\x00")


def test_when_the_stamps_begin_again_so_does_the_node(world):
    """A bag that loops without /clock: everything after the loop is older than before it."""
    world.start(ScriptedPerception(), max_image_age_s=0.0)
    assert world.spin_through_a_picture().outcome == OK
    old_ns = 1_000_000_000_000
    world.send(stamp_ns=old_ns)
    assert world.status_of(old_ns).outcome == OK
    assert nanoseconds(world.got["~/detections_2d"][-1].header.stamp) == old_ns


def test_diagnostics_speak_of_every_input_and_stage(world):
    world.start(ScriptedPerception(one_mug))
    world.with_depth()
    world.spin_through_a_picture()
    world.diagnostic("image topic status", b"\x00")
    message = world.got["/diagnostics"][-1]
    assert [status.name.removeprefix("qwen3vl: ") for status in message.status] == [
        "image topic status",
        "depth topic status",
        "camera_info topic status",
        "engine",
        "question",
        "inference",
        "transform",
    ]
    values = {v.key: v.value for s in message.status for v in s.values}
    assert values["asked"] == "mug"
    assert float(values["processing_time_ms"]) > 0
    assert values["Topic"]


def test_boxes_in_both_dimensions_keep_their_labels(world):
    def answer(frame, query):
        return grounding_of(
            frame,
            query,
            detections_2d=(detection_2d("mug"), detection_2d("cup")),
            detections_3d=(detection_3d("cup", (0.0, 0.0, 2.0)),),
        )

    world.start(ScriptedPerception(answer))
    world.with_depth()
    stamp_ns = world.send()
    world.status_of(stamp_ns)

    def words(topic):
        (message,) = world.at(topic, stamp_ns)
        return [d.results[0].hypothesis.class_id for d in message.detections]

    assert words("~/detections_2d") == ["mug", "cup"]
    assert words("~/detections_3d") == ["cup"]
