# SPDX-License-Identifier: Apache-2.0
"""The synthetic camera's parameters, declared once; all of them are fixed when it starts.

Knows nothing of what is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .declared_parameters import check_limits, declare_on_node, declared
from .synthetic_moment import DEPTH_ENCODINGS

if TYPE_CHECKING:
    from rclpy.node import Node

MOTIONS = ("moving", "static")
_fixed = partial(declared, read_only=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticParameters:
    """The parameters; one that breaks its limits cannot be made (ConfigError)."""

    seed: int = _fixed(0, "Scene, light, camera and path are drawn from it.", range=(0, 2**31 - 1))
    solids: int = _fixed(
        0, "Objects in the scene; 0 lets the seed choose one to five.", range=(0, 5)
    )
    motion: str = _fixed(
        MOTIONS[0], "'moving' swings the robot in front of the scene.", one_of=MOTIONS
    )
    poses: int = _fixed(
        24,
        "Views rendered for 'moving'; to and fro takes 2 * (poses - 1) / rate_hz seconds.",
        range=(2, 500),
    )
    rate_hz: float = _fixed(6.0, "Pictures a second.", range=(0.1, 60.0))
    width: int = _fixed(640, "Columns of a picture.", range=(64, 1920))
    height: int = _fixed(480, "Rows of a picture.", range=(48, 1200))
    depth_encoding: str = _fixed(
        DEPTH_ENCODINGS[0], "Metres or millimetres (REP 118).", one_of=DEPTH_ENCODINGS
    )
    map_frame: str = _fixed("map", "Frame of the world.")
    base_frame: str = _fixed("base_link", "Frame of the robot, on the floor.")
    camera_frame: str = _fixed("camera_color_optical_frame", "Optical frame of the camera.")

    def __post_init__(self) -> None:
        check_limits(self)


def declare_parameters(node: Node) -> SyntheticParameters:
    """Declares every parameter on a node; what launch file and command line gave it.

    Raises:
        ConfigError: a given value has the wrong type or breaks its limits.
    """
    return SyntheticParameters(**declare_on_node(node, SyntheticParameters))
