# SPDX-License-Identifier: Apache-2.0
"""A fault told once: in diagnostics, and at most every ten seconds in the log.

Knows places and messages only; who finds a fault says where it belongs.
"""

from __future__ import annotations

from rclpy.impl.rcutils_logger import RcutilsLogger

from .diagnostics import ERROR, Diagnostics
from .messages import printable

MAX_LOG_CHARACTERS = 600


class FaultLog:
    """Where the node's threads report faults."""

    def __init__(self, diagnostics: Diagnostics, logger: RcutilsLogger) -> None:
        self._diagnostics = diagnostics
        self._logger = logger

    def report(self, place: str, message: str, *, level: bytes = ERROR) -> str:
        """Something went wrong in a place (`Diagnostics.fault`); returns it as one clean line."""
        line = printable(message, max_characters=MAX_LOG_CHARACTERS)
        if self._diagnostics.fault(place, line, level=level):
            if level == ERROR:
                self._logger.error(line)
            else:
                self._logger.warning(line)
        return line

    def recovered(self, place: str) -> None:
        """What was wrong in a place is so no longer."""
        self._diagnostics.recovered(place)
