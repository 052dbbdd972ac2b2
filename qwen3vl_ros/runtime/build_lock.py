# SPDX-License-Identifier: Apache-2.0
"""One writer of a directory at a time.

Knows no engine. The kernel holds the lock (flock) and lets go of it when its process dies, however
it dies; what is written in the file is for the message only. On some network file systems a lock
is held for one machine alone: build on one machine at a time there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EngineError

_NOTE_BYTES = 4096


@contextmanager
def build_lock(file: Path, *, of: Path) -> Iterator[None]:
    """Held until the block ends; the file is gone afterwards.

    Args:
        file: made where it is missing; what a killed process left is taken over.
        of: what is locked, for the message.

    Raises:
        EngineError: somebody else holds it, with who and for how long.
    """
    descriptor = _held(file, of)
    try:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        # Removed while it is held: whoever opened it meanwhile sees that it is no longer there.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _held(file: Path, of: Path) -> int:
    while True:
        # Not through a link that somebody else put into a shared directory.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(file, flags, 0o644)
        except OSError as error:
            what = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise EngineError(
                f"cannot open {file}, the lock of a build: {what}; remove it if it is there, or "
                "write where this user may"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except BlockingIOError as error:
            message = _busy(os.pread(descriptor, _NOTE_BYTES, 0), of)
            os.close(descriptor)
            raise EngineError(message) from error
        except FileNotFoundError:
            pass  # its last holder removed it between our opening and our locking: again
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _busy(note: bytes, of: Path) -> str:
    try:
        values = json.loads(note)
        age_s = max(0.0, time.time() - float(values["since"]))
        who = f"process {int(values['pid'])} on {values['host']} has written for {age_s:.0f} s"
    except (ValueError, KeyError, TypeError):
        who = "another process is writing"  # it holds the lock and has not said so yet
    return f"{who} what this would replace; wait for it to end, or end it: {of}"
