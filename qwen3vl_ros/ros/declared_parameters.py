# SPDX-License-Identifier: Apache-2.0
"""How a parameter is declared once: default, description and limits in a field of a dataclass.

ROS descriptors, checks and the tables of the README are made from such a class. Knows no
parameter; `parameters.py` and `synthetic_parameters.py` declare theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter

from ..errors import ConfigError

if TYPE_CHECKING:
    from rclpy.node import Node

PARAMETER_TYPES = {
    "bool": Parameter.Type.BOOL,
    "int": Parameter.Type.INTEGER,
    "float": Parameter.Type.DOUBLE,
    "str": Parameter.Type.STRING,
    "tuple[str, ...]": Parameter.Type.STRING_ARRAY,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a parameter may be, beyond its type.

    Attributes:
        description: one or two sentences for `ros2 param describe` and the README.
        range: smallest and largest number, both allowed; None for no limit.
        one_of: the words allowed; empty for any.
        read_only: fixed when the node starts.
    """

    description: str
    range: tuple[float, float] | None = None
    one_of: tuple[str, ...] = ()
    read_only: bool = False


def declared(
    default: Any,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    one_of: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    """A field of a class of parameters; `Any`, as the type is the field's own."""
    limits = Limits(description=description, range=range, one_of=one_of, read_only=read_only)
    return field(default=default, metadata={"limits": limits})


def declared_limits(kind: type[Any]) -> dict[str, Limits]:
    """Limits of every parameter of a class, in order of declaration."""
    return {f.name: cast(Limits, f.metadata["limits"]) for f in fields(kind)}


def check_limits(parameters: Any) -> None:
    """Holds an instance of a class of parameters to its limits.

    Raises:
        ConfigError: a value breaks them.
    """
    for name, limits in declared_limits(type(parameters)).items():
        value = getattr(parameters, name)
        if limits.one_of and value not in limits.one_of:
            raise ConfigError(
                f"parameter {name} is '{value}', expected one of {', '.join(limits.one_of)}"
            )
        # Written so that NaN fails.
        if limits.range and not limits.range[0] <= value <= limits.range[1]:
            raise ConfigError(
                f"parameter {name} is {value}, expected {limits.range[0]} to {limits.range[1]}"
            )


def declare_on_node(node: Node, kind: type[Any]) -> dict[str, Any]:
    """Declares every parameter of a class on a node; what launch file and command line gave it.

    Raises:
        ConfigError: a given value has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    for f in fields(kind):
        type_ = PARAMETER_TYPES[cast(str, f.type)]
        is_list = type_ is Parameter.Type.STRING_ARRAY
        descriptor = _descriptor(f.metadata["limits"], type_)
        # A list that nobody gave is set below, which no fixed parameter allows.
        descriptor.read_only = descriptor.read_only and not is_list
        try:
            # rclpy takes an empty list for one of bytes, so lists are declared by their type.
            node.declare_parameter(f.name, type_ if is_list else f.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as exc:
            raise ConfigError(f"parameter {f.name} cannot be set as given: {exc}") from exc
        # `[]` on the command line, too, arrives as "no value".
        if node.get_parameter_or(f.name).value is None:
            node.set_parameters([Parameter(f.name, type_, [])])
        if is_list:
            descriptor = _descriptor(f.metadata["limits"], type_)
            descriptor.type = type_.value
            node.set_descriptor(f.name, descriptor)
        values[f.name] = node.get_parameter(f.name).value
    return values


def _descriptor(limits: Limits, kind: Parameter.Type) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=limits.description, read_only=limits.read_only)
    if limits.one_of:
        descriptor.additional_constraints = "one of " + ", ".join(limits.one_of)
    if limits.range and kind is Parameter.Type.INTEGER:
        low, high = map(int, limits.range)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    elif limits.range:
        low_m, high_m = map(float, limits.range)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low_m, to_value=high_m)]
    return descriptor


def parameter_table(kind: type[Any]) -> str:
    """The parameters of a class as a Markdown table, for the README."""
    rows = ["| parameter | default | limits | meaning |", "|---|---|---|---|"]
    for f in fields(kind):
        limits: Limits = f.metadata["limits"]
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        shown = f"`{default}`".lower() if isinstance(default, bool) else f"`{default!r}`"
        allowed = [f"`{word}`" for word in limits.one_of]
        if limits.range:
            allowed.append(f"{limits.range[0]:g} to {limits.range[1]:g}")
        if limits.read_only:
            allowed.append("fixed at start")
        rows.append(f"| `{f.name}` | {shown} | {', '.join(allowed)} | {limits.description} |")
    return "\n".join(rows)
