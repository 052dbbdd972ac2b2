# SPDX-License-Identifier: Apache-2.0
"""What a server says, piece by piece, becomes the words that the checkpoint wrote.

Knows no protocol. Servers take an answer apart: the thought, the words, each tool call. It is put
together as the checkpoint spells it, so that what reads a local model's words reads these.

A server's log-probabilities are of the tokens that the model wrote. They are used only if their
bytes spell what the server said, but for white space and tags that it took away; a score at the
wrong place would be worse than none.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import RemoteError
from ..language.chat_template import ChatStyle
from ..language.reading import BEGIN_OF_THINKING, END_OF_THINKING
from ..model.vision_language_model import Confidence, Span

# What a server may keep to itself at the end of an answer though the model wrote it.
_END = r"\s*(?:<\|im_end\|>|<\|endoftext\|>)?\s*"
MOST_TOKENS = 100_000_000  # more than any context holds
_OPENED = rf"\s*(?:{re.escape(BEGIN_OF_THINKING)}\s*)?"
_CLOSED = rf"\s*(?:{re.escape(END_OF_THINKING)})?\s*"


@dataclass(frozen=True, kw_only=True, slots=True)
class SpokenToken:
    """A token that the model wrote.

    Attributes:
        data: its bytes, whole characters or not.
        logprob: natural log-probability.
    """

    data: bytes
    logprob: float


class Speech:
    """One answer as it comes. Mutable; owned by whoever asks."""

    def __init__(self, style: ChatStyle, on_text: Callable[[str], None] | None) -> None:
        """`on_text` hears the text as it grows."""
        self._style = style
        self._on_text = on_text
        self._pieces: list[str] = []
        self._length = 0
        self._thought: list[str] = []
        self._thought_at = 0
        self._closed = False
        self._words: list[str] = []
        self._words_at = 0
        self._calls = 0

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._pieces)

    @property
    def begun(self) -> bool:
        """Whether anything was said."""
        return bool(self._pieces)

    def think(self, piece: str) -> None:
        """More of the thought.

        Raises:
            RemoteError: the answer had begun.
        """
        if not piece:
            return
        if self._words or self._calls:
            raise RemoteError(
                "the server sent a thought after the answer had begun, expected it before; its "
                "words cannot be put in order: set up the server's reasoning parser, or none"
            )
        if not self._thought:
            # A thinker's prompt ends with the opening tag. Where none was expected it must be
            # seen, or a thought that was cut off would be read as the answer.
            self._add("" if self._style is ChatStyle.THINKING else BEGIN_OF_THINKING + "\n")
            self._thought_at = self._length
        self._thought.append(piece)
        self._add(piece)

    def speak(self, piece: str) -> None:
        """More of the words."""
        if self._thought and not self._words:
            piece = piece.lstrip("\n")  # the tag's own line breaks, which not every server keeps
        if not piece:
            return
        self._close_thought()
        if not self._words:
            self._words_at = self._length
        self._words.append(piece)
        self._add(piece)

    def call(self, name: str, arguments: str) -> None:
        """A tool call.

        Args:
            name: of the tool.
            arguments: as JSON; untrusted, and read with the rest of the text.
        """
        self._close_thought()
        before = "\n" if self._words or self._calls else ""
        written = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'
        self._calls += 1
        self._add(f"{before}<tool_call>\n{written}\n</tool_call>")

    def end(self, *, ended: bool) -> None:
        """Nothing more comes; `ended` if the model itself ended it, also if within its thought."""
        if ended:
            self._close_thought()

    def confidence(self, tokens: Sequence[SpokenToken]) -> Confidence | None:
        """Where the tokens stand in the text; None if they do not spell it.

        Args:
            tokens: all of the answer's, in order.
        """
        are_numbers = all(math.isfinite(token.logprob) for token in tokens)
        if not tokens or self._calls or not are_numbers:
            return None
        spelled, ends = _spelled(tokens)
        if spelled is None:
            return None
        thought, words = "".join(self._thought).strip(), "".join(self._words)
        thought_at = self._thought_at + self.text[self._thought_at :].find(thought)
        told = f"(?P<words>{re.escape(words)}){_END}"
        found = re.fullmatch(f"{_OPENED}(?P<thought>{re.escape(thought)}){_CLOSED}{told}", spelled)
        # Some servers tell the tokens of the words alone.
        found = found or re.fullmatch(rf"\s*(?P<thought>){told}", spelled)
        if found is None:
            return None
        kept = ((found.span("thought"), thought_at), (found.span("words"), self._words_at))
        return Confidence(
            token_spans=_places(ends, kept),
            logprobs=np.array([token.logprob for token in tokens], np.float64),
        )

    def _close_thought(self) -> None:
        if self._thought and not self._closed:
            self._closed = True
            line_end = "" if self._thought[-1].endswith("\n") else "\n"
            self._add(f"{line_end}{END_OF_THINKING}\n\n")

    def _add(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._length += len(piece)
            if self._on_text is not None:
                self._on_text(piece)


def token_count(told: object) -> int:
    """A count of tokens as a server tells it; 0 where it is none."""
    if isinstance(told, bool) or not isinstance(told, int):
        return 0
    return told if 0 <= told <= MOST_TOKENS else 0


def _spelled(tokens: Sequence[SpokenToken]) -> tuple[str | None, list[int]]:
    """What the tokens spell, and how many characters after each; None if it is not UTF-8.

    A character that several tokens share the bytes of belongs to the last of them.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
    parts: list[str] = []
    ends: list[int] = []
    length = 0
    try:
        for token in tokens:
            parts.append(decoder.decode(token.data))
            length += len(parts[-1])
            ends.append(length)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return None, []
    return "".join(parts), ends


def _places(ends: Sequence[int], kept: Sequence[tuple[Span, int]]) -> tuple[Span, ...]:
    """Spans of the tokens in the text.

    Args:
        ends: of each token in what the tokens spell.
        kept: spans of that which are in the text, and where in the text each begins.
    """
    places: list[Span] = []
    begin = at = 0
    for end in ends:
        place = (at, at)
        for (start, stop), offset in kept:
            first, last = max(begin, start), min(end, stop)
            if first < last:
                place = (first - start + offset, last - start + offset)
        places.append(place)
        begin, at = end, place[1]
    return tuple(places)
