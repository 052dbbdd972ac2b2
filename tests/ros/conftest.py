# SPDX-License-Identifier: Apache-2.0
"""Gives every test process a ROS domain of its own, and every test a graph (`World`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ros.domain import ClaimedDomain
from tests.ros.graph import World

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
