# SPDX-License-Identifier: Apache-2.0
"""A model's words, taken apart as they come: its thought, its answer, its tool calls.

Knows how the checkpoint writes them. Nothing is lost: what cannot be read as calls stays words,
all of it from the first call on, for a reader of half a row of calls would not see that it is
half. Line breaks around the thought's closing tag belong to the tag, white space around calls to
them; a thought ends at the first tag, for a stream cannot know whether another follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..errors import AnswerError
from ..language.reading import END_OF_THINKING
from ..language.tool_calls import parse_step
from ..scene.tools import ToolCall

_OPEN = "<tool_call>"
_CALL = re.compile(r"<tool_call>.*?(?:</tool_call>|\Z)", re.DOTALL)


class PartKind(Enum):
    """Where a piece of text belongs; by the protocol's names."""

    THOUGHT = "reasoning_content"
    WORDS = "content"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """A piece of text, and where it belongs."""

    kind: PartKind
    text: str


class AnswerParts:
    """One answer as it comes. Mutable; owned by whoever listens."""

    def __init__(self, *, thinks: bool, calls_tools: bool) -> None:
        """`thinks`: it begins with a thought; `calls_tools`: calls are to be taken out."""
        self._in_thought = thinks
        self._after_thought = False
        self._calls_tools = calls_tools
        self._calling = False
        self._spoke = False
        self._held = ""

    def hear(self, piece: str) -> Iterator[TextPart]:
        """More of the model's words; what is certain of them."""
        self._held += piece
        if self._in_thought:
            thought, closed, rest = self._held.partition(END_OF_THINKING)
            if closed:
                yield from _part(PartKind.THOUGHT, thought.rstrip("\n"))
                self._held, self._in_thought, self._after_thought = rest, False, True
            else:
                certain = _without_beginning_of(END_OF_THINKING, self._held).rstrip("\n")
                yield from _part(PartKind.THOUGHT, self._taken(len(certain)))
                return
        if self._after_thought:
            self._held = self._held.lstrip("\n")
            self._after_thought = not self._held
        if self._calling:
            return
        if not self._calls_tools:
            yield from self._speak(len(self._held))
            return
        words, opened, _ = self._held.partition(_OPEN)
        self._calling = bool(opened)
        certain = words if opened else _without_beginning_of(_OPEN, words)
        yield from self._speak(len(certain.rstrip()))

    def end(self, *, ended: bool) -> tuple[list[TextPart], tuple[ToolCall, ...]]:
        """What was held back, and the calls; nothing more comes.

        Args:
            ended: whether the model itself ended.
        """
        if self._in_thought:
            return list(_part(PartKind.THOUGHT, self._held)), ()
        calls = _calls(self._held, ended=ended) if self._calling else ()
        if calls:
            outside = "\n".join(filter(None, map(str.strip, _CALL.split(self._held))))
            self._held = f"\n{outside}" if outside and self._spoke else outside
        return list(self._speak(len(self._held))), calls

    def _speak(self, length: int) -> Iterator[TextPart]:
        words = self._taken(length)
        self._spoke = self._spoke or bool(words)
        yield from _part(PartKind.WORDS, words)

    def _taken(self, length: int) -> str:
        """The first characters of what is held, held no longer."""
        taken, self._held = self._held[:length], self._held[length:]
        return taken


def _calls(text: str, *, ended: bool) -> tuple[ToolCall, ...]:
    """Every call in `text`; none where one of them cannot be read."""
    if END_OF_THINKING in text:
        return ()  # what comes before a tag is no answer
    try:
        reading = parse_step(text, ended=ended)
    except AnswerError:
        return ()
    return () if reading.notes else reading.value.calls


def _part(kind: PartKind, text: str) -> Iterator[TextPart]:
    if text:
        yield TextPart(kind=kind, text=text)


def _without_beginning_of(tag: str, text: str) -> str:
    """`text` without an end that `tag` may begin with.

    >>> _without_beginning_of("<tool_call>", "See: <tool"), _without_beginning_of("<a>", "1 < 2")
    ('See: ', '1 < 2')
    """
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return text[:-length]
    return text
