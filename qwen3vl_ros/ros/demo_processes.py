# SPDX-License-Identifier: Apache-2.0
"""Child processes of the demo: started with a log file each, watched, and always ended.

Knows no ROS but its environment variables.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from ament_index_python.packages import get_package_share_directory

from ..errors import ConfigError

# Domains above leave the range of ports that Linux keeps free.
DOMAINS = 101
# Each signal, and how long a process has to follow it.
ENDINGS = ((signal.SIGINT, 8.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))
TAIL_LINES = 15
# Distributions whose Fast DDS 2 reads its profile from a variable of another name.
BEFORE_FAST_DDS_3 = ("humble", "iron", "jazzy")
PROFILE = Path("params") / "fastdds_large_images.xml"


class ChildProcess:
    """A Python module run as a process of its own; a context that ends it."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log = log
        self._stopped = False
        # Same group as ours on purpose: Ctrl-C and a closed terminal reach it without us.
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)

    def stop(self) -> None:
        """Ends it, if need be by force."""
        for ending, patience_s in ENDINGS:
            if self._process.poll() is not None:
                return
            self._process.send_signal(ending)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue


def free_domain() -> int:
    """A ROS domain in which nobody on this machine listens now.

    Raises:
        ConfigError: there is none.
    """
    for domain in random.sample(range(1, DOMAINS), DOMAINS - 1):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Where DDS puts the first participant of a domain (RTPS 2.3, 9.6.1.1).
                probe.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise ConfigError(
        f"all {DOMAINS - 1} ROS domains are in use on this machine; end other ROS programs"
    )


def isolated_environment(environment: Mapping[str, str], *, log: Path) -> dict[str, str]:
    """`environment`, with a ROS graph of its own that does not leave this machine.

    Fast DDS gets room for pictures; a transport profile already chosen is kept.
    """
    fast_dds = "FASTRTPS" if environment.get("ROS_DISTRO") in BEFORE_FAST_DDS_3 else "FASTDDS"
    return {
        f"{fast_dds}_DEFAULT_PROFILES_FILE": str(transport_profile()),
        **environment,
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(log),
        "RCUTILS_COLORIZED_OUTPUT": "0",
        "PYTHONUNBUFFERED": "1",
    }


def transport_profile() -> Path:
    """The Fast DDS profile with room for pictures, of the source tree or installed package."""
    in_source_tree = Path(__file__).resolve().parents[2] / "launch" / PROFILE
    if in_source_tree.is_file():
        return in_source_tree
    return Path(get_package_share_directory("qwen3vl_ros")) / "launch" / PROFILE
