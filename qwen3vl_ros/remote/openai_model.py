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
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from ..errors import MissingDependency
from ..language.chat import Chat
from ..language.chat_template import ChatStyle
from ..model.stopwatch import Stopwatch
from ..model.vision_language_model import AnswerBudget, Sight, View, Words
from .failures import ServerFailures
from .openai_answer import OpenAIAnswer
from .remote_server import RemoteServer, api_key
from .sent_picture import RemoteSight, SentPicture, sight_from_view
from .speech import Speech
from .turns import Turn, schema_of, turns_from_chat

try:
    import httpx2
    import openai
except ModuleNotFoundError as error:
    raise MissingDependency(
        "openai",
        needed_for="asking a server by the OpenAI protocol",
        install="pip install -e '.[remote]'",
    ) from error

# Of a server that does not know a parameter.
UNKNOWN_PARAMETER = (400, 422, 501)


class OpenAIModel:
    """A `VisionLanguageModel` elsewhere. One thread; owns a connection (mutable)."""

    def __init__(self, server: RemoteServer) -> None:
        """Opens no connection yet.

        Raises:
            ConfigError: the environment's key cannot be one.
        """
        key = api_key(server)
        self._server = server
        self._failures = ServerFailures(server, key)
        self._headers = {} if key is not None else {"Authorization": openai.Omit()}
        self._client = openai.OpenAI(
            # Without one the library looks for others in the environment.
            api_key=key if key is not None else "none",
            base_url=server.base_url,
            timeout=httpx2.Timeout(server.timeout_s, connect=server.connect_timeout_s),
            max_retries=server.max_retries,
            # A key goes to the named server and to no other.
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        weakref.finalize(self, self._client.close)  # with the model go its connections
        self._without_logprobs: set[tuple[bool, bool]] = set()

    @property
    def style(self) -> ChatStyle:
        """See `VisionLanguageModel`."""
        return self._server.style

    def see(self, view: View, *, watch: Stopwatch) -> RemoteSight:
        """See `VisionLanguageModel`; nothing is sent yet."""
        with watch.stage("preprocess"):
            sight = sight_from_view(view, self._server)
            watch.saw(image_tokens=sum(picture.image_tokens for picture in sight.pictures))
        return sight

    def say(
        self,
        chat: Chat,
        sights: Sequence[Sight],
        *,
        budget: AnswerBudget,
        watch: Stopwatch,
        on_text: Callable[[str], None] | None = None,
    ) -> Words:
        """See `VisionLanguageModel`; what `on_text` raises ends the answer.

        Streamed if there is an `on_text`; otherwise all of the server's time counts as decode.
        """
        with watch.stage("prefill"):
            turns = turns_from_chat(chat, sights, self._server.style)
            arguments: dict[str, Any] = {
                "model": self._server.model,
                "extra_headers": self._headers,
                "messages": [_message(turn) for turn in turns],
                "temperature": 0.0,
                "logprobs": True,
            }
            if budget.most is not None:
                arguments["max_tokens"] = budget.most
            if chat.tools:
                arguments["tools"] = [
                    {
                        "type": "function",
                        "function": {
                            "name": tool.name,
                            "description": tool.description,
                            "parameters": schema_of(tool),
                        },
                    }
                    for tool in chat.tools
                ]
            answer = OpenAIAnswer(Speech(self._server.style, on_text), self._failures)
            if on_text is None:
                watch.enter("decode")
                with self._told():
                    told = _plain(self._asked(arguments), self._failures)
                answer.read(told, "message")
            else:
                arguments |= {"stream": True, "stream_options": {"include_usage": True}}
                with closing(self._chunks(arguments)) as chunks:
                    for chunk in chunks:
                        if answer.read(chunk, "delta"):
                            watch.enter("decode")
            words = answer.words()
            watch.heard(
                prompt_tokens=words.prompt_tokens, answer_tokens=words.answer_tokens, passes=0
            )
        self._failures.check_room(words, budget)
        return words

    def _asked(self, arguments: dict[str, Any]) -> Any:
        """The library's answer; without log-probabilities from a server that refuses them."""
        kind = ("stream" in arguments, "tools" in arguments)
        create: Callable[..., Any] = self._client.chat.completions.create
        if kind not in self._without_logprobs:
            try:
                return create(**arguments)
            except openai.APIStatusError as error:
                named = "logprobs" in f"{error.message} {error.body}"
                if error.status_code not in UNKNOWN_PARAMETER or not named:
                    raise
            self._without_logprobs.add(kind)
        return create(**{name: arguments[name] for name in arguments if name != "logprobs"})

    def _chunks(self, arguments: dict[str, Any]) -> Generator[Mapping[str, object]]:
        with self._told():
            stream = self._asked(arguments)
        with self._told(begun=True), stream:
            for chunk in stream:
                yield _plain(chunk, self._failures)

    @contextmanager
    def _told(self, *, begun: bool = False) -> Iterator[None]:
        """The library's errors as ours; without their chain, which may repeat the key.

        Args:
            begun: whether the server has begun to answer.
        """
        lost = self._failures.broken_off if begun else self._failures.unreachable
        try:
            yield
        except openai.APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise self._failures.unreachable("no connection in time") from None
            raise self._failures.timed_out() from None
        except openai.APIConnectionError as error:
            raise lost(str(error.__cause__ or error)) from None
        except openai.APIStatusError as error:
            raise self._failures.refused(
                error.status_code, error.body, offered=self._offered
            ) from None
        except openai.APIResponseValidationError as error:
            raise self._failures.nonsense(error.message) from None
        except openai.APIError as error:  # within a stream
            raise self._failures.broken_off(error.body or error.message) from None
        except (ValueError, RecursionError) as error:
            raise self._failures.nonsense(f"it is no JSON of an answer ({error})") from None

    def _offered(self) -> tuple[str, ...]:
        """The models that the server lists; none if it does not."""
        try:
            client = self._client.with_options(max_retries=0)
            listed = client.models.list(extra_headers=self._headers).to_dict(warnings=False)
        except (openai.OpenAIError, ValueError, RecursionError, AttributeError):
            return ()
        models = listed.get("data")
        entries = models if isinstance(models, list) else []
        names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        return tuple(name for name in names if isinstance(name, str))


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


def _plain(answer: object, failures: ServerFailures) -> Mapping[str, object]:
    """The JSON of the library's value; it checks no field."""
    if not isinstance(answer, openai.BaseModel):
        raise failures.nonsense(f"it is no JSON object ({answer}), expected one")
    return answer.to_dict(warnings=False)
