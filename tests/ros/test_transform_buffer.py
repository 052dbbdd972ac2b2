# SPDX-License-Identifier: Apache-2.0
"""The built-in buffer answers as tf2's does: by hand in small cases, by its oracle in many."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3vl_ros.errors import TransformError
from qwen3vl_ros.ros.transform_buffer import (
    MAX_DEPTH,
    ConnectivityException,
    InvalidArgumentException,
    LookupException,
    TransformBuffer,
)
from qwen3vl_ros.ros.transform_history import ExtrapolationException
from qwen3vl_ros.scene.geometry import Array, transform_from_quaternion

SECOND = 1_000_000_000
NO_TURN = (0.0, 0.0, 0.0, 1.0)
QUARTER_TURN = (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5))  # about z, counter-clockwise
ORACLE = json.loads((Path(__file__).parent / "data" / "tf2_lookups.json").read_text())


def insert(
    buffer: TransformBuffer,
    parent: str,
    child: str,
    at_s: float = 1.0,
    x: float = 0.0,
    y: float = 0.0,
    quat_xyzw: tuple[float, float, float, float] = NO_TURN,
    is_static: bool = False,
) -> bool:
    return buffer.insert(
        parent=parent,
        child=child,
        stamp_ns=round(at_s * SECOND),
        translation=(x, y, 0.0),
        quat_xyzw=quat_xyzw,
        is_static=is_static,
    )


def lookup(buffer: TransformBuffer, target: str, source: str, at_s: float = 0.0) -> Array:
    return buffer.lookup(target=target, source=source, stamp_ns=round(at_s * SECOND))


def outcome_of(buffer: TransformBuffer, query: dict[str, Any]) -> Array | str:
    asked = {name: query[name] for name in ("target", "source", "stamp_ns")}
    try:
        return buffer.lookup(**asked)
    except TransformError as fault:
        return type(fault).__name__


@pytest.mark.parametrize("case", ORACLE, ids=[f"tree{i}" for i in range(len(ORACLE))])
def test_every_lookup_ends_as_it_does_in_tf2(case: dict[str, Any]) -> None:
    """Values to 1e-9, or the same exception class (data/make_tf2_lookups.py)."""
    buffer = TransformBuffer()
    for transform in case["transforms"]:
        try:
            buffer.insert(**transform)
        except InvalidArgumentException:
            continue  # tf2 logs these and goes on
    for query in case["queries"]:
        got, expected = outcome_of(buffer, query), query["outcome"]
        if isinstance(expected, str):
            assert isinstance(got, str), query
            assert got == expected, query
        else:
            assert not isinstance(got, str), (query, got)
            T = transform_from_quaternion(np.array(expected[3:]), np.array(expected[:3]))
            np.testing.assert_allclose(got, T, atol=1e-9, err_msg=str(query))


def test_the_oracle_saw_values_and_every_exception() -> None:
    outcomes = [query["outcome"] for case in ORACLE for query in case["queries"]]
    assert sum(not isinstance(outcome, str) for outcome in outcomes) > 200
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} == {
        "LookupException",
        "ConnectivityException",
        "ExtrapolationException",
        "InvalidArgumentException",
    }


def test_a_point_of_the_source_becomes_a_point_of_the_target() -> None:
    """base sees the camera 1 m ahead, turned left: what the camera has at x, base has at y."""
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", x=1.0, quat_xyzw=QUARTER_TURN)
    T_base_camera = lookup(buffer, "base", "camera", 1.0)
    np.testing.assert_allclose(T_base_camera @ [2.0, 0, 0, 1], [1, 2, 0, 1], atol=1e-12)
    T_camera_base = lookup(buffer, "camera", "base", 1.0)
    np.testing.assert_allclose(T_camera_base @ [1.0, 2, 0, 1], [2, 0, 0, 1], atol=1e-12)


def test_halfway_between_samples_is_half_the_way_and_half_the_turn() -> None:
    buffer = TransformBuffer()
    insert(buffer, "odom", "base", at_s=1.0)
    insert(buffer, "odom", "base", at_s=2.0, x=1.0, quat_xyzw=QUARTER_TURN)
    T = lookup(buffer, "odom", "base", 1.5)
    half = math.sqrt(0.5)
    expected = [[half, -half, 0, 0.5], [half, half, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(T, expected, atol=1e-12)


def test_the_shorter_way_round_is_taken_for_a_negated_quaternion() -> None:
    buffer = TransformBuffer()
    x, y, z, w = QUARTER_TURN
    insert(buffer, "odom", "base", at_s=1.0)
    insert(buffer, "odom", "base", at_s=2.0, quat_xyzw=(-x, -y, -z, -w))
    T = lookup(buffer, "odom", "base", 1.5)
    assert math.degrees(math.atan2(T[1, 0], T[0, 0])) == pytest.approx(45)


def test_stamp_zero_is_the_latest_moment_that_all_links_have() -> None:
    """odom → base is known to 3 s, base → camera to 2 s: at 2 s the robot was at x = 2."""
    buffer = TransformBuffer()
    for second in (1, 2, 3):
        insert(buffer, "odom", "base", at_s=second, x=second)
    insert(buffer, "base", "camera", at_s=1.0)
    insert(buffer, "base", "camera", at_s=2.0, y=0.5)
    np.testing.assert_allclose(lookup(buffer, "odom", "camera")[:3, 3], [2, 0.5, 0])


def test_static_links_hold_at_any_stamp() -> None:
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", at_s=500.0, x=0.3, is_static=True)
    for at_s in (0.0, 1.0, 10_000.0):
        assert lookup(buffer, "base", "camera", at_s)[0, 3] == 0.3


def test_a_link_follows_its_last_kind() -> None:
    """A frame once published as static and then moved is moving, and the other way round."""
    buffer = TransformBuffer()
    insert(buffer, "base", "arm", x=1.0, is_static=True)
    insert(buffer, "base", "arm", at_s=5.0, x=2.0)
    assert lookup(buffer, "base", "arm", 5.0)[0, 3] == 2.0
    with pytest.raises(ExtrapolationException):
        lookup(buffer, "base", "arm", 6.0)
    insert(buffer, "base", "arm", x=3.0, is_static=True)
    assert lookup(buffer, "base", "arm", 6.0)[0, 3] == 3.0


def test_siblings_meet_at_their_common_parent_though_the_links_above_are_out_of_date() -> None:
    """map → odom stopped long ago; left and right camera do not need it."""
    buffer = TransformBuffer()
    insert(buffer, "map", "base", at_s=1.0)
    for child, y in (("left", 0.1), ("right", -0.1)):
        insert(buffer, "base", child, at_s=50.0, y=y)
    np.testing.assert_allclose(lookup(buffer, "left", "right", 50.0)[:3, 3], [0, -0.2, 0])


@pytest.mark.parametrize(
    ("target", "source", "at_s", "error", "words"),
    [
        pytest.param("base", "cup", 1.0, LookupException, "'cup' .* does not exist", id="unknown"),
        pytest.param("cup", "base", 0.0, LookupException, "'cup' .* does not exist", id="target"),
        pytest.param("base", "sun", 0.0, ConnectivityException, "same tree", id="two trees"),
        pytest.param("base", "sun", 1.0, ConnectivityException, "same tree", id="two trees then"),
        pytest.param("odom", "base", 9.0, ExtrapolationException, "into the future", id="too new"),
        pytest.param("odom", "base", 0.5, ExtrapolationException, "into the past", id="too old"),
        pytest.param(
            "base", "camera", 2.0, ExtrapolationException, "but only time 1.0+ is", id="one sample"
        ),
        pytest.param("", "base", 1.0, InvalidArgumentException, "is empty", id="empty target"),
        pytest.param("base", "", 1.0, InvalidArgumentException, "is empty", id="empty source"),
        pytest.param("base", "/odom", 1.0, InvalidArgumentException, "starts with", id="slash"),
    ],
)
def test_what_cannot_be_said_says_why(
    target: str, source: str, at_s: float, error: type[TransformError], words: str
) -> None:
    buffer = TransformBuffer()
    insert(buffer, "odom", "base", at_s=1.0)
    insert(buffer, "odom", "base", at_s=2.0)
    insert(buffer, "base", "camera", at_s=1.0)
    insert(buffer, "galaxy", "sun", at_s=1.0)
    with pytest.raises(error, match=words):
        lookup(buffer, target, source, at_s)


def test_extrapolation_names_both_frames_and_both_times() -> None:
    buffer = TransformBuffer()
    insert(buffer, "odom", "base", at_s=1.0)
    insert(buffer, "odom", "base", at_s=2.0)
    with pytest.raises(ExtrapolationException) as caught:
        lookup(buffer, "odom", "base", 2.25)
    message = str(caught.value)
    assert "Requested time 2.250000000 but the latest data is at time 2.000000000" in message
    assert "from frame [base] to frame [odom]" in message


@pytest.mark.parametrize(
    ("at_s", "is_past"),
    [pytest.param(0.5, True, id="past"), pytest.param(2.5, False, id="future")],
)
def test_only_a_stamp_that_is_past_for_ever_is_marked_so(at_s: float, is_past: bool) -> None:
    buffer = TransformBuffer()
    insert(buffer, "odom", "base", at_s=1.0)
    insert(buffer, "odom", "base", at_s=2.0)
    with pytest.raises(ExtrapolationException) as caught:
        lookup(buffer, "odom", "base", at_s)
    assert caught.value.is_past is is_past


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"translation": (0.0, NAN, 0.0)}, "NaN", id="nan in translation"),
        pytest.param({"translation": (INF, 0.0, 0.0)}, "infinite", id="infinite translation"),
        pytest.param({"quat_xyzw": (0.0, 0.0, NAN, 1.0)}, "NaN", id="nan in quaternion"),
        pytest.param({"quat_xyzw": (0.0, 0.0, 0.0, 0.0)}, "length 0,", id="no quaternion"),
        pytest.param({"quat_xyzw": (0.0, 0.0, 0.0, 1.1)}, "length 1.1,", id="not of unit length"),
        pytest.param({"parent": "camera"}, "are the same", id="its own parent"),
        pytest.param({"parent": "/camera"}, "are the same", id="its own parent with a slash"),
        pytest.param({"parent": ""}, "name is empty", id="no parent"),
        pytest.param({"child": "/"}, "name is empty", id="no child"),
    ],
)
def test_a_transform_that_means_nothing_is_refused_and_not_kept(
    changed: dict[str, Any], words: str
) -> None:
    buffer = TransformBuffer()
    transform = {
        "parent": "base",
        "child": "camera",
        "stamp_ns": SECOND,
        "translation": (0.0, 0.0, 0.0),
        "quat_xyzw": NO_TURN,
    }
    with pytest.raises(InvalidArgumentException, match=words):
        buffer.insert(**(transform | changed))
    with pytest.raises(LookupException):
        lookup(buffer, "base", "camera")


def test_a_nearly_unit_quaternion_becomes_a_rotation_without_scale() -> None:
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", quat_xyzw=(0.0, 0.0, 0.0, 1.004))
    R = lookup(buffer, "base", "camera")[:3, :3]
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-12)


def test_a_leading_slash_of_a_publisher_is_dropped() -> None:
    buffer = TransformBuffer()
    insert(buffer, "/base", "/camera", x=1.0)
    assert lookup(buffer, "base", "camera", 1.0)[0, 3] == 1.0


def test_a_frame_is_where_it_is_even_if_nobody_heard_of_it() -> None:
    np.testing.assert_array_equal(lookup(TransformBuffer(), "base", "base", 7.0), np.eye(4))


def test_samples_may_arrive_in_any_order() -> None:
    buffer = TransformBuffer()
    for second in (3, 1, 2):
        assert insert(buffer, "odom", "base", at_s=second, x=second * second)
    assert lookup(buffer, "odom", "base", 1.5)[0, 3] == pytest.approx(2.5)


def test_ten_seconds_are_held_and_what_is_older_is_not_taken() -> None:
    buffer = TransformBuffer()
    insert(buffer, "odom", "base", at_s=1.0)
    insert(buffer, "odom", "base", at_s=2.0)
    assert insert(buffer, "odom", "base", at_s=11.5)
    with pytest.raises(ExtrapolationException, match=r"earliest data is at time 2\.0"):
        lookup(buffer, "odom", "base", 1.0)
    assert insert(buffer, "odom", "base", at_s=1.4) is False
    assert insert(buffer, "odom", "base", at_s=1.5) is True


def test_a_repeated_stamp_changes_nothing() -> None:
    buffer = TransformBuffer()
    assert insert(buffer, "odom", "base", at_s=1.0, x=1.0)
    assert insert(buffer, "odom", "base", at_s=1.0, x=9.0) is False
    assert lookup(buffer, "odom", "base", 1.0)[0, 3] == 1.0


def test_a_child_that_changes_hands_stays_with_the_old_parent_until_the_new_one() -> None:
    """A cup goes from the table to the gripper at 2 s."""
    buffer = TransformBuffer()
    insert(buffer, "world", "table", x=1.0, is_static=True)
    insert(buffer, "world", "gripper", x=2.0, is_static=True)
    insert(buffer, "table", "cup", at_s=1.0)
    insert(buffer, "gripper", "cup", at_s=2.0)
    assert lookup(buffer, "world", "cup", 1.9)[0, 3] == 1.0
    assert lookup(buffer, "world", "cup", 2.0)[0, 3] == 2.0


def test_a_circle_is_an_error_and_not_an_endless_walk() -> None:
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        insert(buffer, parent, child)
    insert(buffer, "far", "away")
    for at_s in (0.0, 1.0):
        with pytest.raises(LookupException, match="loop"):
            lookup(buffer, "far", "a", at_s)


def test_a_chain_of_hundreds_of_links_is_walked() -> None:
    buffer = TransformBuffer()
    for link in range(MAX_DEPTH - 1):
        insert(buffer, f"f{link}", f"f{link + 1}", x=1.0)
    assert lookup(buffer, "f0", f"f{MAX_DEPTH - 1}", 1.0)[0, 3] == MAX_DEPTH - 1
    assert lookup(buffer, f"f{MAX_DEPTH - 1}", "f0")[0, 3] == 1 - MAX_DEPTH


def test_reset_forgets_what_moves_and_keeps_what_is_static() -> None:
    """A bag that starts again: samples of its end must not bar those of its beginning."""
    buffer = TransformBuffer()
    insert(buffer, "base", "camera", x=0.3, is_static=True)
    insert(buffer, "odom", "base", at_s=100.0, x=7.0)
    buffer.reset()
    with pytest.raises(ExtrapolationException):
        lookup(buffer, "odom", "base", 100.0)
    assert lookup(buffer, "base", "camera", 3.0)[0, 3] == 0.3
    assert insert(buffer, "odom", "base", at_s=1.0, x=1.0)
    assert lookup(buffer, "odom", "camera", 1.0)[0, 3] == pytest.approx(1.3)


quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 0.01)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(turns=st.lists(quaternions, min_size=4, max_size=4), at_s=st.floats(1.0, 2.0))
def test_lookups_chain_and_invert(turns: list[Any], at_s: float) -> None:
    buffer = TransformBuffer()
    units = [tuple(v / math.sqrt(sum(u * u for u in turn)) for v in turn) for turn in turns]
    insert(buffer, "a", "b", 1.0, 1.0, 2.0, units[0])
    insert(buffer, "a", "b", 2.0, -1.0, 0.5, units[1])
    insert(buffer, "b", "c", 1.0, 0.2, -2.0, units[2])
    insert(buffer, "b", "c", 2.0, 0.1, 2.0, units[3])
    T_ac, T_ab, T_bc, T_ca = (
        lookup(buffer, *pair, at_s) for pair in (("a", "c"), ("a", "b"), ("b", "c"), ("c", "a"))
    )
    np.testing.assert_allclose(T_ab @ T_bc, T_ac, atol=1e-9)
    np.testing.assert_allclose(T_ac @ T_ca, np.eye(4), atol=1e-9)


def test_one_thread_may_write_while_another_reads() -> None:
    """x always equals the stamp in seconds, whatever is pruned meanwhile."""
    buffer = TransformBuffer(cache_ns=SECOND)
    insert(buffer, "odom", "base", at_s=1.0, x=1.0)
    done = threading.Event()

    def write() -> None:
        for step in range(1, 3000):
            insert(buffer, "odom", "base", at_s=1 + step / 100, x=1 + step / 100)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(lookup(buffer, "odom", "base")[0, 3])
    writer.join()
    assert lookup(buffer, "odom", "base")[0, 3] == pytest.approx(30.99)
    assert all(1.0 <= x < 31.0 for x in seen)
