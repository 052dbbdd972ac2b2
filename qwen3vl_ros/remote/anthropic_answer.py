# SPDX-License-Identifier: Apache-2.0
"""What a server says in the Anthropic messages protocol, read.

Knows the fields, trusts none of them, and opens no connection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..model.vision_language_model import Words
from .failures import ServerFailures
from .speech import Speech, token_count

ENDED = frozenset({"end_turn", "stop_sequence", "tool_use"})
CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
FILTERED = "refusal"
# With a cache of prompts the other two are not part of the first.
INPUT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class AnthropicAnswer:
    """An answer, whole or event by event. Mutable; owned by whoever asks."""

    def __init__(self, speech: Speech, failures: ServerFailures) -> None:
        """`speech` is filled; `failures` tells what cannot be read."""
        self._speech = speech
        self._failures = failures
        self._call: tuple[str, list[str]] | None = None
        self._reason: object = None
        self._usage: dict[str, int] = {}

    def read(self, answer: Mapping[str, object]) -> None:
        """A whole answer."""
        blocks = answer.get("content")
        if not isinstance(blocks, list):
            raise self._failures.nonsense("it has no content, expected a list of blocks")
        for block in blocks:
            self._begin(block)
            self._finish()
        self._read_end(answer, answer)

    def read_piece(self, piece: Mapping[str, object]) -> bool:
        """One event of a stream; whether with it the first words came."""
        begun = self._speech.begun
        kind = piece.get("type")
        if kind == "message_start":
            self._read_end({}, self._object(piece, "message"))
        elif kind == "content_block_start":
            self._begin(piece.get("content_block"), streamed=True)
        elif kind == "content_block_delta":
            delta = self._object(piece, "delta")
            self._speech.think(self._text(delta, "thinking"))
            self._speech.speak(self._text(delta, "text"))
            if self._call is not None:
                self._call[1].append(self._text(delta, "partial_json"))
        elif kind == "content_block_stop":
            self._finish()
        elif kind == "message_delta":
            self._read_end(self._object(piece, "delta"), piece)
        return self._speech.begun and not begun

    def words(self) -> Words:
        """All of it."""
        if self._reason == FILTERED:
            raise self._failures.withheld(FILTERED)
        if self._reason not in ENDED | CUT:
            raise self._failures.broken_off(f"stop_reason is {self._reason}")
        ended = self._reason in ENDED
        self._speech.end(ended=ended)
        return Words(
            text=self._speech.text,
            confidence=None,
            ended=ended,
            prompt_tokens=sum(self._usage.get(field, 0) for field in INPUT_COUNTS),
            answer_tokens=self._usage.get("output_tokens", 0),
            passes=0,
        )

    def _begin(self, block: object, *, streamed: bool = False) -> None:
        if not isinstance(block, dict):
            raise self._failures.nonsense("a block of its content is no object, expected one")
        if block.get("type") == "tool_use":
            whole = "" if streamed else json.dumps(block.get("input"), ensure_ascii=False)
            self._call = (self._text(block, "name"), [whole])
        self._speech.think(self._text(block, "thinking"))
        self._speech.speak(self._text(block, "text"))

    def _finish(self) -> None:
        if self._call is not None:
            name, written = self._call
            self._call = None
            self._speech.call(name, "".join(written) or "{}")

    def _read_end(self, delta: Mapping[str, object], answer: Mapping[str, object]) -> None:
        self._reason = delta.get("stop_reason") or self._reason
        usage = answer.get("usage")
        if isinstance(usage, dict):
            counts = {field: usage.get(field) for field in (*INPUT_COUNTS, "output_tokens")}
            self._usage |= {
                field: token_count(count) for field, count in counts.items() if count is not None
            }

    def _object(self, values: Mapping[str, object], field: str) -> Mapping[str, object]:
        value = values.get(field)
        if not isinstance(value, dict):
            raise self._failures.nonsense(f"an event has no {field}, expected an object")
        return value

    def _text(self, values: Mapping[str, object], field: str) -> str:
        text = values.get(field)
        if text is not None and not isinstance(text, str):
            raise self._failures.nonsense(f"'{field}' is a {type(text).__name__}, expected text")
        return text or ""
