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
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from ..errors import MissingDependency
from ..language.chat import Chat
from ..language.chat_template import ChatStyle
from ..model.stopwatch import Stopwatch
from ..model.vision_language_model import AnswerBudget, Sight, View, Words
from .anthropic_answer import AnthropicAnswer
from .failures import ServerFailures
from .remote_server import RemoteServer, api_key
from .sent_picture import RemoteSight, SentPicture, sight_from_view
from .speech import Speech
from .turns import Turn, schema_of, turns_from_chat

try:
    import anthropic
    import httpx2
except ModuleNotFoundError as error:
    raise MissingDependency(
        "anthropic",
        needed_for="asking a server by the Anthropic protocol",
        install="pip install -e '.[remote]'",
    ) from error

LOGGER = logging.getLogger(__name__)
# Of a server that does not know a parameter.
UNKNOWN_PARAMETER = (400, 422, 501)


class AnthropicModel:
    """A `VisionLanguageModel` elsewhere. One thread; owns a connection (mutable)."""

    def __init__(self, server: RemoteServer) -> None:
        """Opens no connection yet.

        Raises:
            ConfigError: the environment's key cannot be one.
        """
        key = api_key(server)
        self._server = server
        self._failures = ServerFailures(server, key)
        self._headers = {} if key is not None else {"Authorization": anthropic.Omit()}
        self._client = anthropic.Anthropic(
            # Without one the library looks for others, in the environment and on the disk.
            api_key=key if key is not None else "none",
            # The library writes the version itself.
            base_url=server.base_url.rstrip("/").removesuffix("/v1"),
            timeout=httpx2.Timeout(server.timeout_s, connect=server.connect_timeout_s),
            max_retries=server.max_retries,
            # A key goes to the named server and to no other.
            http_client=anthropic.DefaultHttpxClient(follow_redirects=False),
        )
        weakref.finalize(self, self._client.close)  # with the model go its connections
        self._greedy = True

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
            most = self._server.max_tokens if budget.most is None else budget.most
            arguments: dict[str, Any] = {
                "model": self._server.model,
                "extra_headers": self._headers,
                # Told again, or the library sets a shorter one for answers that may get long.
                "timeout": self._client.timeout,
                "max_tokens": most,
                "messages": [_message(turn) for turn in turns if turn.speaker != "system"],
            }
            if system := "".join(turn.words for turn in turns if turn.speaker == "system"):
                arguments["system"] = system
            if chat.tools:
                arguments["tools"] = [
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "input_schema": schema_of(tool),
                    }
                    for tool in chat.tools
                ]
            answer = AnthropicAnswer(Speech(self._server.style, on_text), self._failures)
            if on_text is None:
                watch.enter("decode")
                with self._told():
                    told = _plain(self._asked(arguments), self._failures)
                answer.read(told)
            else:
                with closing(self._events({**arguments, "stream": True})) as events:
                    for event in events:
                        if answer.read_event(event):
                            watch.enter("decode")
            words = answer.words()
            watch.heard(
                prompt_tokens=words.prompt_tokens, answer_tokens=words.answer_tokens, passes=0
            )
        self._failures.check_room(words, budget)
        return words

    def _asked(self, arguments: dict[str, Any]) -> Any:
        """The library's answer; at the server's temperature if it takes none."""
        create: Callable[..., Any] = self._client.messages.create
        if self._greedy:
            try:
                return create(**arguments, extra_body={"temperature": 0.0})
            except anthropic.APIStatusError as error:
                named = "temperature" in f"{error.message} {error.body}"
                if error.status_code not in UNKNOWN_PARAMETER or not named:
                    raise
            self._greedy = False
            LOGGER.warning(
                "%s takes no temperature: its answers are not the likeliest, and differ from time "
                "to time",
                self._server.model,
            )
        return create(**arguments)

    def _events(self, arguments: dict[str, Any]) -> Generator[Mapping[str, object]]:
        with self._told():
            stream = self._asked(arguments)
        with self._told(begun=True), stream:
            for event in stream:
                yield _plain(event, self._failures)

    @contextmanager
    def _told(self, *, begun: bool = False) -> Iterator[None]:
        """The library's errors as ours; without their chain, which may repeat the key.

        Args:
            begun: whether the server has begun to answer.
        """
        lost = self._failures.broken_off if begun else self._failures.unreachable
        try:
            yield
        except (anthropic.APITimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise self._failures.unreachable("no connection in time") from None
            raise self._failures.timed_out() from None
        # Within a stream the library lets those of the HTTP library through.
        except (anthropic.APIConnectionError, httpx2.RequestError) as error:
            raise lost(str(error.__cause__ or error)) from None
        except anthropic.APIStatusError as error:
            raise self._failures.refused(
                error.status_code, error.body, offered=self._offered
            ) from None
        except anthropic.APIResponseValidationError as error:
            raise self._failures.nonsense(error.message) from None
        except anthropic.APIError as error:
            raise self._failures.broken_off(error.body or error.message) from None
        except (ValueError, RecursionError) as error:
            raise self._failures.nonsense(f"it is no JSON of an answer ({error})") from None

    def _offered(self) -> tuple[str, ...]:
        """The models that the server lists; none if it does not."""
        try:
            client = self._client.with_options(max_retries=0)
            listed = client.models.list(extra_headers=self._headers).to_dict(warnings=False)
        except (anthropic.AnthropicError, ValueError, RecursionError, AttributeError):
            return ()
        models = listed.get("data")
        entries = models if isinstance(models, list) else []
        names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        return tuple(name for name in names if isinstance(name, str))


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


def _plain(answer: object, failures: ServerFailures) -> Mapping[str, object]:
    """The JSON of the library's value; it checks no field."""
    if not isinstance(answer, anthropic.BaseModel):
        raise failures.nonsense(f"it is no JSON object ({answer}), expected one")
    return answer.to_dict(warnings=False)
