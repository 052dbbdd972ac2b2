# SPDX-License-Identifier: Apache-2.0
"""An answer that a server took apart reads as the checkpoint wrote it, with scores in place."""

from __future__ import annotations

import pytest

from qwen3vl_ros.errors import AnswerError, RemoteError
from qwen3vl_ros.language.chat_template import ChatStyle
from qwen3vl_ros.language.reading import answer_start, thought_in
from qwen3vl_ros.language.tool_calls import parse_step
from qwen3vl_ros.remote.speech import Speech, SpokenToken, token_count

INSTRUCT, THINKING = ChatStyle.INSTRUCT, ChatStyle.THINKING


def speech(style=INSTRUCT, *, thought="", words="", calls=(), ended=True) -> Speech:
    heard: list[str] = []
    said = Speech(style, heard.append)
    said.think(thought)
    said.speak(words)
    for call in calls:
        said.call(*call)
    said.end(ended=ended)
    assert "".join(heard) == said.text
    return said


def tokens(*data: str | bytes) -> list[SpokenToken]:
    return [
        SpokenToken(data=piece.encode() if isinstance(piece, str) else piece, logprob=-0.5 * n)
        for n, piece in enumerate(data)
    ]


@pytest.mark.parametrize(
    ("style", "parts", "text"),
    [
        pytest.param(INSTRUCT, {"words": "A cup."}, "A cup.", id="words"),
        pytest.param(
            THINKING,
            {"thought": "Round.\n", "words": "\n\nA cup."},
            "Round.\n</think>\n\nA cup.",
            id="as-the-model-wrote-it",
        ),
        pytest.param(
            THINKING,
            {"thought": "Round.", "words": "A cup."},
            "Round.\n</think>\n\nA cup.",
            id="stripped-by-the-server",
        ),
        pytest.param(
            THINKING, {"thought": "Hm", "ended": False}, "Hm", id="cut-within-the-thought"
        ),
        pytest.param(
            THINKING, {"thought": "Hm"}, "Hm\n</think>\n\n", id="ended-within-the-thought"
        ),
        pytest.param(
            THINKING, {"words": "Hm</think>\n\nA cup."}, "Hm</think>\n\nA cup.", id="not-parted"
        ),
        pytest.param(
            INSTRUCT,
            {"calls": [("grasp", '{"force_n": 2.50}')]},
            '<tool_call>\n{"name": "grasp", "arguments": {"force_n": 2.50}}\n</tool_call>',
            id="a-call",
        ),
        pytest.param(
            INSTRUCT,
            {"words": "I look.", "calls": [("a", "{}"), ('"', "{}")]},
            'I look.\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n'
            '<tool_call>\n{"name": "\\"", "arguments": {}}\n</tool_call>',
            id="words-and-two-calls",
        ),
    ],
)
def test_what_was_taken_apart_is_put_together(style, parts, text):
    assert speech(style, **parts).text == text


def test_the_readers_find_thought_words_and_calls_in_it():
    said = speech(
        THINKING, thought="Far?", words="I look.", calls=[("grasp", '{"at": [1, null]}')]
    )
    assert thought_in(said.text) == "Far?"
    step = parse_step(said.text, ended=True, thinking=True).value
    assert step.words == "I look."
    assert dict(step.calls[0].arguments) == {"at": (1, None)}


@pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)
def test_a_thought_that_was_cut_off_is_never_read_as_the_answer(style):
    """Also of a server that thinks though it was not said to."""
    said = speech(style, thought='[{"bbox_2d": [1, 2, 3, 4]', ended=False)
    with pytest.raises(AnswerError, match="still thinking"):
        answer_start(said.text, thinking=style is THINKING)


def test_a_thought_after_the_answer_is_refused():
    said = speech(words="A cup.")
    with pytest.raises(RemoteError, match="after the answer had begun"):
        said.think("Or a bowl?")


