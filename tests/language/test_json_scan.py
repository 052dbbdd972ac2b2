# SPDX-License-Identifier: Apache-2.0
"""Objects are found in whatever a model writes around them, and their places are true."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3vl_ros.language.json_scan import Content, Value, Word, scan_object, scan_objects


def plain(content: Content) -> object:
    """Content without its places."""
    if isinstance(content, dict):
        return {key: plain(value.content) for key, value in content.items()}
    if isinstance(content, tuple):
        return [plain(value.content) for value in content]
    return content.text if isinstance(content, Word) else content


def objects_of(text: str) -> list[object]:
    return [plain(value.content) for value in scan_objects(text).objects]


@pytest.mark.parametrize(
    ("text", "objects", "malformed", "complete"),
    [
        ('[{"a": 1}]', [{"a": 1.0}], 0, True),
        ('```json\n[\n\t{"a": 1},\n\t{"b": 2}\n]\n```', [{"a": 1.0}, {"b": 2.0}], 0, True),
        ('Here [2] boxes {: [{"a": 1}] done.', [{"a": 1.0}], 1, True),
        ('{"a": 1}', [{"a": 1.0}], 0, True),
        ('{"a": 1},\n{"a": 2}', [{"a": 1.0}, {"a": 2.0}], 0, True),
        ("[{'a': 'it\\'s', 'b': -.5e1,}]", [{"a": "it's", "b": -5.0}], 0, True),
        ('[{"a": "x\\n\\u00e9\\ud83e\\udd16\\/"}]', [{"a": "x\né🤖/"}], 0, True),
        ('[{"a": "\\ud83e"}]', [{"a": "\ufffd"}], 0, True),
        ('[{"a": null, "b": NaN, "c": [-Infinity, true]}]',
         [{"a": "null", "b": "NaN", "c": ["-Infinity", "true"]}], 0, True),
        ('[{"a": "[{"}]', [{"a": "[{"}], 0, True),
        ('```\n[{"a": "```"}]\n```\n[{"b": 1}]', [{"a": "```"}], 0, True),
        ('```python\nno list\n```\n```json\n[{"a": 1}]\n```', [{"a": 1.0}], 0, True),
        ('[{"a": 1}]\n```', [{"a": 1.0}], 0, True),
        ('[{"a": 1}, {"a"', [{"a": 1.0}], 0, False),
        ('[{"a": 1},', [{"a": 1.0}], 0, False),
        ('[{"a": 1}', [{"a": 1.0}], 0, False),
        ("[", [], 0, False),
        ('[{"a": "x\\', [], 0, False),
        ('[{"a": -', [], 0, False),
        ('[{"a": }, {"b": 1}]', [{"b": 1.0}], 1, True),
        ('[{"a": [1, 2, {"b": 1}]', [], 0, False),
        ('[{"a": [1 2]}, {"b": 1}]', [{"b": 1.0}], 1, True),
        ('[{"a" {"b": 1}]', [{"b": 1.0}], 1, True),
        ('[{"a": 1, "a": 2}, {"b": 1}]', [{"b": 1.0}], 1, True),
        ('[{"a": "new\nline"}, {"b": 1}]', [{"b": 1.0}], 1, True),
        ('```json\n[{"a": 1\n```\nSorry {"b": 1}', [], 1, False),
        ('{"a": ' + "[" * 20 + "]" * 20 + '}{"b": 1}', [{"b": 1.0}], 1, True),
        ("no list at all", [], 0, True),
        ("[[1, 2]]", [], 0, True),
        ("", [], 0, True),
    ],
)  # fmt: skip
def test_what_is_found(text, objects, malformed, complete):
    scanned = scan_objects(text)
    assert [plain(value.content) for value in scanned.objects] == objects
    assert (scanned.malformed, scanned.complete) == (malformed, complete)
    assert not scanned.is_empty_list


@pytest.mark.parametrize(
    "text",
    ["[]", " [ ]\n", "```json\n[]\n```", "```json\n[\n]", "None here.\n```json\n[]\n```\nBye!"],
)
def test_an_empty_list_on_its_own_or_fenced_is_empty(text):
    assert scan_objects(text).is_empty_list


@pytest.mark.parametrize("text", ["", "[", "```json\n[", "[[]]", "[0]", "I see [] nothing", "{}"])
def test_nothing_else_is_empty(text):
    assert not scan_objects(text).is_empty_list


@pytest.mark.parametrize(
    "text", ['{"a": "```"}', ' {"a": "```"}\n', '```json\n{"a": "```"}\n```', "```{'a': '```'}"]
)
def test_a_text_that_is_one_object_may_hold_a_fence(text):
    value = scan_object(text)
    assert value is not None
    assert plain(value.content) == {"a": "```"}


@pytest.mark.parametrize(
    "text",
    ["", "```", "[]", "7", '{"a": 1} {"b": 1}', 'So: {"a": 1}', '{"a": 1} so', '{"a": 1', '{"a"}'],
)
def test_any_other_text_is_not_one_object(text):
    assert scan_object(text) is None


def test_a_number_of_any_length_is_read_in_linear_time():
    (value,) = scan_objects('{"a": 1' + "0" * 100_000 + ', "b": 1e-999999}').objects
    assert plain(value.content) == {"a": float("inf"), "b": 0.0}


@pytest.mark.parametrize(
    "piece", ["[", "{", "{'a':", '{"a":[', '"', "```", "[{", "{}", "\\", '{"\n']
)
def test_hostile_repetition_ends(piece):
    scan_objects(piece * 20_000)


numbers = st.one_of(st.integers(-2000, 2000), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(numbers, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
json_objects = st.lists(st.dictionaries(st.text(max_size=6), values, max_size=4), max_size=4)


@settings(deadline=None, max_examples=60)
@given(wanted=json_objects, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_whatever_json_writes_is_read_back(wanted, indent, ascii_only):
    assert objects_of(json.dumps(wanted, indent=indent, ensure_ascii=ascii_only)) == wanted


def spans_of(value: Value) -> list[tuple[float, int, int]]:
    if isinstance(value.content, float):
        return [(value.content, value.start, value.stop)]
    inner = value.content.values() if isinstance(value.content, dict) else value.content
    if isinstance(inner, (str, Word)):
        return []
    return [span for item in inner for span in spans_of(item)]


@settings(deadline=None, max_examples=60)
@given(wanted=json_objects, before=st.text("ab \n[", max_size=5))
def test_spans_are_where_the_numbers_stand(wanted, before):
    text = before + json.dumps(wanted)
    for value in scan_objects(text).objects:
        assert text[value.start] + text[value.stop - 1] == "{}"
        for number, start, stop in spans_of(value):
            assert float(text[start:stop]) == number


@settings(deadline=None, max_examples=60)
@given(text=st.text("[]{}\",:'`\\ \n1-.eab", max_size=60))
def test_any_text_is_scanned_without_an_error(text):
    scanned = scan_objects(text)
    assert not (scanned.is_empty_list and (scanned.objects or scanned.malformed))
