# SPDX-License-Identifier: Apache-2.0
"""On what a number was measured: processor, versions, load, commit, day.

Knows Linux's /proc, and gives no name of a machine, a user or a directory.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_FILE = Path("/proc/cpuinfo")
# What decides which kernels a runtime takes, by the kernel's names.
TELLING_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


def computer_facts(packages: Iterable[str]) -> Mapping[str, object]:
    """Plain values for a report; `packages` are those whose versions matter."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git_commit(),
        "cpu": cpu_facts(CPU_FILE.read_text() if CPU_FILE.is_file() else ""),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "versions": {"python": platform.python_version(), **versions_of(packages)},
    }


def cpu_facts(cpuinfo: str) -> Mapping[str, object]:
    """What of a `/proc/cpuinfo` tells how fast it can be.

    >>> cpu_facts("model name : AMD EPYC\\ncpu family : 25\\nmodel : 1\\nflags : sse2 avx2 fma")
    {'name': 'AMD EPYC', 'family': '25', 'model': '1', 'instructions': ['avx2', 'fma']}
    """

    def field(name: str) -> str:
        found = re.search(rf"^{name}\s*: (.*)$", cpuinfo, re.MULTILINE)
        return found.group(1).strip() if found else ""

    flags = (field("flags") or field("Features")).split()
    return {
        "name": field("model name") or platform.machine(),
        "family": field("cpu family"),
        "model": field("model"),
        "instructions": [flag for flag in TELLING_FLAGS if flag in flags],
    }


def versions_of(packages: Iterable[str]) -> Mapping[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def load_average() -> tuple[float, float, float]:
    """Processes that ran or wanted to, over one, five and fifteen minutes."""
    one, five, fifteen = os.getloadavg()
    return round(one, 2), round(five, 2), round(fifteen, 2)


def git_commit() -> str | None:
    """Of the tree this package lies in; None where it lies in none."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
