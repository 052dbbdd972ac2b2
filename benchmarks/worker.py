# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a peer's process: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from qwen3vl_ros.offline.taking_turns import Effort


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

    def effort(self, stage: str, *, times: int = 1, **sizes: int) -> Effort:
        """What one of `times` runs of a stage takes, as the peer's own process measures it."""
        assert self._process.stdin is not None
        print(json.dumps({"stage": stage, "times": times, **sizes}), file=self._process.stdin)
        reply = self._reply()
        return Effort(wall_s=reply["wall_s"], cpu_s=reply["cpu_s"])

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
