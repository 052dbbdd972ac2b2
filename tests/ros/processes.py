# SPDX-License-Identifier: Apache-2.0
"""Python processes in the ROS graph of a test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from tests.ros.graph import World


class Process:
    """A Python process in a world's domain, its output collected."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "ROS_DOMAIN_ID": str(world.domain.domain_id)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,))
            for lines, pipe in ((self.out, self.popen.stdout), (self.err, self.popen.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def stop(self, signal_number: int) -> float:
        """Seconds it took to end after a signal."""
        began = time.monotonic()
        self.popen.send_signal(signal_number)
        self.popen.wait(timeout=30)
        return time.monotonic() - began

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(timeout=30)
        for reader in self._readers:
            reader.join()
        for pipe in (self.popen.stdout, self.popen.stderr):
            pipe.close()
