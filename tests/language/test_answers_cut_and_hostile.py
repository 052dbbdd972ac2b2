# SPDX-License-Identifier: Apache-2.0
"""Whatever is said, an answer is a part of what was said, or an AnswerError."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.language.answers import AnyReading
from qwen3vl_ros.scene.detections import Task
from tests.language.samples import (
    EVENTS,
    TEXTS,
    box,
    box_3d,
    call,
    listed,
    plain,
    point,
    read,
    text_span,
    timed,
)

ZOOMED = '{"label": "sígn", "bbox_2d": [574, 301, 660, 468], "img_idx": 0}'
BOXES = listed(box(), box("[1, 2, 3, 4]", "a réd cup"))
WHOLE = {
    Task.DETECT: BOXES,
    Task.REFER: BOXES,
    Task.POINT: listed(point(), point("[30, 40]", "point_2")),
    Task.DETECT_3D: listed(box_3d(), box_3d("[1.25, -0.5, 10, 2, 1, 1, 0, 0.5, 0]", "cár")),
    Task.SPOT_TEXT: TEXTS,
    Task.COUNT: listed(point(), point("[30, 40]", "point_2")),
    Task.LOCATE_MOMENT: "At 3.5 - 9.25 seconds – and <12.0 seconds> to <18.0 seconds>, é.",
    Task.LIST_EVENTS: f"```json\n{EVENTS}\n```",
    Task.TRACK: listed(timed(), timed("2.0")),
    Task.ACT: f"Thought: near.\n{call()}\n{call('open', '{}')}",
    Task.ZOOM: f"I look closer.\n{call('image_zoom_in_tool', ZOOMED)}",
    Task.ASK: "Yes, it is réd.",
    Task.COMPARE: "Picture 2, thé left one.",
}


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_cut_at_every_byte_an_answer_yields_the_start_of_itself_or_an_error(task):
    """Never another number than was written, and never "nothing"."""
    data = WHOLE[task].encode()
    whole = plain(read(WHOLE[task], task))
    longest = 0
    for cut in range(len(data)):
        try:
            reading = read(data[:cut].decode(errors="ignore"), task, ended=False)
        except AnswerError:
            continue
        found = plain(reading)
        if task in (Task.ASK, Task.COMPARE):
            assert whole.startswith(found)
        elif task in (Task.ZOOM, Task.ACT):
            assert found[1:] == whole[1 : len(found)]
        else:
            assert found
            assert found == whole[: len(found)]
        assert len(found) >= longest
        longest = len(found)
        if len(found) < len(whole):
            assert not reading.complete
    assert longest


@pytest.mark.parametrize(
    ("task", "one"),
    [
        (Task.DETECT, box()),
        (Task.POINT, point()),
        (Task.DETECT_3D, box_3d()),
        (Task.SPOT_TEXT, text_span()),
        (Task.COUNT, point()),
        (Task.TRACK, timed()),
    ],
    ids=lambda value: value.value if isinstance(value, Task) else "",
)
def test_cut_off_between_objects_an_answer_is_whole_only_if_its_list_is_closed(task, one):
    """Objects line by line say nowhere that no more come; cut there, they were once all."""
    assert not read(f"{one}\n", task, ended=False).complete
    assert not read(f"{listed(one)}\nAnd:", task, ended=False).complete
    assert read(listed(one), task, ended=False).complete
    assert read(one, task, ended=True).complete


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_a_thought_that_does_not_end_is_no_answer_whatever_stands_in_it(task):
    for text in (*WHOLE.values(), "[]", "{}"):
        with pytest.raises(AnswerError, match="still thinking"):
            read(text, task, thinking=True)


@pytest.mark.parametrize(
    ("task", "text", "note"),
    [
        (Task.SPOT_TEXT, TEXTS, "1 object: beyond max_objects 1, not read"),
        (Task.TRACK, f"[{timed()}, {timed('2.0')}]", "1 object: beyond max_objects 1, not read"),
        (
            Task.LOCATE_MOMENT,
            "1.0 - 2.0 s, 3.0 - 4.0 s",
            "1 moment: beyond max_objects 1, not read",
        ),
        (Task.LIST_EVENTS, EVENTS, "1 object: beyond max_objects 1, not read"),
    ],
    ids=["text", "track", "moment", "events"],
)
def test_what_is_beyond_the_cap_is_not_read_and_that_is_said(task, text, note):
    reading = read(text, task, max_objects=1)
    assert len(plain(reading)) == 1
    assert note in reading.notes


def test_a_capped_count_is_at_least_so_many():
    several = ", ".join(point(f"[{n}, 0]", f"point_{n}") for n in range(5))
    reading = read(f"[{several}]", Task.COUNT, max_objects=3)
    assert reading.value.number == 3
    assert not reading.complete
    assert reading.notes == ("more than max_objects 3, not counted",)
    assert read(f"[{several}]", Task.COUNT, max_objects=5).complete


def test_words_that_we_cut_off_are_not_complete():
    assert not read("Yes, it", Task.ASK, ended=False).complete
    assert not read(call(), Task.ACT, ended=False).complete


fragments = st.sampled_from(
    [
        "[", "]", "{", "}", ",", ":", "'", '"', "```json\n", "```", "\n", " - ", " to ", "start",
        "end", "<tool_call>", "</tool_call>", "</think>", "<think>", '"name"', '"arguments"',
        '"bbox_2d": [1, 2, 3, 4]', '"text_content": "a"', '"point_2d": [1, 2]', '"time": 1.0',
        '"start": 1', '"end": "00:02.00"', '"00:01.00 - 00:02.00": "a"', "12.5", "<3.0 seconds>",
        "99999999999999999999", "1e999", "NaN", "true", "\\", "\x00", "é", "\ud800",
        text_span(), point(), timed(), call(),
    ]
)  # fmt: skip


def read_or_none(text: str, task: Task, **more: bool) -> AnyReading | None:
    try:
        return read(text, task, **more)
    except AnswerError:
        return None


@settings(deadline=None, max_examples=150)
@given(
    parts=st.lists(st.one_of(fragments, st.text(max_size=4)), max_size=12),
    task=st.sampled_from(Task),
    ended=st.booleans(),
    thinking=st.booleans(),
)
def test_whatever_is_said_nothing_but_an_answer_error_comes_of_it(parts, task, ended, thinking):
    text = "".join(parts)
    reading = read_or_none(text, task, ended=ended, thinking=thinking)
    if reading is not None:
        assert reading.text == text
        assert plain(reading) or "[" in text or "{" in text


@pytest.mark.parametrize("piece", ["1.0 - ", "<1", "1:", "start ", "<tool_call>", '{"1 - 2": '])
@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_hostile_repetition_ends_and_finds_nothing_but_words(task, piece):
    reading = read_or_none(piece * 2000, task)
    answers_in_words = task in (Task.ASK, Task.COMPARE, Task.ZOOM, Task.ACT)
    assert reading is None or answers_in_words