@pytest.mark.parametrize(
    ("parts", "pieces", "spans"),
    [
        pytest.param({"words": "ab"}, ["a", "b"], [(0, 1), (1, 2)], id="letters"),
        pytest.param(
            {"words": "a椅b"},
            ["a", b"\xe6\xa4", b"\x85", "b"],
            [(0, 1), (1, 1), (1, 2), (2, 3)],
            id="a-character-in-two-tokens",
        ),
        pytest.param(
            {"words": "a椅b"},
            ["a", "", "椅", "b"],
            [(0, 1), (1, 1), (1, 2), (2, 3)],
            id="as-vllm-tells-it",
        ),
        pytest.param({"words": "ab"}, ["ab", "<|im_end|>"], [(0, 2), (2, 2)], id="end-token-told"),
        pytest.param({"words": "ab"}, ["ab", ""], [(0, 2), (2, 2)], id="end-token-empty"),
        pytest.param({"words": "ab"}, ["ab", "\n"], [(0, 2), (2, 2)], id="stripped-at-the-end"),
        pytest.param({"words": "ab"}, ["\n\n", "ab"], [(0, 0), (0, 2)], id="at-the-start"),
        pytest.param(
            {"thought": "t\n", "words": "\n\nab"},
            ["t", "\n", "</think>", "\n\n", "ab"],
            [(0, 1), (1, 1), (1, 1), (1, 1), (12, 14)],
            id="with-the-thought",
        ),
        pytest.param(
            {"thought": "t", "words": "ab"},
            ["<think>", "\n", "t", "\n</think>\n\n", "ab"],
            [(0, 0), (0, 0), (0, 1), (1, 1), (12, 14)],
            id="thought-stripped",
        ),
        pytest.param({"thought": "t", "words": "ab"}, ["ab"], [(12, 14)], id="of-the-words-alone"),
        pytest.param({"thought": "tu", "ended": False}, ["t", "u"], [(0, 1), (1, 2)], id="cut"),
        pytest.param({"words": "(a|b)"}, ["(a|", "b)"], [(0, 3), (3, 5)], id="not-a-pattern"),
    ],
)
def test_every_token_finds_its_place(parts, pieces, spans):
    style = THINKING if "thought" in parts else INSTRUCT
    confidence = speech(style, **parts).confidence(tokens(*pieces))
    assert list(confidence.token_spans) == spans
    assert confidence.logprobs.tolist() == [-0.5 * n for n in range(len(pieces))]


def test_the_places_hold_the_tokens_own_text():
    said = speech(THINKING, thought="\nfar\n", words="[1, 22]")
    pieces = ["\n", "far", "\n", "</think>", "\n\n", "[1", ", ", "22", "]", "<|im_end|>"]
    spans = said.confidence(tokens(*pieces)).token_spans
    assert [said.text[start:stop] for start, stop in spans] == [
        "", "far", "", "", "", "[1", ", ", "22", "]", ""
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "pieces"),
    [
        pytest.param({"words": "ab"}, [], id="none-told"),
        pytest.param({"words": "ab"}, ["a"], id="one-missing"),
        pytest.param({"words": "ab"}, ["a", "b", "c"], id="one-too-many"),
        pytest.param({"words": "a b"}, ["ab"], id="a-space-within"),
        pytest.param({"words": "a椅"}, ["a", "\N{REPLACEMENT CHARACTER}"], id="bytes-lost"),
        pytest.param({"words": "a椅"}, ["a", b"\xe6\xa4"], id="bytes-missing"),
        pytest.param({"words": "a椅"}, ["a", "\xe6\xa4", "\x85"], id="as-sglang-tells-it"),
        pytest.param({"words": "ab"}, ["token_id:12", "token_id:7"], id="only-ids"),
        pytest.param({"words": "ab", "calls": [("a", "{}")]}, ["ab"], id="a-call-respelled"),
    ],
)
def test_tokens_that_do_not_spell_the_answer_give_no_confidence(parts, pieces):
    assert speech(**parts).confidence(tokens(*pieces)) is None


@pytest.mark.parametrize("logprob", ["nan", "inf", "-inf"])
def test_a_probability_that_is_no_number_gives_none(logprob):
    assert speech(words="a").confidence([SpokenToken(data=b"a", logprob=float(logprob))]) is None


@pytest.mark.parametrize(
    ("told", "count"),
    [
        pytest.param(7, 7, id="a count"),
        pytest.param(None, 0, id="nothing"),
        pytest.param(-1, 0, id="negative"),
        pytest.param(10**30, 0, id="more than any context holds"),
        pytest.param(True, 0, id="true"),
        pytest.param(2.0, 0, id="a fraction's type"),
        pytest.param("3", 0, id="words"),
    ],
)
def test_a_count_that_is_none_counts_as_not_told(told, count):
    assert token_count(told) == count
