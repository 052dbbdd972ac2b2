# SPDX-License-Identifier: Apache-2.0
"""A line on stderr for work that cannot say how much of it is left.

In a terminal it is redrawn every second, elsewhere a line is printed when the work changes and
every half minute: whoever reads a log sees that a build is alive.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeAlias

Report: TypeAlias = Callable[[str, str], None]

_REDRAW_S, _REPEAT_S = 1.0, 30.0
_CLEAR = "\r\x1b[K"


@contextmanager
def elapsed_line(stream: TextIO | None = None) -> Iterator[Report]:
    """What to call with what is worked on and what is being done to it."""
    line = _Line(sys.stderr if stream is None else stream)
    ended = threading.Event()
    ticker = threading.Thread(target=_tick, args=(line, ended), daemon=True)
    ticker.start()
    try:
        yield line.report
    finally:
        ended.set()
        ticker.join()
        line.close()


class _Line:
    """What is being done, and since when. Mutable; owned by one `elapsed_line`."""

    def __init__(self, stream: TextIO) -> None:
        self.redraws = stream.isatty()
        self._stream, self._lock = stream, threading.Lock()
        self._what, self._doing = "", ""
        self._started = time.monotonic()

    def report(self, what: str, doing: str) -> None:
        with self._lock:
            if is_new := what != self._what:
                self._started = time.monotonic()
            self._what, self._doing = what, doing
        if is_new and not self.redraws:
            self.draw()

    def draw(self) -> None:
        with self._lock:
            if self._what:
                seconds = time.monotonic() - self._started
                text = f"{self._what}: {self._doing}, {seconds:.0f} s"
                self._stream.write(f"{_CLEAR}{text}" if self.redraws else f"{text}\n")
                self._stream.flush()

    def close(self) -> None:
        if self.redraws:
            self._stream.write(_CLEAR)
            self._stream.flush()


def _tick(line: _Line, ended: threading.Event) -> None:
    while not ended.wait(_REDRAW_S if line.redraws else _REPEAT_S):
        line.draw()
