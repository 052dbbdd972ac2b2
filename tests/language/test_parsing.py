# SPDX-License-Identifier: Apache-2.0
"""Answers become objects strictly: what cannot be read is never "nothing is there"."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.language.labels import clean_label
from qwen3vl_ros.language.parsing import Answer, parse_answer
from qwen3vl_ros.scene.detections import SPATIAL_TASKS, BoxSource, Task

NATIVE = (
    '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "label": "red box"},\n'
    '\t{"bbox_2d": [0, 0, 1000, 1000], "label": "table"}\n]\n```'
)


def parsed(text: str, task: Task = Task.REFER, max_objects: int = 20) -> Answer:
    """In a picture of 1000 x 500 pixels, where x is a pixel and y half a one."""
    return parse_answer(text, task=task, width=1000, height=500, max_objects=max_objects)


def boxes(answer: Answer) -> list[tuple[str, list[float]]]:
    return [(found.label, found.xyxy_px.tolist()) for found in answer.objects]


def one(numbers: str, label: str = '"box"', key: str = "bbox_2d") -> str:
    return f'[{{"{key}": {numbers}, "label": {label}}}]'


RED = ("red box", [100, 100, 300, 200])
TABLE = ("table", [0, 0, 1000, 500])


@pytest.mark.parametrize(
    ("text", "found", "complete"),
    [
        pytest.param(NATIVE, [RED, TABLE], True, id="native"),
        pytest.param(NATIVE.strip("`json\n"), [RED, TABLE], True, id="no-fence"),
        pytest.param(NATIVE.replace('"', "'"), [RED, TABLE], True, id="single-quotes"),
        pytest.param(f"Sure, 2 boxes [x, y]:\n{NATIVE}\nDone.", [RED, TABLE], True, id="prose"),
        pytest.param(f"I see a [{{mug}}].</think>\n\n{NATIVE}", [RED, TABLE], True, id="thinking"),
        pytest.param(
            '{"bbox_2d": [100, 200, 300, 400], "label": "red box"}', [RED], True, id="one-dict"
        ),
        pytest.param(
            '{"label": "red box", "color": "red", "bbox_2d": [100.0, 2e2, 300, 400]}',
            [RED],
            True,
            id="other-order-and-keys",
        ),
        pytest.param(NATIVE.replace("\n]\n```", ""), [RED, TABLE], False, id="list-not-closed"),
        pytest.param(NATIVE[:-20], [RED], False, id="cut-in-second-object"),
        pytest.param("[]", [], True, id="empty"),
        pytest.param("```json\n[]\n```", [], True, id="empty-fenced"),
    ],
)
def test_well_formed_and_truncated_answers(text, found, complete):
    answer = parsed(text)
    assert boxes(answer) == found
    assert answer.complete is complete
    assert answer.notes == ()
    assert answer.text == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing-said"),
        pytest.param("There is no red box in the image.", id="prose"),
        pytest.param("[", id="cut-at-once"),
        pytest.param('```json\n[\n\t{"bbox_2d": [100, 200, 3', id="cut-in-first-object"),
        pytest.param("[null]", id="null"),
        pytest.param("[[100, 200, 300, 400]]", id="bare-lists"),
        pytest.param("{}", id="empty-dict"),
        pytest.param(one("[1, 2, 3, 4]", key="bbox"), id="other-key"),
        pytest.param(one("[1, 2]", key="point_2d"), id="other-task"),
        pytest.param(one("[1, 2, 3]"), id="three-numbers"),
        pytest.param(one("[1, 2, 3, 4, 5]"), id="five-numbers"),
        pytest.param(one('["1", "2", "3", "4"]'), id="strings"),
        pytest.param(one("[true, 2, 3, 4]"), id="bool"),
        pytest.param(one("[x1, y1, x2, y2]"), id="prompt-echo"),
        pytest.param(one("[[1, 2], [3, 4]]"), id="nested"),
        pytest.param(one('"1 2 3 4"'), id="one-string"),
        pytest.param(one("[NaN, 2, 3, 4]"), id="nan"),
        pytest.param(one("[1, 2, Infinity, 4]"), id="infinity"),
        pytest.param(one("[1, 2, 1e308, 4]"), id="1e308"),
        pytest.param(one(f"[1, 2, 1{'0' * 400}, 4]"), id="10^400"),
        pytest.param(one("[1, 2, 3, 4]", label="null"), id="label-null"),
        pytest.param(one("[1, 2, 3, 4]", label="7"), id="label-number"),
        pytest.param(one("[1, 2, 3, 4]", label='"\\u0007"'), id="label-of-control-characters"),
        pytest.param('[{"bbox_2d": [1, 2, 3, 4]}]', id="no-label"),
        pytest.param(one("[5, 5, 5, 9]"), id="no-width"),
        pytest.param(one("[-9, 5, -1, 9]"), id="beside-the-picture"),
        pytest.param("{" * 5000, id="braces"),
        pytest.param("[" * 5000 + "]" * 5000, id="brackets"),
    ],
)
def test_an_answer_in_which_nothing_can_be_read_is_an_error_with_the_text(text):
    with pytest.raises(AnswerError, match="expected a JSON list") as caught:
        parsed(text)
    assert caught.value.answer_text == text


@pytest.mark.parametrize(
    ("numbers", "xyxy_px", "note"),
    [
        ("[-50, 100, 1200, 400]", [0, 50, 1000, 200], "1 object: clipped to the picture"),
        ("[300, 400, 100, 200]", [100, 100, 300, 200], "1 object: corners put in order"),
        ("[300, 200, 100, 400]", [100, 100, 300, 200], "1 object: corners put in order"),
    ],
    ids=["out-of-range", "inverted", "half-inverted"],
)
def test_slips_are_mended_and_said(numbers, xyxy_px, note):
    answer = parsed(one(numbers))
    assert answer.objects[0].xyxy_px.tolist() == xyxy_px
    assert answer.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        ('{"bbox_2d": [1, 2, 3], "label": "box"}', "'bbox_2d' is not a list of 4 numbers"),
        ('{"bbox_2d": [1, 2, NaN, 4], "label": "box"}', "not a list of 4 finite numbers"),
        ('{"bbox_2d": [1, 2, 3000, 4], "label": "box"}', "far outside the picture"),
        ('{"bbox_2d": [1, 2, 1, 4], "label": "box"}', "no area"),
        ('{"bbox_2d": [1, 2, 3, 4]}', "no 'label'"),
        ('{"label": "box"}', "no 'bbox_2d'"),
        ('{"bbox_2d": [1, 2 3], "label": "box"}', "not well-formed"),
        ('{"bbox_2d": [100, 200, 300, 400], "label": "red box"}', "said before"),
        ('{"bbox_2d": [300, 200, 100, 400], "label": "red  box"}', "said before"),
    ],
)
def test_one_bad_object_is_dropped_with_a_note_and_the_others_stay(bad, note):
    good = '{"bbox_2d": [100, 200, 300, 400], "label": "red box"}'
    other = '{"bbox_2d": [0, 0, 1000, 1000], "label": "table"}'
    answer = parsed(f"[{good}, {bad}, {other}]")
    assert boxes(answer) == [RED, TABLE]
    assert answer.complete
    assert len(answer.notes) == 1
    assert answer.notes[0].startswith("1 object: ")
    assert note in answer.notes[0]


def test_a_note_counts_what_it_tells_of():
    bad = ", ".join(f'{{"bbox_2d": [{n}], "label": "a"}}' for n in range(3))
    answer = parsed(f'[{bad}, {{"bbox_2d": [1, 2, 3, 4], "label": "a"}}]')
    assert answer.notes == ("3 objects: 'bbox_2d' is not a list of 4 numbers, dropped",)


def test_objects_beyond_the_cap_are_not_read_and_that_is_said():
    answer = parsed(NATIVE, max_objects=1)
    assert boxes(answer) == [RED]
    assert answer.notes == ("1 object: beyond max_objects 1, not read",)
    assert answer.complete


@pytest.mark.parametrize("text", [NATIVE, NATIVE.replace("red", "rouge é椅🤖")])
def test_cut_at_every_byte_an_answer_yields_its_whole_objects_or_an_error(text):
    whole = boxes(parsed(text))
    data = text.encode()
    list_closed = data.rindex(b"]") + 1
    ends = [data.index(b"}") + 1, data.rindex(b"}") + 1]
    for cut in range(len(data)):
        piece = data[:cut].decode(errors="replace")
        readable = sum(cut >= end for end in ends)
        if not readable:
            with pytest.raises(AnswerError):
                parsed(piece)
            continue
        answer = parsed(piece)
        assert boxes(answer) == whole[:readable]
        assert answer.complete is (cut >= list_closed)


def test_points_are_pixels_of_the_original_picture():
    answer = parsed('[{"point_2d": [500, 1001], "label": "mug"}]', Task.POINT)
    assert answer.objects[0].uv_px.tolist() == [500, 500]
    assert answer.notes == ("1 object: clipped to the picture (0 to 1000)",)
    (point,) = answer.points([0.5])
    assert (point.label, point.score) == ("mug", 0.5)
    assert answer.detections_2d([0.5]) == answer.detections_3d([0.5]) == ()


def test_a_3d_box_is_metres_and_half_turns():
    """The car of Qwen's own notebook."""
    answer = parsed(
        '[{"bbox_3d":[2.88,0.56,6.28,4.45,1.7,1.84,0.75,0.49,0.75],"label":"car"}]', Task.DETECT_3D
    )
    (detection,) = answer.detections_3d([0.25])
    assert detection.source is BoxSource.MODEL
    assert detection.box.center_m.tolist() == [2.88, 0.56, 6.28]
    assert detection.box.size_m.tolist() == [4.45, 1.7, 1.84]
    np.testing.assert_allclose(
        detection.box.T_frame_box[:3, :3],
        [[-0.022, 0, 1], [0.022, 1, 0], [-1, 0.022, -0.022]],
        atol=2e-3,
    )


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([0, 0, 0, 1, 1, 1, 0, 0, 0], "behind the camera"),
        ([0, 0, -2, 1, 1, 1, 0, 0, 0], "behind the camera"),
        ([0, 0, 2, 1, 0, 1, 0, 0, 0], "no volume"),
        ([0, 0, 2, 1, 1, -1, 0, 0, 0], "no volume"),
        ([0, 0, 1e6, 1, 1, 1, 0, 0, 0], "beyond 1000"),
        ([0, 0, 2, 1, 1, 1, 0, 0], "not a list of 9 numbers"),
    ],
)
def test_an_impossible_3d_box_is_dropped_with_its_reason(numbers, reason):
    impossible = {"bbox_3d": numbers, "label": "box"}
    good = {"bbox_3d": [0, 0, 2, 1, 1, 1, 0, 0, 0.5], "label": "box"}
    answer = parsed(json.dumps([impossible, good]), Task.DETECT_3D)
    assert len(answer.objects) == 1
    assert reason in answer.notes[0]
    with pytest.raises(AnswerError, match=reason):
        parsed(json.dumps([impossible]), Task.DETECT_3D)


