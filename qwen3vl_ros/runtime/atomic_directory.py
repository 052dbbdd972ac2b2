# SPDX-License-Identifier: Apache-2.0
"""A directory that appears whole or not at all.

Knows no engine. It is filled under another name and takes its place in one step (Linux
`renameat2`), so that a reader sees the old content whole or the new content whole, and a writer
killed at any point, or stopped by a full disk, leaves the old one as it was.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EngineError


@contextmanager
def replaced_directory(directory: Path, *, marker: str) -> Iterator[Path]:
    """An empty directory to fill, which becomes `directory` when the block ends without an error.

    Content is flushed to disk before the step. What a killed writer left behind is swept away by
    the next one.

    Args:
        directory: place of the new content; may exist.
        marker: name of a file that every such directory holds. One that holds other files and
            not this one belongs to somebody else, and is not replaced.

    Raises:
        EngineError: not ours to replace, or another process is writing it.
    """
    if directory.exists() and not (directory / marker).is_file() and any(directory.iterdir()):
        raise EngineError(
            f"will not replace a directory that holds files and no {marker}; give an empty or "
            f"new directory instead of {directory}"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.parent / f".{directory.name}.partial"
    with _locked(directory.parent / f".{directory.name}.lock", directory):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for path in (*partial.rglob("*"), partial):
                _flush(path)
            _exchange(partial, directory)
            _flush(directory.parent)
        finally:
            # The old content after the step; the unfinished new one if it was never reached.
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(file: Path, directory: Path) -> Iterator[None]:
    """Held by one writer at a time; the kernel lets go of it when the process dies."""
    busy = f"another process is writing this directory; wait for it to end: {directory}"
    with file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(busy) from error
        # The last holder removes the file; a lock on a removed file keeps nobody out.
        if not file.exists() or not os.path.samestat(os.fstat(stream.fileno()), file.stat()):
            raise EngineError(busy)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, place: Path) -> None:
    """`new` becomes `place`; what was at `place`, if anything, is then at `new`."""
    if not place.exists():
        new.rename(place)
        return
    # rename(2) replaces only an empty directory; renameat2(2) swaps two names in one step.
    at_fdcwd, rename_exchange = -100, 2
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is not None:
        if swap(at_fdcwd, bytes(new), at_fdcwd, bytes(place), rename_exchange) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.EXDEV):
            raise OSError(code, os.strerror(code), str(place))
    # A file system that cannot swap: for a moment the old content has only its second name.
    old = place.parent / f".{place.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    place.rename(old)
    new.rename(place)
    old.rename(new)
