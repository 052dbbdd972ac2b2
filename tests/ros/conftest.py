# SPDX-License-Identifier: Apache-2.0
"""Gives every test process a ROS domain of its own, and every test a graph (`World`)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ros.graph import World

_claimed: list[socket.socket] = []


def _claim_domain() -> int:
    """A ROS domain that no other test process of this machine uses: who binds the port has it."""
    for domain in range(1, 100):
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind(("127.0.0.1", 22119 + domain))
        except OSError:
            claim.close()
            continue
        _claimed.append(claim)
        return domain
    raise RuntimeError("no free ROS domain; do 99 test processes run here?")


os.environ["ROS_DOMAIN_ID"] = str(_claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()
