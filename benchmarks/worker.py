# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a peer's process: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """Time of a stage.

    Attributes:
        wall_s: by the clock.
        cpu_s: of all threads; None where the peer could only tell the other.
    """

    wall_s: float
    cpu_s: float | None


class PeerFailed(Exception):
    """A peer's process ended, or said something that is no reply."""


class Worker:
    """A running peer. Owns its process."""

    def __init__(self, name: str, command: list[str], *, threads: int) -> None:
        self.name = name
        count = str(threads)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | {"BENCHMARK_THREADS": count, "OMP_NUM_THREADS": count},
        )
        self._facts: Mapping[str, Any] | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it says of itself when the model is loaded; waits for that."""
        if self._facts is None:
            self._facts = self._reply()
        return self._facts

    def took(self, stage: str, **sizes: int) -> Took:
        """What a stage takes, or one of its passes where it has several."""
        assert self._process.stdin is not None
        print(json.dumps({"stage": stage, **sizes}), file=self._process.stdin)
        reply = self._reply()
        return Took(wall_s=reply["wall_s"], cpu_s=reply["cpu_s"])

    def end(self) -> None:
        """Let it go; its memory is free when this returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            return json.loads(line)
        except ValueError as error:
            raise PeerFailed(
                f"{self.name} answered {line!r}, expected a line of JSON; what it said last is on "
                "stderr above"
            ) from error
