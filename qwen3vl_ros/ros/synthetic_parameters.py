# SPDX-License-Identifier: Apache-2.0
"""The synthetic camera's parameters, declared once; all of them are fixed when it starts.

Knows nothing of what is done with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

from ..errors import ConfigError
from .synthetic_moment import DEPTH_ENCODINGS

if TYPE_CHECKING:
    from rclpy.node import Node

MOTIONS = ("moving", "static")


def _declared(
    default: Any,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    one_of: tuple[str, ...] = (),
) -> Any:
    return field(
        default=default,
        metadata={"description": description, "range": range, "one_of": one_of},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticParameters:
    """The parameters, with their defaults; `declare_parameters` holds them to their limits."""

    seed: int = _declared(
        0, "Scene, light, camera and path are drawn from it.", range=(0, 2**31 - 1)
    )
    solids: int = _declared(
        0, "Objects in the scene; 0 lets the seed choose one to five.", range=(0, 5)
    )
    motion: str = _declared(
        MOTIONS[0], "'moving' swings the robot in front of the scene.", one_of=MOTIONS
    )
    poses: int = _declared(
        24,
        "Views rendered for 'moving'; to and fro takes 2 * (poses - 1) / rate_hz seconds.",
        range=(2, 500),
    )
    rate_hz: float = _declared(6.0, "Pictures a second.", range=(0.1, 60.0))
    width: int = _declared(640, "Columns of a picture.", range=(64, 1920))
    height: int = _declared(480, "Rows of a picture.", range=(48, 1200))
    depth_encoding: str = _declared(
        DEPTH_ENCODINGS[0], "Metres or millimetres (REP 118).", one_of=DEPTH_ENCODINGS
    )
    map_frame: str = _declared("map", "Frame of the world.")
    base_frame: str = _declared("base_link", "Frame of the robot, on the floor.")
    camera_frame: str = _declared("camera_color_optical_frame", "Optical frame of the camera.")


def declare_parameters(node: Node) -> SyntheticParameters:
    """Declares every parameter on a node; what launch file and command line gave it.

    Raises:
        ConfigError: a given value has the wrong type or breaks its limits.
    """
    values: dict[str, Any] = {}
    for f in fields(SyntheticParameters):
        limits = f.metadata
        descriptor = ParameterDescriptor(description=limits["description"], read_only=True)
        if limits["range"] and f.type == "int":
            low, high = limits["range"]
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        elif limits["range"]:
            low, high = limits["range"]
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif limits["one_of"]:
            descriptor.additional_constraints = "one of " + ", ".join(limits["one_of"])
        try:
            value = node.declare_parameter(f.name, f.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as exc:
            raise ConfigError(f"parameter {f.name} cannot be set as given: {exc}") from exc
        if limits["one_of"] and value not in limits["one_of"]:
            raise ConfigError(
                f"parameter {f.name} is '{value}', expected one of {', '.join(limits['one_of'])}"
            )
        values[f.name] = value
    return SyntheticParameters(**values)
