# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL on a server that speaks the Anthropic messages protocol.

Knows that protocol; the connection, retries and backoff are the official `anthropic` library's.
The protocol has no log-probabilities: nothing here has a confidence. vLLM speaks it (read in its
source in November 2026, not run here): it turns the request into its OpenAI one, so what
`openai_model.py` says of vLLM holds. The library has no `temperature` any more; it is sent all the
same, and a server that refuses it is asked without, which a warning tells.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import MissingDependency
from ..model.vision_language_model import AnswerBudget
from ..scene.tools import Tool
from .anthropic_answer import AnthropicAnswer
from .remote_model import RemoteModel
from .remote_server import RemoteServer
from .sent_picture import SentPicture
from .speech import Speech
from .turns import Turn, schema_of

try:
    import anthropic
except ModuleNotFoundError as error:
    raise MissingDependency(
        "anthropic",
        needed_for="asking a server by the Anthropic protocol",
        install="pip install -e '.[remote]'",
    ) from error

LOGGER = logging.getLogger(__name__)


class AnthropicModel(RemoteModel):
    """A `RemoteModel` by the Anthropic protocol."""

    def __init__(self, server: RemoteServer) -> None:
        """Opens no connection yet.

        Raises:
            ConfigError: the environment's key cannot be one.
        """
        super().__init__(
            server,
            library=anthropic,
            client=anthropic.Anthropic,
            # The library writes the version itself.
            base_url=server.base_url.rstrip("/").removesuffix("/v1"),
        )
        self._greedy = True

    def _question(
        self, turns: Sequence[Turn], tools: Sequence[Tool], budget: AnswerBudget
    ) -> Mapping[str, object]:
        question: dict[str, object] = {
            # Told again, or the library sets a shorter one for answers that may get long.
            "timeout": self._client.timeout,
            "max_tokens": self._server.max_tokens if budget.most is None else budget.most,
            "messages": [_message(turn) for turn in turns if turn.speaker != "system"],
        }
        if system := "".join(turn.words for turn in turns if turn.speaker == "system"):
            question["system"] = system
        if tools:
            question["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": schema_of(tool),
                }
                for tool in tools
            ]
        return question

    def _streamed(self) -> Mapping[str, object]:
        return {"stream": True}

    def _asked(self, arguments: dict[str, Any]) -> Any:
        """The library's answer; at the server's temperature if it takes none."""
        create: Callable[..., Any] = self._client.messages.create
        if self._greedy:
            try:
                return create(**arguments, extra_body={"temperature": 0.0})
            except anthropic.APIStatusError as error:
                if not self._is_refused(error, "temperature"):
                    raise
            self._greedy = False
            LOGGER.warning(
                "%s takes no temperature: its answers are not the likeliest, and differ from time "
                "to time",
                self._server.model,
            )
        return create(**arguments)

    def _answer(self, speech: Speech) -> AnthropicAnswer:
        return AnthropicAnswer(speech, self._failures)


def _message(turn: Turn) -> dict[str, object]:
    if not turn.shows:
        return {"role": turn.speaker, "content": turn.words}
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else _image(part)
        for part in turn.parts
    ]
    return {"role": turn.speaker, "content": content}


def _image(picture: SentPicture) -> dict[str, object]:
    data = base64.b64encode(picture.data).decode("ascii")
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": picture.media_type, "data": data},
    }
