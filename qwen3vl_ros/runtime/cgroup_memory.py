# SPDX-License-Identifier: Apache-2.0
"""How much memory the kernel still allows this process's control group: a container's limit.

Knows Linux's cgroup files, version 2 and version 1. A process that takes more than its group may
is killed without a word, however much the machine has free.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP_FILE = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60  # version 1 says so by a very large number


def cgroup_free_bytes(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP_FILE) -> int | None:
    """What the tightest of this process's groups has left; None where none has a limit.

    Args:
        root: where the groups' files are mounted.
        membership: says which groups this process is in.
    """
    left = [
        free
        for directory, names in _groups(root, membership)
        if (free := _left(directory, *names)) is not None
    ]
    return min(left, default=None)


# Names of the limit, of what is used, and of what of that the kernel drops when it has to.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _groups(root: Path, membership: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Every group from this process's own up to the root's."""
    text = _text(membership) or "0::/"
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, _V2
        elif "memory" in controllers.split(","):
            top, names = root / "memory", _V1
        else:
            continue
        directory = top / path.lstrip("/")
        # In a container the path may be the host's, of which nothing is mounted.
        for place in (directory, *directory.parents):
            if place.is_relative_to(top):
                yield place, names


def _left(directory: Path, limit: str, usage: str, droppable: str) -> int | None:
    most, used = _text(directory / limit), _text(directory / usage)
    if most is None or used is None or not most.strip().isdigit() or int(most) >= _NO_LIMIT:
        return None
    found = re.search(
        rf"^{droppable} (\d+)$", _text(directory / "memory.stat") or "", re.MULTILINE
    )
    return max(0, int(most) - int(used) + (int(found.group(1)) if found else 0))


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
