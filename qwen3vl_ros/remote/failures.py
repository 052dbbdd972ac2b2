# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a server, each as one error that says what to do.

Knows no protocol and no library. Everything a server says of itself is untrusted: it is cut, and
the key is taken out of it, for some servers repeat the key they refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ..errors import ContextError, RemoteError
from ..model.vision_language_model import AnswerBudget, Words
from .remote_server import RemoteServer

LONGEST_QUOTE = 300
MODELS_NAMED = 8

# How servers say that a prompt is too long: OpenAI and vLLM ("maximum context length",
# "context_length_exceeded"), SGLang ("model's context length"), llama.cpp ("available context
# size", "exceed_context_size_error"), Anthropic ("prompt is too long"), DashScope ("Range of input
# length should be").
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|exceed_context|prompt is too long|range of input length",
    re.IGNORECASE,
)


class ServerFailures:
    """Failures of one server, told. Holds its key only to keep it out of what is told."""

    def __init__(self, server: RemoteServer, key: str | None) -> None:
        self._server = server
        self._key = key

    def unreachable(self, reason: str) -> RemoteError:
        """No connection, or one that broke."""
        return RemoteError(
            f"the model server does not answer ({self.quote(reason)}), expected one at "
            f"{self._server.base_url} after {self._server.max_retries + 1} tries; is it running, "
            "and is this its address?"
        )

    def timed_out(self) -> RemoteError:
        """No sign of it in time."""
        return RemoteError(
            f"the model server gave no sign for {self._server.timeout_s:g} s in "
            f"{self._server.max_retries + 1} tries, expected an answer from "
            f"{self._server.base_url}; allow more time, ask for a shorter answer, or let it "
            "stream"
        )

    def refused(
        self, status: int, said: object, *, offered: Callable[[], Sequence[str]]
    ) -> RemoteError | ContextError:
        """An HTTP status that is no success, or a failure within a stream.

        Args:
            status: of HTTP; of a stream the one it began with.
            said: the body, parsed or not.
            offered: asks the server which models it has; empty if it does not say.
        """
        if status < 300:
            return self.broken_off(said)
        words = self.quote(_message(said))
        model, url = self._server.model, self._server.base_url
        told = f"the model server answered {status} ({words})"
        if status in (400, 413, 422) and _TOO_LONG.search(_message(said)):
            return self._too_long(words)
        if status in (401, 403):
            return RemoteError(
                f"{told}, expected it to accept the key in {self._server.named_key_variable}; set "
                "that environment variable to a key of this server, or name another variable",
                status=status,
            )
        if status == 404:
            names = tuple(map(self.quote, offered()))
            listed = ", ".join(names[:MODELS_NAMED])
            listed += f" and {len(names) - MODELS_NAMED} more" * (len(names) > MODELS_NAMED)
            advice = (
                f"one of the models it lists: {listed}; take one of them"
                if names and model not in names
                else f"a model and the protocol's path there; check {url} "
                f"({self._server.protocol.value} protocol) and the model's name"
            )
            return RemoteError(f"{told} for model '{model}', expected {advice}", status=status)
        if status == 413:
            return RemoteError(
                f"{told}: the pictures are too large for it; expected fewer bytes: send JPEG, or "
                "lower max_pixels",
                status=status,
            )
        if status == 429 or status >= 500:
            return RemoteError(
                f"{told} after {self._server.max_retries + 1} tries, expected an answer; wait, "
                "allow more retries, or see the log of the server",
                status=status,
            )
        return RemoteError(
            f"{told}, expected it to take the question to '{model}' at {url}; if it lacks what "
            "was asked for (pictures, tools), start it with that",
            status=status,
        )

    def nonsense(self, what: str) -> RemoteError:
        """A success that is no answer.

        Args:
            what: was wrong with it, and what was expected.
        """
        return RemoteError(
            f"the model server's answer cannot be read: {self.quote(what)}; does "
            f"{self._server.base_url} speak the {self._server.protocol.value} protocol?",
            status=200,
        )

    def withheld(self, reason: str) -> RemoteError:
        """The server would not say what the model said."""
        return RemoteError(
            f"the model server withheld the answer ({self.quote(reason)}), expected words; ask "
            "something else, or a server without a filter",
            status=200,
        )

    def broken_off(self, said: object) -> RemoteError | ContextError:
        """The answer ended, and neither the model nor a limit ended it.

        Args:
            said: why, parsed or not.
        """
        words = self.quote(_message(said))
        if _TOO_LONG.search(_message(said)):
            return self._too_long(words)
        return RemoteError(
            f"the model server broke the answer off ({words}), expected its end; ask again, or "
            "see the log of the server",
            status=200,
        )

    def check_room(self, words: Words, budget: AnswerBudget) -> None:
        """Refuses an answer that the server's context had less room for than it needs.

        Raises:
            ContextError: so.
        """
        if words.ended or not 0 < words.answer_tokens < budget.least:
            return
        if budget.most is None or words.answer_tokens < budget.most:
            raise ContextError(
                f"the server's context left {words.answer_tokens} tokens after a prompt of "
                f"{words.prompt_tokens}, expected at least {budget.least} for an answer; show "
                "less or smaller pictures, or serve the model with a longer context"
            )

    def _too_long(self, words: str) -> ContextError:
        return ContextError(
            f"the prompt does not fit the server's context ({words}); show less or smaller "
            "pictures, ask in fewer words, or serve the model with a longer context"
        )

    def quote(self, text: str) -> str:
        """A server's words on one line, without the key, cut."""
        if self._key is not None:
            text = text.replace(self._key, "***")
        text = " ".join(text.split()) or "no reason given"
        return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + " ..."


def _message(said: object) -> str:
    """The sentence in an error's body, wherever the server put it, and its type and code."""
    if isinstance(said, Mapping):
        inner = said.get("error", said.get("detail"))
        if isinstance(inner, (Mapping, list)):
            return _message(inner)
        fields = [inner, *(said.get(field) for field in ("message", "type", "code"))]
        return ", ".join(field for field in fields if isinstance(field, str) and field)
    if isinstance(said, list):
        return "; ".join(filter(None, map(_message, said)))
    return said if isinstance(said, str) else ""
