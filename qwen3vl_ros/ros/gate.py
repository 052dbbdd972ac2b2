# SPDX-License-Identifier: Apache-2.0
"""Whether the node is active, asked by callbacks and worker; knows nothing else.

rclpy's LifecycleNode goes on delivering messages to an inactive node, so every callback asks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Open while the node is active. Owned by the node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._openings = 0

    @property
    def is_open(self) -> bool:
        """True while the node is active."""
        return self._open

    @property
    def opening(self) -> int:
        """Which opening this is, or the last was; what began in one must not end in another."""
        return self._openings

    def open(self) -> None:
        """Lets messages through."""
        with self._lock:
            self._open = True
            self._openings += 1

    def close(self) -> None:
        """Lets none through; waits for a publication in progress."""
        with self._lock:
            self._open = False

    @contextmanager
    def held_open(self, opening: int) -> Iterator[bool]:
        """Yields whether the gate is open since `opening`, and keeps it so for the block."""
        with self._lock:
            yield self._open and self._openings == opening
