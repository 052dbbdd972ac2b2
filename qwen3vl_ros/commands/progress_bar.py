# SPDX-License-Identifier: Apache-2.0
"""A bar on stderr with the time left; nothing at all where nobody watches a terminal.

And what a command says of itself when it is done: how long it took and how much memory.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[str, int, int], None]

_BYTES_IN_KIB = 1024


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """What to call with a step's name, bytes done and bytes in all; each name has its own bar."""
    bars: list[tqdm[None]] = []
    named = ""

    def report(name: str, done: int, total: int) -> None:
        nonlocal named
        if name != named:
            _close(bars)
            bars.append(
                tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None, leave=False)
            )
            named = name
        bars[-1].update(done - bars[-1].n)

    try:
        yield report
    finally:
        _close(bars)


@contextmanager
def question_bar() -> Iterator[Callable[[int, int], None]]:
    """What to call with questions done and in all; those of the first call took no time."""
    bars: list[tqdm[None]] = []

    def report(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, initial=done, unit="question", disable=None))
        bars[-1].update(done - bars[-1].n)

    try:
        yield report
    finally:
        _close(bars)


def _close(bars: list[tqdm[None]]) -> None:
    while bars:
        bars.pop().close()


class Effort:
    """Wall time since it was made, and the most memory this process ever held."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __str__(self) -> str:
        # Linux counts in KiB, pages of mapped files included.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_IN_KIB
        seconds = time.monotonic() - self._started
        return f"{seconds:.0f} s, peak resident memory {peak / 1e9:.2f} GB"
