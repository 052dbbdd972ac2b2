# SPDX-License-Identifier: Apache-2.0
"""ROS domains that no other test of this machine uses at the same time."""

from __future__ import annotations

import itertools
import os
import socket

# Domains above leave the range of ports that Linux keeps free.
DOMAINS = 100
# Beside the ports of DDS; who has bound one has its domain, until the process ends at the latest.
FIRST_PORT = 22119

# Begins where other processes hardly do, and goes round: what an earlier test has left on the
# wire (participants say goodbye by lease) is not heard by the next one.
_next = itertools.count(os.getpid())


class ClaimedDomain:
    """A domain id, ours until released."""

    def __init__(self) -> None:
        for n in itertools.islice(_next, DOMAINS):
            self.domain_id = 1 + n % DOMAINS
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                self._claim.bind(("127.0.0.1", FIRST_PORT + self.domain_id))
            except OSError:
                self._claim.close()
            else:
                return
        raise RuntimeError(f"no free ROS domain; do {DOMAINS} tests run here at once?")

    def release(self) -> None:
        """Lets others have it."""
        self._claim.close()
