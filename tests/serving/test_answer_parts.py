# SPDX-License-Identifier: Apache-2.0
"""An answer is taken apart alike, however it was cut into pieces, and nothing of it is lost."""

from __future__ import annotations

import pytest

from qwen3vl_ros.serving.answer_parts import AnswerParts, PartKind

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": [1, 2]}}\n</tool_call>'
BAD = "<tool_call>\n{]\n</tool_call>"


def taken_apart(pieces, *, thinks, calls_tools, ended=True):
    """(thought, words, names of calls, whether words were said before the end)."""
    parts = AnswerParts(thinks=thinks, calls_tools=calls_tools)
    heard = [part for piece in pieces for part in parts.hear(piece)]
    rest, calls = parts.end(ended=ended)
    assert all(part.text for part in (*heard, *rest)), "no piece is empty"
    thought, words = (
        "".join(part.text for part in (*heard, *rest) if part.kind is kind) for kind in PartKind
    )
    return thought, words, [call.name for call in calls]


CASES = [
    pytest.param("Two.", False, False, ("", "Two.", []), id="words"),
    pytest.param("  Two.\n\n", False, True, ("", "  Two.\n\n", []), id="white space is words"),
    pytest.param("1 <t< 2 <tool", False, True, ("", "1 <t< 2 <tool", []), id="almost a tag"),
    pytest.param(CALL, False, False, ("", CALL, []), id="a call that nobody wants"),
    pytest.param(CALL, False, True, ("", "", ["look"]), id="a call"),
    pytest.param(f"I look. \n{CALL}\n", False, True, ("", "I look.", ["look"]), id="words, call"),
    pytest.param(
        f"{CALL}\nI look.\n{CALL}\n!", False, True, ("", "I look.\n!", ["look", "look"]),
        id="words between calls",
    ),
    pytest.param(
        f"I look.\n{CALL}\n{BAD}\n", False, True, ("", f"I look.\n{CALL}\n{BAD}\n", []),
        id="one call of two cannot be read",
    ),
    pytest.param(CALL[:-12], False, True, ("", "", ["look"]), id="a whole call not closed"),
    pytest.param(CALL[:-20], False, True, ("", CALL[:-20], []), id="a call cut off"),
    pytest.param("Two?\n</think>\n\nThree.", True, True, ("Two?", "Three.", []), id="thought"),
    pytest.param("Two?\n\nNo</", True, True, ("Two?\n\nNo</", "", []), id="never thought out"),
    pytest.param("\n</think>\n\n", True, True, ("", "", []), id="nothing thought or said"),
    pytest.param(
        f"I could {CALL}\n</think>\n\n{CALL}", True, True, (f"I could {CALL}", "", ["look"]),
        id="a call that was only thought of",
    ),
    pytest.param(
        "A</think>B</think>C", True, True, ("A", "B</think>C", []), id="two ends of a thought"
    ),
    pytest.param(
        f"A</think>{CALL}</think>C", True, True, ("A", f"{CALL}</think>C", []),
        id="a call before a second end",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "thinks", "calls_tools", "expected"), CASES)
def test_whole_it_is_what_it_is(text, thinks, calls_tools, expected):
    assert taken_apart([text], thinks=thinks, calls_tools=calls_tools) == expected


@pytest.mark.parametrize(("text", "thinks", "calls_tools", "expected"), CASES)
def test_cut_anywhere_it_is_the_same(text, thinks, calls_tools, expected):
    how = {"thinks": thinks, "calls_tools": calls_tools}
    assert taken_apart(list(text), **how) == expected
    for cut in range(len(text)):
        assert taken_apart([text[:cut], text[cut:]], **how) == expected, text[:cut]


def test_words_are_told_before_the_answer_ends():
    parts = AnswerParts(thinks=True, calls_tools=True)
    pieces = ("Hm. ", "</think>Two ", "or <3", "?")
    heard = ["".join(part.text for part in parts.hear(piece)) for piece in pieces]
    assert heard == ["Hm. ", "Two", " or <3", "?"]
