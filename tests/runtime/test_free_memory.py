# SPDX-License-Identifier: Apache-2.0
"""How much memory may be taken: what the machine has, or what a container still allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3vl_ros.runtime import free_memory
from qwen3vl_ros.runtime.cgroup_memory import cgroup_free_bytes
from qwen3vl_ros.runtime.free_memory import free_memory_bytes

MEMINFO = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 3000 kB\nSwapFree: 500 kB\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "self_cgroup"


def test_what_is_available_counts_and_free_swap_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(free_memory, "cgroup_free_bytes", lambda: None)
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert free_memory_bytes(tmp_path / "meminfo") == 3500 * 1024


def test_a_container_that_allows_less_decides(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(free_memory, "cgroup_free_bytes", lambda: 1000)
    assert free_memory_bytes(tmp_path / "meminfo") == 1000
    monkeypatch.setattr(free_memory, "cgroup_free_bytes", lambda: 10**12)
    assert free_memory_bytes(tmp_path / "meminfo") == 3500 * 1024


def test_where_nothing_says_it_nothing_is_made_up(tmp_path):
    assert free_memory_bytes(tmp_path / "missing") is None
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\n")
    assert free_memory_bytes(tmp_path / "meminfo") is None


def test_this_machine_has_some():
    free = free_memory_bytes()
    assert free is not None
    assert 50e6 < free < 1e14


V2 = {
    "a/b/memory.max": "1000\n",
    "a/b/memory.current": "700\n",
    "a/b/memory.stat": "anon 300\ninactive_file 150\nactive_file 250\n",
    "a/memory.max": "max\n",
    "a/memory.current": "5000\n",
    "memory.stat": "inactive_file 7\n",
}


def test_a_group_has_left_its_limit_less_what_the_kernel_cannot_drop(tmp_path, membership):
    write(tmp_path / "fs", V2)
    membership.write_text("0::/a/b\n")
    assert cgroup_free_bytes(tmp_path / "fs", membership) == 1000 - 700 + 150


def test_the_tightest_of_the_groups_above_decides(tmp_path, membership):
    write(tmp_path / "fs", V2 | {"a/memory.max": "5100"})
    membership.write_text("0::/a/b\n")
    assert cgroup_free_bytes(tmp_path / "fs", membership) == 100


def test_a_group_that_used_more_than_its_limit_has_nothing_left(tmp_path, membership):
    write(tmp_path / "fs", V2 | {"a/b/memory.current": "2000"})
    membership.write_text("0::/a/b\n")
    assert cgroup_free_bytes(tmp_path / "fs", membership) == 0


def test_in_a_container_the_limit_stands_at_the_top(tmp_path, membership):
    """Its own path is the host's, and none of it is mounted."""
    write(tmp_path / "fs", {"memory.max": "900", "memory.current": "100"})
    membership.write_text("0::/system.slice/docker-1234.scope\n")
    assert cgroup_free_bytes(tmp_path / "fs", membership) == 800


def test_the_first_version_of_control_groups_is_read_too(tmp_path, membership):
    write(
        tmp_path / "fs" / "memory",
        {
            "jetson/memory.limit_in_bytes": "1000",
            "jetson/memory.usage_in_bytes": "400",
            "jetson/memory.stat": "total_inactive_file 50\n",
            "memory.limit_in_bytes": str((1 << 63) - 4096),
            "memory.usage_in_bytes": "0",
        },
    )
    membership.write_text("12:cpu,cpuacct:/\n9:memory:/jetson\n1:name=systemd:/\n0::/\n")
    assert cgroup_free_bytes(tmp_path / "fs", membership) == 650


@pytest.mark.parametrize(
    "text", [pytest.param("0::/a\n", id="no limit"), pytest.param(None, id="no groups at all")]
)
def test_without_a_limit_there_is_none(tmp_path, membership, text):
    write(tmp_path / "fs", {"a/memory.max": "max", "a/memory.current": "10"})
    if text is not None:
        membership.write_text(text)
    assert cgroup_free_bytes(tmp_path / "fs", membership) is None
