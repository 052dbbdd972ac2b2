# SPDX-License-Identifier: Apache-2.0
"""The golden table: for every task, what models write, and what we make of it.

"Unreadable" stands for an AnswerError: it is never "nothing". In a picture of 1000 x 500 pixels, x
is a pixel and y half a one; the video takes 60 s.
"""

from __future__ import annotations

import pytest

from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.scene.detections import Task
from tests.language.samples import (
    BOX,
    CLOCK,
    EVENTS,
    EVENTS_READ,
    EXIT,
    EXIT_AGAIN,
    GRASP,
    STAMP,
    TEXTS,
    call,
    plain,
    point,
    read,
    text_span,
    timed,
)

UNREADABLE = "unreadable"

# task, what the model says, what we make of it (or UNREADABLE), complete, a part of the notes
GOLDEN = {
    # --- spot text
    "text-native": (Task.SPOT_TEXT, TEXTS, [EXIT, EXIT_AGAIN], True, ""),
    "text-no-fence": (Task.SPOT_TEXT, TEXTS.strip("`json\n"), [EXIT, EXIT_AGAIN], True, ""),
    "text-single-quotes": (Task.SPOT_TEXT, TEXTS.replace('"', "'"), [EXIT, EXIT_AGAIN], True, ""),
    "text-prose": (Task.SPOT_TEXT, f"I read:\n{TEXTS}\nThat's it.", [EXIT, EXIT_AGAIN], True, ""),
    "text-thought": (Task.SPOT_TEXT, f"[{{x}}]</think>\n{TEXTS}", [EXIT, EXIT_AGAIN], True, ""),
    "text-one-object": (Task.SPOT_TEXT, text_span(), [EXIT], True, ""),
    "text-cut": (Task.SPOT_TEXT, TEXTS[:-20], [EXIT], False, ""),
    "text-list-not-closed": (Task.SPOT_TEXT, f"[{text_span()},", [EXIT], False, ""),
    "text-twice": (Task.SPOT_TEXT, f"[{text_span()}, {text_span()}]", [EXIT], True, "said before"),
    "text-out-of-range": (
        Task.SPOT_TEXT, f"[{text_span('[-50, 200, 1100, 300]')}]",
        [["EXIT", [0, 100, 1000, 150]]], True, "clipped to the picture",
    ),
    "text-far-out-of-range": (
        Task.SPOT_TEXT, f"[{text_span()}, {text_span('[0, 0, 5000, 5000]')}]", [EXIT], True, "far",
    ),
    "text-wrong-key": (Task.SPOT_TEXT, '[{"bbox_2d": [0, 2, 4, 5], "label": "EXIT"}]',
                       UNREADABLE, False, "no 'text_content'"),
    "text-wrong-box-key": (Task.SPOT_TEXT, '[{"bbox": [0, 2, 4, 5], "text_content": "EXIT"}]',
                           UNREADABLE, False, "no 'bbox_2d'"),
    "text-blank": (Task.SPOT_TEXT, text_span(text=" "), UNREADABLE, False, "no 'text_co"),
    "text-with-escapes": (
        Task.SPOT_TEXT, text_span(text="E\\u001b[31mXI\\u202eT"), [EXIT], True, "",
    ),
    "text-nothing": (Task.SPOT_TEXT, "```json\n[]\n```", [], True, ""),
    "text-prose-only": (Task.SPOT_TEXT, "There is no text.", UNREADABLE, False, ""),
    "text-silence": (Task.SPOT_TEXT, "", UNREADABLE, False, ""),
    # --- count
    "count-native": (
        Task.COUNT, f"```json\n[\n\t{point()},\n\t{point('[30, 40]', 'point_2')}\n]\n```",
        [[10, 10], [30, 20]], True, "",
    ),
    "count-same-place-other-label": (
        Task.COUNT, f"[{point()}, {point(label='point_2')}]", [[10, 10]], True, "said before",
    ),
    "count-without-labels": (Task.COUNT, '[{"point_2d": [10, 20]}]', [[10, 10]], True, ""),
    "count-single-quotes-cut": (
        Task.COUNT, f"[{point()}, {point('[3, 4]')}".replace('"', "'")[:-9],
        [[10, 10]], False, "",
    ),
    "count-out-of-range": (Task.COUNT, point("[10, 1010]"), [[10, 500]], True, "clipped"),
    "count-none": (Task.COUNT, "[]", [], True, ""),
    "count-a-number-in-words": (Task.COUNT, "There are 3 mugs.", UNREADABLE, False, ""),
    "count-boxes": (Task.COUNT, '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]',
                    UNREADABLE, False, "no 'point_2d'"),
    # --- ask, compare
    "ask-native": (Task.ASK, "Yes, it is **red**.\n", "Yes, it is **red**.", True, ""),
    "ask-lines-stay": (Task.ASK, "- a\n- b", "- a\n- b", True, ""),
    "ask-thought": (Task.ASK, "Hm.</think>\n\nYes.", "Yes.", True, ""),
    "ask-thought-twice": (Task.ASK, "a</think>b</think> Yes.", "Yes.", True, ""),
    "ask-thinking-not-closed": (Task.ASK, "<think>It may be", UNREADABLE, False, "still thinking"),
    "ask-silence": (Task.ASK, " \n", UNREADABLE, False, "no words"),
    "ask-only-thought": (Task.ASK, "Hm.</think>\n", UNREADABLE, False, "no words"),
    "compare-native": (Task.COMPARE, "Picture 2.", "Picture 2.", True, ""),
    # --- locate a moment
    "moment-seconds": (Task.LOCATE_MOMENT, "12.5 - 18.0 seconds", [[12.5, 18, ""]], True, ""),
    "moment-whole-seconds": (Task.LOCATE_MOMENT, "12 - 18", [[12, 18, ""]], True, ""),
    "moment-prose": (
        Task.LOCATE_MOMENT, "It happens from 12.5 to 18.0 seconds.", [[12.5, 18, ""]], True, "",
    ),
    "moment-between": (
        Task.LOCATE_MOMENT, "Between 3 s and 9 s, she sits.", [[3, 9, ""]], True, "",
    ),
    "moment-stamps": (
        Task.LOCATE_MOMENT, "<3.0 seconds> - <9.1 seconds>", [[3, 9.1, ""]], True, "",
    ),
    "moment-clock": (Task.LOCATE_MOMENT, "00:03.25 - 00:09.10", [[3.25, 9.1, ""]], True, ""),
    "moment-list": (Task.LOCATE_MOMENT, "[3.2, 9.1]", [[3.2, 9.1, ""]], True, ""),
    "moment-list-of-lists": (
        Task.LOCATE_MOMENT, "```json\n[[3.2, 9.1], [11, 12]]\n```",
        [[3.2, 9.1, ""], [11, 12, ""]], True, "",
    ),
    "moment-object": (
        Task.LOCATE_MOMENT, "```json\n{'start': '00:03.50', 'end': 9}\n```",
        [[3.5, 9, ""]], True, "",
    ),
    "moment-start-end": (
        Task.LOCATE_MOMENT, "It starts at 3.0 seconds and ends at 9.1 seconds.",
        [[3, 9.1, ""]], True, "",
    ),
    "moment-instant": (Task.LOCATE_MOMENT, "At 12.5 seconds.", [[12.5, 12.5, ""]], True, ""),
    "moment-two-instants": (Task.LOCATE_MOMENT, "At 3 s or 9 s.", UNREADABLE, False, ""),
    "moment-people": (Task.LOCATE_MOMENT, "2 to 3 people enter.", UNREADABLE, False, ""),
    "moment-date": (Task.LOCATE_MOMENT, "Filmed on 2026-11-22.", UNREADABLE, False, ""),
    "moment-row-of-numbers": (Task.LOCATE_MOMENT, "1.0 - 2.0 - 3.0", UNREADABLE, False, ""),
    "moment-backwards": (
        Task.LOCATE_MOMENT, "18.0 - 12.5 seconds", [[12.5, 18, ""]], True, "put in order",
    ),
    "moment-past-the-end": (
        Task.LOCATE_MOMENT, "50.0 - 70.0 seconds", [[50, 60, ""]], True, "clipped to the end",
    ),
    "moment-after-the-end": (
        Task.LOCATE_MOMENT, "70.0 - 80.0 seconds", UNREADABLE, False, "after the end",
    ),
    "moment-75-seconds-on-the-clock": (
        Task.LOCATE_MOMENT, "00:10.00 - 00:75.00", UNREADABLE, False, "",
    ),
    "moment-twice": (
        Task.LOCATE_MOMENT, "3.0 - 9.1 seconds, that is 00:03.00 - 00:09.10",
        [[3, 9.1, ""]], True, "",
    ),
    "moment-never": (Task.LOCATE_MOMENT, "[]", [], True, ""),
    "moment-never-in-words": (Task.LOCATE_MOMENT, "It does not occur.", UNREADABLE, False, ""),
    # --- list events
    "events-native": (Task.LIST_EVENTS, EVENTS, EVENTS_READ, True, "clipped to the end"),
    "events-fenced": (
        Task.LIST_EVENTS, f"```json\n{EVENTS}\n```", EVENTS_READ, True, "clipped to the end",
    ),
    "events-single-quotes": (
        Task.LIST_EVENTS, EVENTS.replace('"', "'"), EVENTS_READ, True, "clipped",
    ),
    "events-cut": (Task.LIST_EVENTS, EVENTS[:-6], EVENTS_READ[:1], False, ""),
    "events-objects": (
        Task.LIST_EVENTS,
        '[{"start": "00:23.00", "end": "00:48.00", "description": "trim the fat"}]',
        EVENTS_READ[:1], True, "",
    ),
    "events-objects-with-span": (
        Task.LIST_EVENTS, '[{"timestamp": "00:23.00 - 00:48.00", "event": "trim the fat"}]',
        EVENTS_READ[:1], True, "",
    ),
    "events-twice": (
        Task.LIST_EVENTS,
        '[{"start": 1, "end": 2, "event": "a"}, {"start": "1.0", "end": "2.0", "event": "a"}]',
        [[1, 2, "a"]], True, "said before",
    ),
    "events-key-twice": (
        Task.LIST_EVENTS, '{"00:01.00 - 00:02.00": "a", "00:01.00 - 00:02.00": "b"}',
        UNREADABLE, False, "not well-formed",
    ),
    "events-wrong-keys": (
        Task.LIST_EVENTS, '[{"from": 1, "to": 2, "event": "a"}]', UNREADABLE, False, "no 'start'",
    ),
    "events-without-words": (
        Task.LIST_EVENTS, '[{"start": 1, "end": 2}]', UNREADABLE, False, "no 'description'",
    ),
    "events-one-key-is-no-span": (
        Task.LIST_EVENTS, '{"00:23.00 - 00:48.00": "trim the fat", "later": "eat"}',
        EVENTS_READ[:1], True, "no 'start'",
    ),
    "events-prose": (Task.LIST_EVENTS, "00:23.00 - 00:48.00: trim", UNREADABLE, False, ""),
    "events-none": (Task.LIST_EVENTS, "```json\n{}\n```", [], True, ""),
    "events-none-in-a-list": (Task.LIST_EVENTS, "[]", [], True, ""),
    # --- track
    "track-native": (
        Task.TRACK, f"```json\n[\n\t{timed()},\n\t{timed('2.0')}\n]\n```",
        [BOX, [2.0, *BOX[1:]]], True, "",
    ),
    "track-no-fence-single-quotes": (
        Task.TRACK, timed(label="cup").replace('"', "'"), [[*BOX[:2], "cup"]], True, "",
    ),
    "track-time-as-text": (
        Task.TRACK, f"[{timed(STAMP)}, {timed(CLOCK)}]",
        [BOX, [2.0, *BOX[1:]]], True, "",
    ),
    "track-two-at-a-time": (
        Task.TRACK, f"[{timed()}, {timed(numbers='[0, 0, 10, 10]')}]",
        [BOX, [1.0, [0, 0, 10, 5], ""]], True, "",
    ),
    "track-without-label": (Task.TRACK, '{"time": 1, "bbox_2d": [0, 200, 400, 300]}',
                            [BOX], True, ""),
    "track-twice": (Task.TRACK, f"[{timed()}, {timed()}]", [BOX], True, "said before"),
    "track-cut": (Task.TRACK, f"[{timed()}, {timed('2.0')[:40]}", [BOX], False, ""),
    "track-corners": (
        Task.TRACK, timed(numbers="[400, 300, 0, 200]"), [BOX], True, "corners put in order",
    ),
    "track-after-the-end": (
        Task.TRACK, f"[{timed()}, {timed('61.0')}]", [BOX], True, "after the end",
    ),
    "track-before-the-start": (Task.TRACK, timed("-1.0"), UNREADABLE, False, "no 'time'"),
    "track-frame-number": (Task.TRACK, '{"frame": 1, "bbox_2d": [0, 2, 4, 3]}',
                           UNREADABLE, False, "no 'time'"),
    "track-nowhere": (Task.TRACK, "[]", [], True, ""),
    # --- zoom, act
    "act-native": (
        Task.ACT, f"Thought: it is near.\nAction: grasp it.\n{call()}",
        ["Thought: it is near.\nAction: grasp it.", GRASP], True, "",
    ),
    "act-call-only": (Task.ACT, call(), ["", GRASP], True, ""),
    "act-two-calls": (Task.ACT, f"{call()}\n{call('open', '{}')}",
                      ["", GRASP, ["open", {}]], True, ""),
    "act-single-quotes": (Task.ACT, call().replace('"', "'"), ["", GRASP], True, ""),
    "act-fenced-inside": (
        Task.ACT, '<tool_call>\n```json\n{"name": "grasp", "arguments": {"force_n": 2}}\n```\n'
        "</tool_call>", ["", GRASP], True, "",
    ),
    "act-values": (
        Task.ACT, call(arguments='{"a": [1, -2.5, true, null, {"b": "c"}]}'),
        ["", ["grasp", {"a": (1, -2.5, True, None, {"b": "c"})}]], True, "",
    ),
    "act-not-closed": (Task.ACT, call().removesuffix("</tool_call>"), ["", GRASP], True, ""),
    "act-done-in-words": (Task.ACT, "Done.", ["Done."], True, ""),
    "act-json-without-tags-is-words": (
        Task.ACT, '{"name": "grasp", "arguments": {}}',
        ['{"name": "grasp", "arguments": {}}'], True, "",
    ),
    "act-second-call-broken": (
        Task.ACT, f"{call()}\n{call(arguments='7')}\n{call()}", ["", GRASP], False,
        "call 2 of 3: no 'arguments' object, it ends the row",
    ),
    "act-cut-in-the-call": (Task.ACT, call()[:40], UNREADABLE, False, "cut off"),
    "act-wrong-keys": (Task.ACT, '<tool_call>{"tool": "grasp", "arguments": {}}</tool_call>',
                       UNREADABLE, False, "no 'name'"),
    "act-python": (Task.ACT, "<tool_call>grasp(2)</tool_call>", UNREADABLE, False, "well-formed"),
    "act-two-in-one": (Task.ACT, '<tool_call>{"name": "a"} {"name": "b"}</tool_call>',
                       UNREADABLE, False, "not one well-formed object"),
    "act-nan": (Task.ACT, call(arguments='{"force_n": NaN}'), UNREADABLE, False, "no JSON value"),
    "act-huge": (Task.ACT, call(arguments='{"force_n": 1e999}'), UNREADABLE, False, "too large"),
    "act-silence": (Task.ACT, "", UNREADABLE, False, "neither words nor a tool call"),
    "zoom-native": (
        Task.ZOOM,
        'I look closer.\n<tool_call>\n{"name": "image_zoom_in_tool", "arguments": {"label": '
        '"sign", "bbox_2d": [574, 301, 660, 468], "img_idx": 0}}\n</tool_call>',
        ["I look closer.", ["image_zoom_in_tool",
         {"label": "sign", "bbox_2d": (574, 301, 660, 468), "img_idx": 0}]], True, "",
    ),
    "zoom-answer": (Task.ZOOM, "It says EXIT.", ["It says EXIT."], True, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_what_a_model_writes_and_what_we_make_of_it(name):
    task, text, expected, complete, note = GOLDEN[name]
    if expected == UNREADABLE:
        with pytest.raises(AnswerError) as caught:
            read(text, task)
        assert note in str(caught.value)
        assert caught.value.answer_text == text
        return
    reading = read(text, task)
    assert plain(reading) == expected
    assert reading.complete is complete
    assert reading.text == text
    assert bool(reading.notes) is bool(note)
    assert note in " ".join(reading.notes)
