# SPDX-License-Identifier: Apache-2.0
"""Detections and questions on the wire: what RViz, Nav2 and our own service rely on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from visualization_msgs.msg import Marker

from qwen3vl_ros.errors import QueryError
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros.markers import UP_IN_OPTICAL_FRAME, UP_IN_ROBOT_FRAME, marker_array
from qwen3vl_ros.ros.messages import (
    detections_2d_message,
    detections_3d_message,
    header,
    printable,
    query_from_message,
    wire_text,
)
from qwen3vl_ros.scene.detections import BoxSource, Detection2D, Detection3D, Task, TextLevel
from qwen3vl_ros.scene.geometry import OrientedBox, rotation_from_half_turns

STAMP_NS = 1_700_000_000_123_456_789


def solid(label: str = "mug", size_m: tuple[float, float, float] = (0.1, 0.2, 0.3)) -> Detection3D:
    T = np.eye(4)
    T[:3, :3] = rotation_from_half_turns(np.array([0.1, -0.3, 0.7]))
    T[:3, 3] = (1.0, 2.0, 3.0)
    box = OrientedBox(T_frame_box=T, size_m=np.array(size_m))
    return Detection3D(label=label, box=box, score=0.75, source=BoxSource.DEPTH)


def test_a_header_keeps_every_nanosecond():
    message = header(stamp_ns=STAMP_NS, frame_id="camera")
    assert (message.stamp.sec, message.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.frame_id == "camera"


def test_a_2d_detection_says_centre_and_size_label_and_score():
    detection = Detection2D(label="mug", xyxy_px=np.array([10.0, 20.0, 30.0, 60.0]), score=0.5)
    array = detections_2d_message([detection], header=header(stamp_ns=STAMP_NS, frame_id="camera"))
    (message,) = array.detections
    assert message.header == array.header
    assert (message.bbox.center.position.x, message.bbox.center.position.y) == (20.0, 40.0)
    assert (message.bbox.size_x, message.bbox.size_y) == (20.0, 40.0)
    assert message.results[0].hypothesis.class_id == "mug"
    assert message.results[0].hypothesis.score == 0.5
    assert message.id == "", "nothing is tracked"


def test_a_3d_detection_keeps_pose_and_size_apart():
    array = detections_3d_message([solid()], header=header(stamp_ns=STAMP_NS, frame_id="base"))
    (message,) = array.detections
    center = message.bbox.center
    assert (center.position.x, center.position.y, center.position.z) == (1.0, 2.0, 3.0)
    assert (message.bbox.size.x, message.bbox.size.y, message.bbox.size.z) == (0.1, 0.2, 0.3)
    assert message.results[0].pose.pose == center
    assert message.results[0].hypothesis.score == 0.75


labels = st.text(max_size=200)
numbers = st.floats(min_value=-1e6, max_value=1e6)


@given(label=labels, score=st.floats(min_value=-1, max_value=2), turns=st.tuples(*[numbers] * 3))
def test_every_message_has_a_hypothesis_and_a_unit_quaternion(label, score, turns):
    """RViz reads results[0] without looking, and refuses other quaternions."""
    T = np.eye(4)
    T[:3, :3] = rotation_from_half_turns(np.array(turns))
    box = OrientedBox(T_frame_box=T, size_m=np.ones(3))
    detection = Detection3D(label=label, box=box, score=score, source=BoxSource.MODEL)
    at = header(stamp_ns=0, frame_id="")
    (message,) = detections_3d_message([detection], header=at).detections
    q = message.bbox.center.orientation
    assert abs(np.linalg.norm([q.x, q.y, q.z, q.w]) - 1) < 1e-9
    assert len(message.results) == 1
    assert 0 <= message.results[0].hypothesis.score <= 1
    assert len(message.results[0].hypothesis.class_id) <= 64
    flat = Detection2D(label=label, xyxy_px=np.zeros(4), score=score)
    (message_2d,) = detections_2d_message([flat], header=at).detections
    assert message_2d.results[0].pose.pose.orientation.w == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("red mug", "red mug", id="plain"),
        pytest.param("\x1b[31mred\x1b[0m", "red", id="terminal colours"),
        pytest.param("a\nb\r\tc", "a b c", id="line breaks"),
        pytest.param("e\u0301", "\u00e9", id="composed"),
        pytest.param("\u202egum\u202c", "gum", id="written backwards"),
        pytest.param("mug\ud800\x00", "mug", id="broken characters"),
        pytest.param("x" * 100, "x" * 64, id="long"),
        pytest.param("红色的杯子", "红色的杯子", id="Chinese"),
    ],
)
def test_labels_are_one_printable_line(text, expected):
    assert printable(text, max_characters=64) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('[\n\t{"label": "mug"}\n]', '[\n\t{"label": "mug"}\n]', id="lines and tabs"),
        pytest.param("a \x1b[31mred\x1b[0m mug", "a [31mred[0m mug", id="no terminal obeys it"),
        pytest.param("mug\x00\x07\x9b2J\r", "mug2J", id="other control characters"),
    ],
)
def test_the_models_words_are_sent_as_they_are_but_for_control_characters(text, expected):
    assert wire_text(text) == expected


@given(st.text())
def test_whatever_the_model_says_can_be_sent(text):
    sent = wire_text(text + "\ud800\x00")
    assert sent.encode("utf-8").decode("utf-8") == sent
    assert "\x00" not in sent


def test_a_question_is_read_with_its_defaults():
    query = query_from_message(
        QueryMessage(task="refer", text="the mug"),
        query_id="query-1",
        max_objects=7,
        of_place=True,
    )
    assert (query.task, query.text, query.query_id, query.max_objects) == (
        Task.REFER,
        "the mug",
        "query-1",
        7,
    )
    own = QueryMessage(task="detect", categories=["mug"], max_objects=3, id="mine")
    query = query_from_message(own, query_id="query-1", max_objects=7, of_place=True)
    assert (query.categories, query.query_id, query.max_objects) == (("mug",), "mine", 3)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(QueryMessage(), "task is ''", id="empty"),
        pytest.param(QueryMessage(task="find"), "task is 'find'", id="unknown task"),
        pytest.param(
            QueryMessage(task="ask", text="What?"),
            "an 'ask' query is no matter of place in one picture, expected one of detect, refer, "
            "point, detect_3d; send it to the action ~/ask",
            id="no matter of place",
        ),
        pytest.param(QueryMessage(task="refer"), "has no text", id="no text"),
        pytest.param(QueryMessage(task="refer", text=" \n"), "has no text", id="blank text"),
        pytest.param(QueryMessage(task="detect"), "at least one", id="no categories"),
        pytest.param(
            QueryMessage(task="detect", categories=["", "a"]), "at least one", id="blank"
        ),
        pytest.param(QueryMessage(task="point", text="x" * 3000), "3000 characters", id="huge"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(message, words):
    with pytest.raises(QueryError, match=words):
        query_from_message(message, query_id="query-1", max_objects=7, of_place=True)


GRASP = {"name": "grasp", "description": "Takes it.", "parameters": {"type": "object"}}


def test_a_question_of_another_kind_is_read_with_its_tools_and_its_level_of_text():
    message = QueryMessage(
        task="act", text="take it", tools_json=json.dumps([{"function": GRASP}, GRASP])
    )
    query = query_from_message(message, query_id="goal-1", max_objects=7, of_place=False)
    assert [(tool.name, tool.description) for tool in query.tools] == [("grasp", "Takes it.")] * 2
    words = QueryMessage(task="spot_text", text_level="word")
    query = query_from_message(words, query_id="goal-1", max_objects=7, of_place=False)
    assert (query.task, query.text_level) == (Task.SPOT_TEXT, TextLevel.WORD)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        pytest.param(
            QueryMessage(task="refer", text="the mug"),
            "a 'refer' query is a matter of place in one picture.*send it to the action ~/ground",
            id="a matter of place",
        ),
        pytest.param(
            QueryMessage(task="spot_text", text_level="letter"),
            "text_level is 'letter', expected one of line, word",
            id="another level",
        ),
        pytest.param(
            QueryMessage(task="act", text="go", tools_json="[{]"),
            "tools_json cannot be read .JSONDecodeError",
            id="no JSON",
        ),
        pytest.param(
            QueryMessage(task="act", text="go", tools_json='["grasp"]'),
            "tools_json cannot be read .AttributeError",
            id="names only",
        ),
        pytest.param(
            QueryMessage(task="act", text="go", tools_json='[{"name": "grasp"}]'),
            "tools_json cannot be read .KeyError: 'parameters'",
            id="no parameters",
        ),
    ],
)
def test_a_question_of_another_kind_that_cannot_be_asked_is_refused(message, words):
    with pytest.raises(QueryError, match=words):
        query_from_message(message, query_id="goal-1", max_objects=7, of_place=False)


def markers_of(*detections: Detection3D, up=UP_IN_ROBOT_FRAME) -> list[Marker]:
    at = header(stamp_ns=STAMP_NS, frame_id="base")
    array = marker_array(detections, header=at, namespace="qwen3vl", lifetime_s=2.5, up=up)
    assert all(marker.header == at for marker in array.markers)
    return list(array.markers)


def test_markers_replace_all_older_ones_in_the_same_message():
    first, *rest = markers_of(solid(), solid("box"))
    assert first.action == Marker.DELETEALL
    assert [m.action for m in rest] == [Marker.ADD] * 4
    assert len({(m.ns, m.id) for m in rest}) == 4
    assert {m.ns for m in rest} == {"qwen3vl/boxes", "qwen3vl/labels"}
    assert len(markers_of()) == 1, "nothing seen: the old ones go, none come"


def test_a_marker_is_something_rviz_draws():
    _, box, text = markers_of(solid(size_m=(0.1, 0.0, 0.3)))
    assert min(box.scale.x, box.scale.y, box.scale.z) > 0
    assert 0.3 <= box.color.a <= 0.5
    assert (box.lifetime.sec, box.lifetime.nanosec) == (2, 500_000_000)
    assert text.text == "mug 0.75"
    assert text.scale.z > 0
    assert text.color.a == 1.0
    assert text.pose.orientation.w == 1.0


@pytest.mark.parametrize(
    ("up", "axis", "sign"),
    [
        pytest.param(UP_IN_ROBOT_FRAME, "z", 1, id="robot frame: z up"),
        pytest.param(UP_IN_OPTICAL_FRAME, "y", -1, id="optical frame: y down"),
    ],
)
def test_the_label_stands_above_the_box(up, axis, sign):
    _, box, text = markers_of(solid(), up=up)
    rise = getattr(text.pose.position, axis) - getattr(box.pose.position, axis)
    assert 0.05 < sign * rise < 0.5


def test_a_label_has_one_colour_everywhere():
    _, mug, _, again, _ = markers_of(solid("mug"), solid("mug"))
    assert mug.color == again.color
