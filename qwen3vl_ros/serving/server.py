# SPDX-License-Identifier: Apache-2.0
"""The application on a socket, until it is told to stop.

Knows uvicorn and signals. A signal ends the answer that is being given and all that wait, then
the server; a second Ctrl-C waits for nobody.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from ..errors import ConfigError

# After this nobody's connection is waited for any more.
GRACE_S = 5


class HttpServer(uvicorn.Server):
    """One application on one socket. Mutable; owned by one thread."""

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        *,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        """`on_ready`: requests are taken; `on_stop`: none are any more."""
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._listening = listening
        self._on_ready = on_ready
        self._on_stop = on_stop

    def run_until_stopped(self) -> None:
        """Serves until a signal comes or `stop` is called."""
        with _signals_are_no_failures():
            self.run([self._listening])

    def stop(self) -> None:
        """Ends `run_until_stopped`; from any thread."""
        self._on_stop()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's, which says when it is done."""
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn's for a signal: what is under way would otherwise be waited for."""
        self._on_stop()
        super().handle_exit(sig, frame)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket of ours at an address; takes requests when a server runs on it.

    Args:
        host: name or address of this machine.
        port: 0 takes any that is free.

    Raises:
        ConfigError: somebody else has it, or it is not ours to have.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen at {host} port {port} ({error}), expected an address of this machine "
            "and a port that is free; take another with --host and --port, 0 takes any port"
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """What clients of the OpenAI protocol call the base URL."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


@contextmanager
def _signals_are_no_failures() -> Iterator[None]:
    """Uvicorn raises the signal again that ended it, for whoever handled it before: nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread only
        return
    before = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
