# SPDX-License-Identifier: Apache-2.0
"""What a model said, as the OpenAI protocol tells it: whole, or in chunks.

Knows the protocol's objects, not how they are sent. Log-probabilities are of all tokens, also of
those of a thought or a call, as vLLM tells them: their bytes, one after the other, are the model's
words. A character that several tokens share stands with the last of them; the end token, and the
others that are not written, have no bytes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..model.vision_language_model import Words
from ..scene.tools import ToolCall, plain_json
from .answer_parts import AnswerParts, PartKind, TextPart
from .chat_request import ChatRequest

JsonObject: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One answer's envelope.

    Attributes:
        model: that answers, as it is served.
        id: of the answer.
        created: seconds since the epoch.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, request: ChatRequest, words: Words, parts: AnswerParts) -> JsonObject:
        """The answer at once.

        Args:
            request: that asked for it.
            words: the answer.
            parts: that heard nothing yet; takes it apart.
        """
        heard = list(parts.hear(words.text))
        rest, calls = parts.end(ended=words.ended)
        said = {
            kind: "".join(part.text for part in (*heard, *rest) if part.kind is kind)
            for kind in PartKind
        }
        # The protocol has no content beside calls alone; a thought that never ended has none.
        message: JsonObject = {
            "role": "assistant",
            "content": said[PartKind.WORDS] or (None if calls or said[PartKind.THOUGHT] else ""),
            "refusal": None,
        }
        if said[PartKind.THOUGHT]:
            message["reasoning_content"] = said[PartKind.THOUGHT]
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        choice: JsonObject = {
            "index": 0,
            "message": message,
            "logprobs": _logprobs(words) if request.logprobs else None,
            "finish_reason": _finish_reason(words, calls),
        }
        return self._envelope("chat.completion", [choice]) | {"usage": _usage(words)}

    def beginning(self) -> JsonObject:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, part: TextPart) -> JsonObject:
        """A chunk with more of the words."""
        return self._chunk({part.kind.value: part.text})

    def ending(
        self, request: ChatRequest, words: Words, calls: tuple[ToolCall, ...]
    ) -> Iterable[JsonObject]:
        """The last chunks: calls, log-probabilities of the whole answer, why it ended, counts."""
        if calls:
            yield self._chunk(
                {"tool_calls": [{"index": i, **_call(call)} for i, call in enumerate(calls)]}
            )
        yield self._chunk(
            {},
            logprobs=_logprobs(words) if request.logprobs else None,
            finish_reason=_finish_reason(words, calls),
        )
        if request.include_usage:
            yield self._envelope("chat.completion.chunk", []) | {"usage": _usage(words)}

    def _chunk(
        self,
        delta: JsonObject,
        *,
        logprobs: JsonObject | None = None,
        finish_reason: str | None = None,
    ) -> JsonObject:
        choice: JsonObject = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return self._envelope("chat.completion.chunk", [choice])

    def _envelope(self, kind: str, choices: list[JsonObject]) -> JsonObject:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def event(value: Mapping[str, object]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n"


LAST_EVENT = "data: [DONE]\n\n"


def model_list(model: str, *, created: int) -> JsonObject:
    """The one model that there is."""
    return {"object": "list", "data": [model_card(model, created=created)]}


def model_card(model: str, *, created: int) -> JsonObject:
    """A model."""
    return {"id": model, "object": "model", "created": created, "owned_by": "qwen3vl_ros"}


def _finish_reason(words: Words, calls: tuple[ToolCall, ...]) -> str:
    if not words.ended:
        return "length"
    return "tool_calls" if calls else "stop"


def _usage(words: Words) -> JsonObject:
    return {
        "prompt_tokens": words.prompt_tokens,
        "completion_tokens": words.answer_tokens,
        "total_tokens": words.prompt_tokens + words.answer_tokens,
    }


def _logprobs(words: Words) -> JsonObject:
    confidence = words.confidence
    assert confidence is not None, "an engine tells"
    tokens = [words.text[start:stop] for start, stop in confidence.token_spans]
    return {
        "content": [
            {
                "token": token,
                "logprob": logprob,
                "bytes": list(token.encode()),
                "top_logprobs": [],
            }
            for token, logprob in zip(tokens, confidence.logprobs.tolist(), strict=True)
        ],
        "refusal": None,
    }


def _call(call: ToolCall) -> JsonObject:
    arguments = json.dumps(plain_json(call.arguments), ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }
