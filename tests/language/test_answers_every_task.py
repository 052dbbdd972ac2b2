# SPDX-License-Identifier: Apache-2.0
"""For every task the same ways to answer it, well and badly, and what we make of each.

More of each task's own ways are in `test_answers.py` and `test_parsing.py`; answers cut at every
byte in `test_answers_cut_and_hostile.py`. "Unreadable" stands for an AnswerError: it is never
"nothing". In a picture of 1000 x 500 pixels, x is a pixel and y half a one; the video takes 60 s.
"""

from __future__ import annotations

import pytest

from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.scene.detections import Task
from tests.language.samples import (
    EVENTS,
    EVENTS_READ,
    EXIT,
    GRASP,
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

UNREADABLE = "unreadable"
KINDS = (
    "fenced",
    "not fenced",
    "single quotes",
    "prose around",
    "said twice",
    "out of range",
    "wrong keys",
    "empty",
    "denied in words",
    "silence",
)
# what the model says, what we make of it (or UNREADABLE), a part of the notes or of the error
Row = tuple[str, object, str]


def rows_of_a_list(
    good: str,
    meant: list[object],
    *,
    slip: str,
    mended: object,
    note: str,
    wrong: str,
    missing: str,
) -> dict[str, Row]:
    """Ways to write a list of objects.

    Args:
        good: an object, and `meant`, what it means.
        slip: an object out of range; `mended` what is made of it, and `note` what is said of it.
        wrong: an object with another key; `missing` what is said of it.
    """
    return {
        "fenced": (listed(good), [meant], ""),
        "not fenced": (f"[{good}]", [meant], ""),
        "single quotes": (listed(good).replace('"', "'"), [meant], ""),
        "prose around": (f"Here [1]:\n{listed(good)}\nThat is {{all}}.", [meant], ""),
        "said twice": (listed(good, good), [meant], "said before"),
        "out of range": (listed(slip), mended, note),
        "wrong keys": (listed(wrong), UNREADABLE, missing),
        "empty": ("```json\n[]\n```", [], ""),
        "denied in words": ("There is none in the picture.", UNREADABLE, "got"),
        "silence": ("", UNREADABLE, ""),
    }


CUP = ["cup", [0, 100, 400, 150]]
BOXES = rows_of_a_list(
    box(), CUP,
    slip=box("[-50, 200, 1100, 300]"), mended=[["cup", [0, 100, 1000, 150]]], note="clipped",
    wrong='{"box": [0, 200, 400, 300], "label": "cup"}', missing="no 'bbox_2d'",
)  # fmt: skip
POINTS = rows_of_a_list(
    point(), ["point_1", [10, 10]],
    slip=point("[10, 1010]"), mended=[["point_1", [10, 500]]], note="clipped",
    wrong=box(), missing="no 'point_2d'",
)  # fmt: skip
WORDS = {
    "fenced": ("```\nYes.\n```", "```\nYes.\n```", ""),
    "not fenced": ("Yes.", "Yes.", ""),
    "single quotes": ("It says 'EXIT'.", "It says 'EXIT'.", ""),
    "prose around": ("Well: yes, I think.", "Well: yes, I think.", ""),
    "said twice": ("Yes. Yes.", "Yes. Yes.", ""),
    "out of range": ("At [5000, 1].", "At [5000, 1].", ""),
    "wrong keys": ('{"reply": "yes"}', '{"reply": "yes"}', ""),
    "empty": ("[]", "[]", ""),
    "denied in words": ("I see none.", "I see none.", ""),
    "silence": (" \n", UNREADABLE, "no words"),
}
STEPS = {
    "fenced": (
        call().replace("\n{", "\n```json\n{").replace("}\n<", "}\n```\n<"), ["", GRASP], "",
    ),
    "not fenced": (call(), ["", GRASP], ""),
    "single quotes": (call().replace('"', "'"), ["", GRASP], ""),
    "prose around": (f"I grasp.\n{call()}\nDone.", ["I grasp.\nDone.", GRASP], ""),
    "said twice": (call() + call(), ["", GRASP, GRASP], ""),  # it may be meant: twice it is
    "out of range": (  # the tool's business: zoom_from_call and point_from_call refuse it
        call(arguments='{"at": [5000, -1]}'), ["", ["grasp", {"at": (5000, -1)}]], "",
    ),
    "wrong keys": ('<tool_call>{"do": "grasp"}</tool_call>', UNREADABLE, "no 'name'"),
    "empty": ("<tool_call>\n</tool_call>", UNREADABLE, "not one well-formed object"),
    "denied in words": ("I cannot reach it.", ["I cannot reach it."], ""),
    "silence": ("", UNREADABLE, "neither words nor a tool call"),
}  # fmt: skip
ROWS: dict[Task, dict[str, Row]] = {
    Task.DETECT: BOXES,
    Task.REFER: BOXES,
    Task.POINT: POINTS,
    Task.DETECT_3D: rows_of_a_list(
        box_3d(), ["car", [1, 0, 4], [2, 1, 1]],
        slip=box_3d("[1, 0, 4000, 2, 1, 1, 0, 0, 0]"), mended=UNREADABLE, note="dropped",
        wrong=box(label="car"), missing="no 'bbox_3d'",
    ),
    Task.SPOT_TEXT: rows_of_a_list(
        text_span(), EXIT,
        slip=text_span("[-50, 200, 1100, 300]"), mended=[["EXIT", [0, 100, 1000, 150]]],
        note="clipped", wrong=box(label="EXIT"), missing="no 'text_content'",
    ),
    Task.COUNT: rows_of_a_list(
        point(), [10, 10],
        slip=point("[10, 1010]"), mended=[[10, 500]], note="clipped",
        wrong=box(), missing="no 'point_2d'",
    ),
    Task.ASK: WORDS,
    Task.COMPARE: WORDS,
    # Sentences as Qwen2.5-VL ends them in Qwen's notebook; lists as people ask for them.
    Task.LOCATE_MOMENT: {
        "fenced": ("```json\n[12.5, 18.0]\n```", [[12.5, 18, ""]], ""),
        "not fenced": ("The event happens in 12.5 - 18.0 seconds.", [[12.5, 18, ""]], ""),
        "single quotes": ("{'start': '00:12.50', 'end': '00:18.00'}", [[12.5, 18, ""]], ""),
        "prose around": (
            "The given query happens in 00:12.50 - 00:18.00, near 2 cups.", [[12.5, 18, ""]], "",
        ),
        "said twice": ("12.5 - 18.0 seconds (12.5 - 18.0 seconds).", [[12.5, 18, ""]], ""),
        "out of range": ("It happens in 50.0 - 70.0 seconds.", [[50, 60, ""]], "clipped"),
        "wrong keys": ('{"from": 12.5, "till": 18.0}', UNREADABLE, "no 'start'"),
        "empty": ("[]", [], ""),
        "denied in words": ("It does not happen.", UNREADABLE, "no span of time"),
        "silence": ("", UNREADABLE, "no span of time"),
    },
    Task.LIST_EVENTS: rows_of_a_list(
        '{"start_time": "00:23.00", "end_time": "00:48.00", "description": "trim the fat"}',
        EVENTS_READ[0],
        slip=EVENTS, mended=EVENTS_READ, note="clipped to the end",
        wrong='{"from": "00:23.00", "to": "00:48.00", "description": "trim"}',
        missing="no 'start'",
    ),
    Task.TRACK: rows_of_a_list(
        timed(label="cup"), [1.0, [0, 100, 400, 150], "cup"],
        slip=timed(numbers="[-50, 200, 1100, 300]"), mended=[[1.0, [0, 100, 1000, 150], ""]],
        note="clipped", wrong=box(), missing="no 'time'",
    ),
    Task.ZOOM: STEPS,
    Task.ACT: STEPS,
}  # fmt: skip


@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_no_way_to_answer_a_task_is_left_out(task):
    assert tuple(ROWS[task]) == KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", Task, ids=lambda task: task.value)
def test_each_way_to_answer_a_task_is_read_or_refused(task, kind):
    text, expected, note = ROWS[task][kind]
    if expected == UNREADABLE:
        with pytest.raises(AnswerError) as caught:
            read(text, task)
        assert note in str(caught.value)
        assert caught.value.answer_text == text
        return
    reading = read(text, task)
    assert plain(reading) == expected
    assert reading.complete
    assert bool(reading.notes) is bool(note)
    assert note in " ".join(reading.notes)
