# SPDX-License-Identifier: Apache-2.0
"""A directory that appears whole or not at all.

Knows no engine. It is filled under another name and takes its place in one step (Linux
`renameat2`), so that a reader sees the old content whole or the new content whole, and a writer
killed at any point, or stopped by a full disk, leaves the old one as it was.

Beside `name`, and only while it is written: `.name.lock`, `.name.partial` (the unfinished content,
after the step the old one), and `.name.old` where the file system cannot swap.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import EngineError
from .build_lock import build_lock
from .trusted_path import check_spelled_out

# An OSError without a number is a library's own: numpy says only how much it could write.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)


@contextmanager
def replaced_directory(directory: Path, *, marker: str) -> Iterator[Path]:
    """An empty directory to fill, which becomes `directory` when the block ends without an error.

    Content is flushed to disk before the step. What a killed writer left behind is swept away by
    the next one, or put back where it was the only whole copy.

    Args:
        directory: place of the new content; may exist. A link is followed: what it leads to is
            replaced.
        marker: name of a file that every such directory holds. One that holds other files and
            not this one belongs to somebody else, and is not replaced.

    Raises:
        EngineError: not ours to replace, or another process is writing it, or there is no room.
    """
    check_spelled_out(directory)
    try:
        place = directory.resolve()
        _check_replaceable(place, marker)
        place.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise EngineError(
            f"cannot write {directory}: {error}; give a directory that this user can make"
        ) from error
    partial, old = (place.parent / f".{place.name}.{state}" for state in ("partial", "old"))
    with build_lock(place.parent / f".{place.name}.lock", of=place):
        if not place.exists() and (old / marker).is_file():
            old.rename(place)  # killed between the two renames of a file system without a swap
        _remove(old)
        _remove(partial)
        try:
            partial.mkdir()
        except OSError as error:
            raise EngineError(
                f"cannot make {partial}: {error.strerror}; remove it if it is there, or write "
                "elsewhere"
            ) from error
        try:
            yield partial
            for path in (*partial.rglob("*"), partial):
                _settle(path)
            _exchange(partial, place, old)
            _settle(place.parent, close_to_others=False)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            free = shutil.disk_usage(place.parent).free
            raise EngineError(
                f"cannot write {place} whole: {error}; {free / 1e9:.1f} GB are free, and what was "
                "there before is as it was: make room, or write elsewhere"
            ) from error
        finally:
            # The old content after the step; the unfinished new one if it was never reached.
            _remove(partial)


def _check_replaceable(place: Path, marker: str) -> None:
    if place.exists() and not place.is_dir():
        raise EngineError(
            f"{place} is a file, expected a directory or nothing; give another place, or remove it"
        )
    if os.path.ismount(place):
        raise EngineError(
            f"{place} is a mount point, which cannot be replaced in one step; give a directory "
            f"below it, for example {place / 'engine'}"
        )
    if place.exists() and not (place / marker).is_file() and any(place.iterdir()):
        raise EngineError(
            f"will not replace a directory that holds files and no {marker}; give an empty or "
            f"new directory instead of {place}"
        )


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _settle(path: Path, *, close_to_others: bool = True) -> None:
    """On disk when this returns, and not to be written by everybody, whatever the umask was."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if close_to_others:
            os.fchmod(descriptor, os.fstat(descriptor).st_mode & 0o7775)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, place: Path, old: Path) -> None:
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
    place.rename(old)
    new.rename(place)
    old.rename(new)