def test_number_spans_point_into_the_whole_text():
    text = f"I think of [1] and {{2}}.</think>{NATIVE}"
    spans = parsed(text).objects[0].number_spans
    assert [text[start:stop] for start, stop in spans] == ["100", "200", "300", "400"]


@pytest.mark.parametrize(
    ("label", "clean"),
    [
        ("red box", "red box"),
        ("  red \n\t box ", "red box"),
        ("cafe\u0301", "caf\u00e9"),
        ("\x1b[31;1mred\x1b[0m box", "red box"),
        ("\x9b2Jred\x1b]0;title\x07 box", "red box"),
        ("red\u202e\u200b\x00\x7f box\ud800", "red box"),
        ("\u200b\x07", ""),
        ("椅子🤖", "椅子🤖"),
        ("a" * 100, "a" * 64),
        ("a" * 63 + " b", "a" * 63),
    ],
    ids=["plain", "blanks", "nfc", "colour", "c1-and-title", "hidden", "nothing", "wide", "long",
         "long-blank"],
)  # fmt: skip
def test_labels_are_made_safe_to_print(label, clean):
    assert clean_label(label) == clean


def test_scores_must_be_one_for_each_object():
    with pytest.raises(ValueError, match="zip"):
        parsed(NATIVE).detections_2d([0.5])


