# SPDX-License-Identifier: Apache-2.0
"""The driver's side of a peer's process: start it, ask it, end it.

What a peer says on stderr goes on to ours, and its last lines are kept: they say why it failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LAST_LINES = 3  # of stderr, in a message
PATIENCE_S = 10.0  # for a peer whose replies have ended to end itself


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
    """A peer could not be started, its process ended, or it said something that is no reply.

    Attributes:
        peer: its name.
    """

    def __init__(self, peer: str, command: Sequence[str], fault: str, said: Sequence[str]) -> None:
        words = f"; the last it said: {' | '.join(said)}" if said else "; it said nothing"
        line = " ".join(shlex.join(command).split())
        super().__init__(f"peer '{peer}' {fault}{words}; its command: {line}")
        self.peer = peer


class Worker:
    """A running peer. Owns its process, and a thread that reads its stderr."""

    def __init__(self, name: str, command: list[str], *, threads: int) -> None:
        """Start it; it loads its model meanwhile.

        Raises:
            PeerFailed: there is no such program, or it must not be run.
        """
        self.name = name
        self._command = command
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._facts: Mapping[str, Any] | None = None
        count = str(threads)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                bufsize=1,
                env=os.environ | {"BENCHMARK_THREADS": count, "OMP_NUM_THREADS": count},
            )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it says of itself when the model is loaded; waits for that.

        Raises:
            PeerFailed: it ended instead.
        """
        if self._facts is None:
            self._facts = self._reply("while it loaded")
        return self._facts

    def took(self, stage: str, **sizes: int) -> Took:
        """What a stage takes, or one of its passes where it has several.

        Raises:
            PeerFailed: it ended instead, or said something else.
        """
        doing = " ".join(["in", stage, *map(str, sizes.values())])
        assert self._process.stdin is not None
        try:
            print(json.dumps({"stage": stage, **sizes}), file=self._process.stdin)
        except OSError as error:  # nobody reads: it is gone
            raise self._gone(doing) from error
        reply = self._reply(doing)
        try:
            return Took(wall_s=reply["wall_s"], cpu_s=reply["cpu_s"])
        except KeyError as error:
            raise self._failed(f"answered without {error} {doing}") from error

    def end(self) -> None:
        """Let it go; its memory is free when this returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # what was last asked reached nobody
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._listener.join()

    def _reply(self, doing: str) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone(doing)
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise self._failed(f"answered {line.strip()!r}, expected a JSON object, {doing}")
        return reply

    def _gone(self, doing: str) -> PeerFailed:
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return self._failed(f"closed its output {doing}")
        self._listener.join(PATIENCE_S)  # its last lines may still be on their way
        how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
        return self._failed(f"ended {how} {doing}")

    def _failed(self, fault: str) -> PeerFailed:
        return PeerFailed(self.name, self._command, fault, tuple(self._said))

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                sys.stderr.write(line)
                if words := line.strip():
                    self._said.append(words)
