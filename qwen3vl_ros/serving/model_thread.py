# SPDX-License-Identifier: Apache-2.0
"""One model and many who ask: a line of bounded length, first come, first served.

Knows no protocol. The model has a thread of its own; everything else here runs in the event loop
of whoever asks. Who leaves the line is not served, and who leaves while being served ends the
answer at its next piece of text: the decoder's cache then holds the rows it counts, as after any
answer, so the next one loses nothing.

Pictures of the last conversation are remembered as the model saw them: its next turn, or the next
question about the same picture, is prefilled from where it differs (see `model/decoder.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from ..model.stopwatch import Stopwatch
from ..model.vision_language_model import Sight, VisionLanguageModel, Words
from ..scene.camera import Frame
from .chat_request import ChatRequest
from .refusals import Refusal, shutting_down

RETRY_AFTER_S = 1


class _Unwanted(Exception):
    """Ends an answer that nobody waits for any more; never leaves this file."""


class Ticket:
    """A place in the line, and what is heard there. Mutable; owned by whoever asked."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._left = threading.Event()
        self._job: Future[Words] | None = None

    async def piece(self) -> str | None:
        """The next piece of the words, or None when no more come (`words` then tells why)."""
        return await self._pieces.get()

    def words(self) -> Words:
        """The whole answer, after the last piece.

        Raises:
            Refusal: the server shuts down.
            Qwen3VLError: the model's (see `VisionLanguageModel.say`).
        """
        assert self._job is not None, "the line gave it"
        if not self._job.done():  # told by `close`, which waits for no pass of the model
            raise shutting_down()
        try:
            return self._job.result(timeout=0)
        except _Unwanted:
            raise shutting_down() from None

    def leave(self) -> None:
        """Nobody waits for this answer any more."""
        self._left.set()
        if self._job is not None:
            self._job.cancel()

    def tell(self, piece: str | None) -> None:
        """More of the words, or None for no more; from any thread."""
        # A loop that is closed has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    @property
    def is_unwanted(self) -> bool:
        """Whether whoever asked has left."""
        return self._left.is_set()


class ModelThread:
    """A model's one thread, and the line before it. Mutable; owned by one server."""

    def __init__(self, model: VisionLanguageModel, *, longest_line: int) -> None:
        """`longest_line`: so many may wait while one is served."""
        self._model = model
        self._longest_line = longest_line
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._tickets: set[Ticket] = set()
        self._is_closing = False
        # Of the last conversation, by the hash of their pixels. Touched by the thread only.
        self._seen: dict[bytes, Sight] = {}

    @property
    def model(self) -> VisionLanguageModel:
        """Whose thread it is."""
        return self._model

    def check_room(self) -> None:
        """Refuses one more when the line is full.

        Raises:
            Refusal: it is, or the server shuts down.
        """
        if self._is_closing:
            raise shutting_down()
        if len(self._tickets) > self._longest_line:
            raise Refusal(
                f"{len(self._tickets)} requests are served or wait, which is all this server "
                f"takes at a time; ask again in {RETRY_AFTER_S} s or later",
                status=429,
                kind="rate_limit_error",
                code="queue_full",
                retry_after_s=RETRY_AFTER_S,
            )

    def ask(self, request: ChatRequest) -> Ticket:
        """A place at the end of the line; called in the event loop.

        Raises:
            Refusal: the line is full, or the server shuts down.
        """
        self.check_room()
        ticket = Ticket()
        self._tickets.add(ticket)

        def done(job: Future[Words]) -> None:
            self._tickets.discard(ticket)
            ticket.tell(None)

        def heard(piece: str) -> None:
            self._require_wanted(ticket)
            ticket.tell(piece)

        def answered() -> Words:
            self._require_wanted(ticket)
            sights = self._sights(request.told.frames, ticket)
            return self._model.say(
                request.told.shown([part for sight in sights for part in sight.parts]),
                sights,
                budget=request.budget,
                watch=Stopwatch(),
                on_text=heard,
            )

        ticket._job = self._thread.submit(answered)
        ticket._job.add_done_callback(done)
        return ticket

    def close(self) -> None:
        """Ends the answer that is being given, and all that wait; returns at once.

        May be called by a signal's handler: it takes no lock, which what was interrupted may hold.
        """
        self._is_closing = True
        for ticket in tuple(self._tickets):
            ticket.tell(None)

    def join(self) -> None:
        """After `close`: returns when the thread has ended, which a pass of the model may take."""
        self._thread.shutdown(wait=True)

    def _require_wanted(self, ticket: Ticket) -> None:
        if ticket.is_unwanted or self._is_closing:
            raise _Unwanted

    def _sights(self, frames: tuple[Frame, ...], ticket: Ticket) -> list[Sight]:
        seen: dict[bytes, Sight] = {}
        sights = []
        for frame in frames:
            self._require_wanted(ticket)
            key = hashlib.sha256(f"{frame.image.shape}".encode() + frame.image.tobytes()).digest()
            known = seen.get(key, self._seen.get(key))
            seen[key] = known if known is not None else self._model.see(frame, watch=Stopwatch())
            sights.append(seen[key])
        self._seen = seen
        return sights
