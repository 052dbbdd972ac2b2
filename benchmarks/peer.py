# SPDX-License-Identifier: Apache-2.0
"""What every engine in the comparison can be asked, and the loop of the process it lives in.

Knows no engine. Needs the standard library alone, since each engine has a Python environment of
its own. One line of JSON comes in on standard input, one goes out on standard output:

    {"stage": "encode", "image_tokens": 300}  ->  {"wall_s": 2.5, "cpu_s": 4.9}

Wall and CPU time are taken here, in the same way for everybody; only who cannot run a stage alone
says itself how long it was, and then there is no CPU time of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Protocol


class Peer(Protocol):
    """An engine with the model loaded. Sizes are in tokens of the decoder.

    Stages return None, or their own word for how many seconds they took.
    """

    def facts(self) -> Mapping[str, object]:
        """Versions, numbers and settings: what somebody needs to do it again."""

    def encode(self, image_tokens: int) -> float | None:
        """A picture through the tower."""

    def prefill(self, image_tokens: int, text_tokens: int) -> float | None:
        """A prompt of one encoded picture and some words into an empty cache; its last logits."""

    def fill(self, cached_tokens: int) -> None:
        """Make a cache of so many tokens, to decode behind. Not timed."""

    def decode(self, cached_tokens: int, passes: int) -> float | None:
        """One token behind a filled cache, so often; logits each time."""


def answer(peer: Peer) -> None:
    """Do what standard input says until it ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print shall not be a reply
    print(json.dumps(peer.facts()), file=replies, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        run = getattr(peer, asked.pop("stage"))
        wall, cpu = time.perf_counter(), time.process_time()
        told = run(**asked)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if told is not None:
            print(f"the whole request took {wall:.3f} s, {cpu:.3f} s of CPU", file=sys.stderr)
        passes = asked.get("passes", 1)
        reply = {
            "wall_s": (wall if told is None else told) / passes,
            "cpu_s": cpu / passes if told is None else None,
        }
        print(json.dumps(reply), file=replies, flush=True)


def cores_to_use() -> int:
    """Threads, from the driver; the same for everybody."""
    return int(os.environ["BENCHMARK_THREADS"])


def picture_size(image_tokens: int) -> tuple[int, int]:
    """Rows and columns of image tokens of the picture nearest to a square.

    >>> picture_size(300), picture_size(1024)
    ((15, 20), (32, 32))
    """
    rows = next(n for n in range(int(image_tokens**0.5), 0, -1) if image_tokens % n == 0)
    return rows, image_tokens // rows
