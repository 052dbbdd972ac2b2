# SPDX-License-Identifier: Apache-2.0
"""Standard output may be a pipe whose reader has enough, as in `qwen3vl ... | head`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

EXIT_UNREAD = 141  # as a shell says it of what SIGPIPE ended


def exit_code_of(run: Callable[[], int]) -> int:
    """What `run` returns; `EXIT_UNREAD`, without a word, where nobody reads what it prints."""
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return EXIT_UNREAD
