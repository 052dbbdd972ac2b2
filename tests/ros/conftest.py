# SPDX-License-Identifier: Apache-2.0
"""Gives every test process a ROS domain of its own, and every test a graph (`World`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwen3vl_ros.action import Ground
from tests.ros.asker import Asker
from tests.ros.domain import ClaimedDomain
from tests.ros.graph import World
from tests.ros.processes import Process

# For whatever starts no `World`; a world has a domain of its own.
_domain = ClaimedDomain()
os.environ["ROS_DOMAIN_ID"] = str(_domain.domain_id)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


def pytest_unconfigure() -> None:
    _domain.release()


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


@pytest.fixture
def asker(world: World) -> Iterator[Callable[..., Asker]]:
    """Makes an asker of ~/ground, or of the action given, once the node it asks is there."""
    askers: list[Asker] = []

    def make(action: type[Any] = Ground) -> Asker:
        askers.append(Asker(world, action))
        return askers[-1]

    yield make
    for one in askers:
        one.client.destroy()


@pytest.fixture
def spawn(world: World) -> Iterator[Callable[..., Process]]:
    """Starts Python processes with these arguments; they end with the test."""
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        processes.append(Process(world, *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.close()