junk = st.text("[]{}\",:'`\\ \n0123456789-.eE", max_size=40)
loose_numbers = st.sampled_from(
    ["0", "-3", "7.5", "1000", "1e308", "NaN", "1" * 400, '"x"', "[", ""]
)
loose_objects = st.builds(
    '{{"{}": [{}], "label": {}}}'.format,
    st.sampled_from(["bbox_2d", "point_2d", "bbox_3d", "x"]),
    st.lists(loose_numbers, max_size=10).map(", ".join),
    st.sampled_from(['"box"', "'box'", "null", '"\\u0000"', '"']),
)
loose_answers = st.lists(st.one_of(junk, loose_objects, st.just("```json\n")), max_size=6)


def parsed_or_error(text: str, task: Task) -> Answer | AnswerError:
    try:
        return parsed(text, task, max_objects=3)
    except AnswerError as error:
        return error


@settings(deadline=None, max_examples=200)
@given(parts=loose_answers, task=st.sampled_from(SPATIAL_TASKS))
def test_whatever_is_said_nothing_but_an_answer_error_comes_of_it(parts, task):
    text = "".join(parts)
    answer = parsed_or_error(text, task)
    if isinstance(answer, AnswerError):
        assert answer.answer_text == text
        return
    assert len(answer.objects) <= 3
    assert answer.objects or "[" in text
    for found in answer.objects:
        assert found.label == clean_label(found.label) != ""
        if found.xyxy_px is not None:
            left, top, right, bottom = found.xyxy_px
            assert 0 <= left < right <= 1000
            assert 0 <= top < bottom <= 500
        if found.box is not None:
            assert np.isfinite(found.box.T_frame_box).all()
            assert found.box.size_m.min() > 0
