# SPDX-License-Identifier: Apache-2.0
"""The HTTP application: paths, keys, bodies, and what is sent back.

    POST /v1/chat/completions   an answer, whole or streamed
    GET  /v1/models             the one model that there is; also by its name
    GET  /health                200 while requests are taken; needs no key

Knows HTTP and the protocol's outline; what a request means, other files of this room know. A body
must say that it is JSON: a page in somebody's browser could otherwise post to this machine.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..errors import Qwen3VLError
from ..language.chat_template import ChatStyle
from .answer_parts import AnswerParts
from .chat_request import ChatRequest, request_from_body, unknown_model
from .model_thread import ModelThread, Ticket
from .refusals import SERVER_ERROR, Refusal, refusal_from_error
from .replies import LAST_EVENT, Reply, event, model_card, model_list

_T = TypeVar("_T")

# Of a body that is too long so much is read and forgotten, so that the refusal is heard: who is
# cut off while sending sees a broken connection instead.
_FORGOTTEN = 4
_CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody hears it


def chat_app(
    thread: ModelThread, *, model_name: str, api_key: str | None, max_body_bytes: int
) -> Starlette:
    """The application.

    Args:
        thread: the model's.
        model_name: as clients call it.
        api_key: that clients must send; None lets everyone ask.
        max_body_bytes: longer requests are refused.
    """
    endpoints = _Endpoints(thread, model_name, api_key, max_body_bytes)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", endpoints.chat_completions, methods=["POST"]),
            Route("/v1/models", endpoints.models),
            Route("/v1/models/{name:path}", endpoints.models),
            Route("/health", endpoints.health),
        ],
        exception_handlers={
            Refusal: _refused,
            Qwen3VLError: _failed,
            HTTPException: _no_such_path,
            Exception: _broken,
        },
    )


class _Endpoints:
    def __init__(
        self, thread: ModelThread, model_name: str, api_key: str | None, max_body_bytes: int
    ) -> None:
        self._thread = thread
        self._model_name = model_name
        self._api_key = api_key
        self._max_body_bytes = max_body_bytes
        self._created = int(time.time())

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        self._check_key(request)
        name = request.path_params.get("name")
        if name is None:
            return JSONResponse(model_list(self._model_name, created=self._created))
        if name != self._model_name:
            raise unknown_model(name, self._model_name)
        return JSONResponse(model_card(name, created=self._created))

    async def chat_completions(self, request: Request) -> Response:
        self._check_key(request)
        _check_content_type(request)
        self._thread.check_room()
        try:
            body = await self._body(request)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        # Pictures take a while to decode; others are served meanwhile.
        asked = await asyncio.to_thread(request_from_body, body, model_name=self._model_name)
        del body
        ticket = self._thread.ask(asked)
        answered = self._streamed(asked, ticket) if asked.stream else self._whole(asked, ticket)
        try:
            response = await _unless_gone(request, answered)
        except BaseException:
            ticket.leave()
            raise
        if response is None:
            ticket.leave()
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        return response

    async def _whole(self, asked: ChatRequest, ticket: Ticket) -> Response:
        while await ticket.piece() is not None:
            pass
        reply = Reply(model=self._model_name)
        return JSONResponse(reply.whole(asked, ticket.words(), self._parts(asked)))

    async def _streamed(self, asked: ChatRequest, ticket: Ticket) -> Response:
        """Begins with the first piece: what fails before it has an HTTP status of its own."""
        first = await ticket.piece()
        if first is None:
            ticket.words()
        return _AnswerStream(self._events(asked, ticket, first), ticket)

    async def _events(
        self, asked: ChatRequest, ticket: Ticket, first: str | None
    ) -> AsyncIterator[str]:
        reply, parts = Reply(model=self._model_name), self._parts(asked)
        yield event(reply.beginning())
        try:
            piece = first
            while piece is not None:
                for part in parts.hear(piece):
                    yield event(reply.piece(part))
                piece = await ticket.piece()
            words = ticket.words()
            rest, calls = parts.end(ended=words.ended)
            for part in rest:
                yield event(reply.piece(part))
            for chunk in reply.ending(asked, words, calls):
                yield event(chunk)
        except Refusal as refusal:
            yield event(refusal.body())
        except Qwen3VLError as error:
            yield event(refusal_from_error(error).body())
        yield LAST_EVENT

    def _parts(self, asked: ChatRequest) -> AnswerParts:
        thinks = self._thread.model.style is ChatStyle.THINKING
        return AnswerParts(thinks=thinks, calls_tools=asked.offers_tools)

    def _check_key(self, request: Request) -> None:
        if self._api_key is None:
            return
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        # Constant in time, so that a key cannot be guessed letter by letter.
        is_right = hmac.compare_digest(sent.strip().encode(), self._api_key.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise Refusal(
                "the request has no key or a wrong one, expected 'Authorization: Bearer KEY' with "
                "the key that this server was started with",
                status=401,
                code="invalid_api_key",
            )

    async def _body(self, request: Request) -> bytes:
        chunks: list[bytes] = []
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length <= self._max_body_bytes:
                chunks.append(chunk)
            else:
                chunks.clear()
            if length > _FORGOTTEN * self._max_body_bytes:
                break
        if length > self._max_body_bytes:
            raise Refusal(
                f"the request is longer than {self._max_body_bytes:,} bytes, which is all this "
                "server takes; send fewer or smaller pictures, or JPEG instead of PNG",
                status=413,
                code="request_too_large",
            )
        return b"".join(chunks)


class _AnswerStream(StreamingResponse):
    """Server-sent events of one answer, which ends when nobody listens."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], ticket: Ticket) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ticket.leave()


async def _unless_gone(request: Request, work: Coroutine[object, object, _T]) -> _T | None:
    """What `work` gives, or None if the client leaves before."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_content_type(request: Request) -> None:
    sent = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if sent != "application/json":
        raise Refusal(
            f"the request's Content-Type is '{sent[:64]}', expected application/json",
            status=415,
            code="unsupported_media_type",
        )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal), "registered for it"
    return JSONResponse(error.body(), error.status, error.headers())


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, Qwen3VLError), "registered for it"
    return await _refused(request, refusal_from_error(error))


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    refusal = Refusal(
        f"{request.method} {request.url.path[:128]} is not served ({error.detail}), expected "
        "POST /v1/chat/completions, GET /v1/models or GET /health",
        status=error.status_code,
        code="not_found",
    )
    return JSONResponse(refusal.body(), refusal.status, error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    # Starlette raises it again afterwards, and uvicorn logs it with its trace.
    message = "the server has a bug, see its log; other requests are served as before"
    return await _refused(request, Refusal(message, status=500, kind=SERVER_ERROR))
