# SPDX-License-Identifier: Apache-2.0
"""A request that is not answered, and why, in the error shape of the OpenAI protocol.

Knows HTTP statuses, not how they are sent. `Refusal` never leaves this room.
"""

from __future__ import annotations

from typing import TypeAlias

from ..errors import ContextError, EngineError, FrameError, QueryError, Qwen3VLError

ErrorBody: TypeAlias = "dict[str, dict[str, str | None]]"

INVALID_REQUEST, SERVER_ERROR = "invalid_request_error", "server_error"


class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        kind: "type" in the protocol.
        param: the field of the request at fault; None where it is not one's.
        code: for programs to know it by; None where the type says enough.
        retry_after_s: seconds after which to ask again; None where that would not help.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> ErrorBody:
        """As the protocol has it."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """What goes beside the body."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def refusal_from_error(error: Qwen3VLError) -> Refusal:
    """What the model's error is to whoever asked."""
    if isinstance(error, ContextError):
        return Refusal(str(error), param="messages", code="context_length_exceeded")
    too_large = isinstance(error, EngineError) and error.field == "max_visual_tokens"
    if too_large or isinstance(error, (QueryError, FrameError)):
        return Refusal(str(error), param="messages")
    return Refusal(str(error), status=500, kind=SERVER_ERROR)


def shutting_down() -> Refusal:
    """The server stops."""
    return Refusal(
        "the server is shutting down and ends no more answers; ask again when it is back",
        status=503,
        kind=SERVER_ERROR,
        code="shutting_down",
    )
