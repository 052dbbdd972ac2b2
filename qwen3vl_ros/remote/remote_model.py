# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL on a server, whichever protocol it speaks: it looks, is asked, and fails in our words.

Knows what the official `openai` and `anthropic` libraries have in common, which are generated from
one mould: how a client is made, how it streams, what it raises. What is said to a server and what
its answer holds, `openai_model.py` and `anthropic_model.py` know.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import ModuleType
from typing import Any, Protocol

from ..errors import MissingDependency
from ..language.chat import Chat
from ..language.chat_template import ChatStyle
from ..model.stopwatch import Stopwatch
from ..model.vision_language_model import AnswerBudget, Sight, View, Words
from ..scene.tools import Tool
from .failures import ServerFailures
from .remote_server import RemoteServer, api_key
from .sent_picture import RemoteSight, sight_from_view
from .speech import Speech
from .turns import Turn, turns_from_chat

try:
    import httpx2
except ModuleNotFoundError as error:
    raise MissingDependency(
        "httpx2", needed_for="asking a server", install="pip install -e '.[remote]'"
    ) from error

# Of a server that does not know a parameter.
UNKNOWN_PARAMETER = (400, 422, 501)


class RemoteAnswer(Protocol):
    """An answer that is read as it comes: all at once, or piece by piece."""

    def read(self, answer: Mapping[str, object]) -> None:
        """A whole answer."""

    def read_piece(self, piece: Mapping[str, object]) -> bool:
        """A piece of a stream; whether with it the first words came."""

    def words(self) -> Words:
        """All of it."""


class RemoteModel(ABC):
    """A `VisionLanguageModel` elsewhere. One thread; owns a connection (mutable)."""

    def __init__(
        self,
        server: RemoteServer,
        *,
        library: ModuleType,
        client: Callable[..., Any],
        base_url: str,
    ) -> None:
        """Opens no connection yet.

        Args:
            server: to be asked.
            library: `openai` or `anthropic`.
            client: makes a client of that library.
            base_url: of the server, as that library takes it.

        Raises:
            ConfigError: the environment's key cannot be one.
        """
        key = api_key(server)
        self._server = server
        self._library = library
        self._failures = ServerFailures(server, key)
        self._headers = {} if key is not None else {"Authorization": library.Omit()}
        self._client = client(
            # Without one the library looks for others, in the environment and on the disk.
            api_key=key if key is not None else "none",
            base_url=base_url,
            timeout=httpx2.Timeout(server.timeout_s, connect=server.connect_timeout_s),
            max_retries=server.max_retries,
            # A key goes to the named server and to no other.
            http_client=library.DefaultHttpxClient(follow_redirects=False),
        )
        weakref.finalize(self, self._client.close)  # with the model go its connections

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
                **self._question(turns, chat.tools, budget),
            }
            answer = self._answer(Speech(self._server.style, on_text))
            if on_text is None:
                watch.enter("decode")
                with self._told():
                    told = self._plain(self._asked(arguments))
                answer.read(told)
            else:
                with closing(self._pieces({**arguments, **self._streamed()})) as pieces:
                    for piece in pieces:
                        if answer.read_piece(piece):
                            watch.enter("decode")
            words = answer.words()
            watch.heard(
                prompt_tokens=words.prompt_tokens, answer_tokens=words.answer_tokens, passes=0
            )
        self._failures.check_room(words, budget)
        return words

    @abstractmethod
    def _question(
        self, turns: Sequence[Turn], tools: Sequence[Tool], budget: AnswerBudget
    ) -> Mapping[str, object]:
        """What is asked, in the arguments of the library's call."""

    @abstractmethod
    def _streamed(self) -> Mapping[str, object]:
        """Arguments that ask for the answer piece by piece."""

    @abstractmethod
    def _asked(self, arguments: dict[str, Any]) -> Any:
        """The library's answer."""

    @abstractmethod
    def _answer(self, speech: Speech) -> RemoteAnswer:
        """An answer that fills a speech."""

    def _is_refused(self, error: Any, parameter: str) -> bool:
        """Whether a server says, by the library's status error, that it knows no `parameter`."""
        named = parameter in f"{error.message} {error.body}"
        return named and error.status_code in UNKNOWN_PARAMETER

    def _pieces(self, arguments: dict[str, Any]) -> Generator[Mapping[str, object]]:
        with self._told():
            stream = self._asked(arguments)
        with self._told(begun=True), stream:
            for piece in stream:
                yield self._plain(piece)

    def _plain(self, answer: object) -> Mapping[str, object]:
        """The JSON of the library's value; it checks no field."""
        if not isinstance(answer, self._library.BaseModel):
            raise self._failures.nonsense(f"it is no JSON object ({answer}), expected one")
        plain: Mapping[str, object] = answer.to_dict(warnings=False)
        return plain

    @contextmanager
    def _told(self, *, begun: bool = False) -> Iterator[None]:
        """The library's errors as ours; without their chain, which may repeat the key.

        Args:
            begun: whether the server has begun to answer.
        """
        library, failures = self._library, self._failures
        lost = failures.broken_off if begun else failures.unreachable
        try:
            yield
        except (library.APITimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise failures.unreachable("no connection in time") from None
            raise failures.timed_out() from None
        # Within a stream the library of anthropic lets those of the HTTP library through.
        except (library.APIConnectionError, httpx2.RequestError) as error:
            raise lost(str(error.__cause__ or error)) from None
        except library.APIStatusError as error:
            raise failures.refused(error.status_code, error.body, offered=self._offered) from None
        except library.APIResponseValidationError as error:
            raise failures.nonsense(error.message) from None
        except library.APIError as error:  # within a stream
            raise failures.broken_off(error.body or error.message) from None
        except (ValueError, RecursionError) as error:
            raise failures.nonsense(f"it is no JSON of an answer ({error})") from None

    def _offered(self) -> tuple[str, ...]:
        """The models that the server lists; none if it does not."""
        try:
            client = self._client.with_options(max_retries=0)
            listed = client.models.list(extra_headers=self._headers).to_dict(warnings=False)
        except (self._library.APIError, ValueError, RecursionError, AttributeError):
            return ()
        models = listed.get("data")
        entries = models if isinstance(models, list) else []
        names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        return tuple(name for name in names if isinstance(name, str))
