# SPDX-License-Identifier: Apache-2.0
"""How much memory a process may still take before the machine suffers, or its container ends it.

Knows Linux's /proc/meminfo; limits of control groups are `cgroup_memory.py`'s. On a Jetson the
GPU's memory is the same.
"""

from __future__ import annotations

import re
from pathlib import Path

from .cgroup_memory import cgroup_free_bytes

MEMINFO_FILE = Path("/proc/meminfo")
_BYTES_IN_KIB = 1024


def free_memory_bytes(file: Path = MEMINFO_FILE) -> int | None:
    """What can be had without swapping others out, free swap included; None where not said.

    In a container with a limit, what is left of that, if it is less.
    """
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    if "MemAvailable" not in sizes:
        return None
    free = (int(sizes["MemAvailable"]) + int(sizes.get("SwapFree", 0))) * _BYTES_IN_KIB
    allowed = cgroup_free_bytes()
    return free if allowed is None else min(free, allowed)


def memory_line(needed_bytes: int) -> str:
    """For a person, before something large begins: what it needs, and what there is."""
    free = free_memory_bytes()
    there = "nobody knows how much is" if free is None else f"{free / 1e9:.2f} GB are"
    return f"memory: about {needed_bytes / 1e9:.2f} GB needed, {there} free"
