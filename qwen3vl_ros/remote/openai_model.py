# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL on a server that speaks the OpenAI chat completions protocol.

Knows that protocol, as vLLM, SGLang, llama.cpp and DashScope speak it; the connection, retries
and backoff are the official `openai` library's. Read in their sources, documentation and issue
threads in November 2026, none of them run here:

- vLLM keeps parts in order only where it sees that the checkpoint's template reads lists of parts;
  for Thinking checkpoints start it with `--chat-template-content-format openai` (QwenLM/Qwen3-VL
  issue 1728). Tools need `--enable-auto-tool-choice --tool-call-parser hermes`.
- SGLang takes every template that speaks of images for one that reads lists of parts.
- llama.cpp refuses log-probabilities for streamed answers with tools (ggml-org/llama.cpp issue
  28478); other questions still get them.

Not verified: how DashScope and llama.cpp order parts, and whether DashScope tells
log-probabilities.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import MissingDependency
from ..model.vision_language_model import AnswerBudget
from ..scene.tools import Tool
from .openai_answer import OpenAIAnswer
from .remote_model import RemoteModel
from .remote_server import RemoteServer
from .sent_picture import SentPicture
from .speech import Speech
from .turns import Turn, schema_of

try:
    import openai
except ModuleNotFoundError as error:
    raise MissingDependency(
        "openai",
        needed_for="asking a server by the OpenAI protocol",
        install="pip install -e '.[remote]'",
    ) from error


class OpenAIModel(RemoteModel):
    """A `RemoteModel` by the OpenAI protocol."""

    def __init__(self, server: RemoteServer) -> None:
        """Opens no connection yet.

        Raises:
            ConfigError: the environment's key cannot be one.
        """
        super().__init__(server, library=openai, client=openai.OpenAI, base_url=server.base_url)
        # Kinds of question, streamed or with tools, for which the server refused them.
        self._without_logprobs: set[tuple[bool, bool]] = set()

    def _question(
        self, turns: Sequence[Turn], tools: Sequence[Tool], budget: AnswerBudget
    ) -> Mapping[str, object]:
        question: dict[str, object] = {
            "messages": [_message(turn) for turn in turns],
            "temperature": 0.0,
            "logprobs": True,
        }
        if budget.most is not None:
            question["max_tokens"] = budget.most
        if tools:
            question["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": schema_of(tool),
                    },
                }
                for tool in tools
            ]
        return question

    def _streamed(self) -> Mapping[str, object]:
        return {"stream": True, "stream_options": {"include_usage": True}}

    def _asked(self, arguments: dict[str, Any]) -> Any:
        """The library's answer; without log-probabilities from a server that refuses them."""
        kind = ("stream" in arguments, "tools" in arguments)
        create: Callable[..., Any] = self._client.chat.completions.create
        if kind not in self._without_logprobs:
            try:
                return create(**arguments)
            except openai.APIStatusError as error:
                if not self._is_refused(error, "logprobs"):
                    raise
            self._without_logprobs.add(kind)
        return create(**{name: arguments[name] for name in arguments if name != "logprobs"})

    def _answer(self, speech: Speech) -> OpenAIAnswer:
        return OpenAIAnswer(speech, self._failures)


def _message(turn: Turn) -> dict[str, object]:
    if not turn.shows:
        return {"role": turn.speaker, "content": turn.words}
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": _data_url(part)}}
        for part in turn.parts
    ]
    return {"role": turn.speaker, "content": content}


def _data_url(picture: SentPicture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode('ascii')}"
