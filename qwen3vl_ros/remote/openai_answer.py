# SPDX-License-Identifier: Apache-2.0
"""What a server says in the OpenAI chat completions protocol, read.

Knows the fields, trusts none of them, and opens no connection. The thought is `reasoning` in vLLM
since 0.11, `reasoning_content` before and in other servers, and part of the words where no parser
is set up (vLLM's documentation). Where a server tells no bytes of a token, its text is taken.

Of a character that two tokens share llama.cpp tells the bytes; vLLM gives it whole to the last of
them; SGLang spells the bytes as letters, so an answer with such a character has no confidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model.vision_language_model import Words
from .failures import ServerFailures
from .speech import Speech, SpokenToken, token_count

# "eos_token" and "stop_sequence" are Text Generation Inference's.
ENDED = frozenset({"stop", "tool_calls", "function_call", "eos_token", "stop_sequence"})
CUT, FILTERED = "length", "content_filter"


class OpenAIAnswer:
    """An answer, whole or chunk by chunk. Mutable; owned by whoever asks."""

    def __init__(self, speech: Speech, failures: ServerFailures) -> None:
        """`speech` is filled; `failures` tells what cannot be read."""
        self._speech = speech
        self._failures = failures
        self._calls: dict[int, list[str]] = {}
        self._tokens: list[SpokenToken] = []
        self._tokens_are_whole = True
        self._reason: object = None
        self._usage: Mapping[str, object] = {}

    def read(self, answer: Mapping[str, object]) -> None:
        """A whole answer."""
        self._read(answer, "message")

    def read_piece(self, piece: Mapping[str, object]) -> bool:
        """One chunk of a stream; whether with it the first words came."""
        begun = self._speech.begun
        self._read(piece, "delta")
        return self._speech.begun and not begun

    def words(self) -> Words:
        """All of it."""
        if self._reason == FILTERED:
            raise self._failures.withheld(FILTERED)
        if self._reason not in ENDED and self._reason != CUT:
            raise self._failures.broken_off(f"finish_reason is {self._reason}")
        for _, (name, written) in sorted(self._calls.items()):
            self._speech.call(name, written or "{}")
        ended = self._reason != CUT
        self._speech.end(ended=ended)
        return Words(
            text=self._speech.text,
            confidence=self._speech.confidence(self._tokens) if self._tokens_are_whole else None,
            ended=ended,
            prompt_tokens=token_count(self._usage.get("prompt_tokens")),
            answer_tokens=token_count(self._usage.get("completion_tokens")),
            passes=0,
        )

    def _read(self, answer: Mapping[str, object], field: str) -> None:
        """One object of the server.

        Args:
            answer: its JSON.
            field: of a choice, that holds what was said.
        """
        if isinstance(usage := answer.get("usage"), dict):
            self._usage = usage
        choices = answer.get("choices")
        if not isinstance(choices, list) or (not choices and field == "message"):
            raise self._failures.nonsense("it has no choices, expected one")
        for choice in choices[:1]:
            said = choice.get(field) if isinstance(choice, dict) else None
            if said is None and field == "delta":
                said = {}
            if not isinstance(said, dict):
                raise self._failures.nonsense(f"its choice has no {field}, expected one")
            if refusal := self._text(said, "refusal"):
                raise self._failures.withheld(refusal)
            thought = self._text(said, "reasoning") or self._text(said, "reasoning_content")
            self._speech.think(thought)
            self._speech.speak(self._text(said, "content"))
            self._read_calls(said.get("tool_calls"))
            self._read_tokens(choice.get("logprobs"))
            self._reason = choice.get("finish_reason") or self._reason

    def _read_calls(self, calls: object) -> None:
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                raise self._failures.nonsense("a tool call has no function, expected one")
            index = call.get("index", place)
            whole = self._calls.setdefault(index if isinstance(index, int) else place, ["", ""])
            whole[0] += self._text(function, "name")
            whole[1] += self._text(function, "arguments")

    def _read_tokens(self, logprobs: object) -> None:
        content = logprobs.get("content") if isinstance(logprobs, dict) else None
        for entry in content if isinstance(content, list) else ():
            token = _token(entry)
            if token is None:
                self._tokens_are_whole = False
            else:
                self._tokens.append(token)

    def _text(self, values: Mapping[str, object], field: str) -> str:
        text = values.get(field)
        if text is not None and not isinstance(text, str):
            raise self._failures.nonsense(f"'{field}' is a {type(text).__name__}, expected text")
        return text or ""


def _token(entry: object) -> SpokenToken | None:
    """One entry of the log-probabilities; None if it is not one."""
    values: dict[str, object] = entry if isinstance(entry, dict) else {}
    token, logprob, written = (values.get(name) for name in ("token", "logprob", "bytes"))
    if not isinstance(token, str) or not isinstance(logprob, (int, float)):
        return None
    try:
        data = bytes(written) if isinstance(written, list) else token.encode()
    except (TypeError, ValueError):
        return None
    return SpokenToken(data=data, logprob=float(logprob))
