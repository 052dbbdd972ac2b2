# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node, declared once: default, description, limits, who may change it.

The declaration is `NodeParameters`; ROS descriptors, checks and the table in the README are made
from it. A parameter file or launch file holds only what differs. Knows nothing of what the node
does with the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
)
from rclpy.parameter import Parameter

from ..errors import ConfigError, QueryError
from ..scene.detections import SPATIAL_TASKS, Query, Task

if TYPE_CHECKING:
    from rclpy.node import Node

PARAMETER_TYPES = {
    "bool": Parameter.Type.BOOL,
    "int": Parameter.Type.INTEGER,
    "float": Parameter.Type.DOUBLE,
    "str": Parameter.Type.STRING,
    "tuple[str, ...]": Parameter.Type.STRING_ARRAY,
}
TINY_ENGINE = Path("engines") / "tiny" / "onnxruntime-int4"
# The parameters that make up the question; changing one of them asks anew.
QUESTION = frozenset({"task", "text", "categories", "max_objects"})


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


def _declared(
    default: Any,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    one_of: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    limits = Limits(description=description, range=range, one_of=one_of, read_only=read_only)
    return field(default=default, metadata={"limits": limits})


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeParameters:
    """The node's parameters; one that breaks its limits cannot be made (ConfigError, QueryError).

    Together `task`, `text` and `categories` are the question asked of every picture; while the
    field that the task needs is empty, no question is in force and the node waits for one.
    """

    engine_dir: str = _declared(
        "",
        "Directory of the engine (its manifest.json). Empty: the tiny engine of this package.",
        read_only=True,
    )
    threads: int = _declared(
        0, "CPU threads of the engine; 0 lets it choose.", range=(0, 256), read_only=True
    )
    autostart: bool = _declared(
        True,
        "Configure and activate at start. Set false where a lifecycle manager does that.",
        read_only=True,
    )
    task: str = _declared(
        Task.DETECT.value, "Kind of question.", one_of=tuple(task.value for task in SPATIAL_TASKS)
    )
    text: str = _declared("", "What to look for, in words; needed by every task but 'detect'.")
    categories: tuple[str, ...] = _declared(
        (), "Categories to look for, for example ['mug', 'laptop']; needed by the task 'detect'."
    )
    max_objects: int = _declared(
        20, "Answers are cut after this many objects, unless the question says.", range=(1, 200)
    )
    model_boxes: bool = _declared(
        True,
        "Ask the model itself for a 3D box of what has no depth: a second question, twice the "
        "time.",
    )
    target_frame: str = _declared(
        "", "Frame of the 3D results. Empty: the camera optical frame of each image."
    )
    tf_fallback: str = _declared(
        "camera",
        "When the transform to target_frame is missing at the stamp of the image: 'camera' "
        "publishes 3D results in the camera frame, 'drop' does not publish them.",
        one_of=("camera", "drop"),
    )
    tf_timeout_s: float = _declared(
        0.2, "How long to wait for that transform, seconds.", range=(0.0, 5.0)
    )
    input_reliability: str = _declared(
        "best_effort",
        "QoS of the subscriptions. 'best_effort' hears every publisher; 'reliable' only reliable "
        "ones.",
        one_of=("best_effort", "reliable"),
        read_only=True,
    )
    input_queue_depth: int = _declared(
        1, "QoS depth of the subscriptions; 1 keeps images fresh.", range=(1, 30), read_only=True
    )
    image_is_rectified: bool = _declared(
        False,
        "True when the image topic is rectified: then P of camera_info holds and its distortion "
        "does not. False: K and the distortion hold.",
    )
    depth_slop_s: float = _declared(
        0.05, "Largest difference between stamps of an image and its depth.", range=(0.0, 1.0)
    )
    pairing_wait_s: float = _declared(
        0.1,
        "How long an image waits for its depth and calibration while someone publishes them, "
        "seconds.",
        range=(0.0, 2.0),
    )
    max_image_age_s: float = _declared(
        5.0,
        "Images older than this on the node's clock are not used, seconds; 0 uses all.",
        range=(0.0, 1e6),
    )
    marker_lifetime_s: float = _declared(
        3.0, "How long RViz shows a marker, seconds; 0 is for ever.", range=(0.0, 1e6)
    )

    def __post_init__(self) -> None:
        for name, limits in declared_limits().items():
            value = getattr(self, name)
            if limits.one_of and value not in limits.one_of:
                raise ConfigError(
                    f"parameter {name} is '{value}', expected one of {', '.join(limits.one_of)}"
                )
            # Written so that NaN fails.
            if limits.range and not limits.range[0] <= value <= limits.range[1]:
                raise ConfigError(
                    f"parameter {name} is {value}, expected {limits.range[0]} to {limits.range[1]}"
                )
        self.query()

    def query(self, *, query_id: str = "") -> Query | None:
        """The question in force, None while there is none.

        Raises:
            QueryError: there is one, and it cannot be asked.
        """
        asked = self.categories if Task(self.task) is Task.DETECT else self.text
        if not asked:
            return None
        return Query(
            task=Task(self.task),
            text=self.text,
            categories=self.categories,
            query_id=query_id,
            max_objects=self.max_objects,
        )

    def changed(self, changes: Mapping[str, Any]) -> NodeParameters:
        """These parameters with some replaced; names that are not ours are passed over.

        Raises:
            ConfigError: a value breaks its limits.
            QueryError: the question could no longer be asked, or would be taken back.
        """
        ours: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in changes.items()
            if name in declared_limits()
        }
        new = replace(self, **ours)
        if self.query() is not None and new.query() is None:
            needed = "categories" if Task(new.task) is Task.DETECT else "text"
            raise QueryError(
                f"a '{new.task}' question needs {needed}, which is empty: say what to look for; "
                "to stop looking, deactivate the node"
            )
        return new


def declared_limits() -> dict[str, Limits]:
    """Limits of every parameter, in order of declaration."""
    return {f.name: cast(Limits, f.metadata["limits"]) for f in fields(NodeParameters)}


def declare_parameters(node: Node) -> NodeParameters:
    """Declares every parameter on a node; what launch file and command line gave it.

    Raises:
        ConfigError: a given value has the wrong type or breaks its limits.
        QueryError: the given question cannot be asked.
    """
    values: dict[str, Any] = {}
    for f in fields(NodeParameters):
        kind = PARAMETER_TYPES[cast(str, f.type)]
        is_list = kind is Parameter.Type.STRING_ARRAY
        descriptor = _descriptor(f.metadata["limits"], kind)
        try:
            # rclpy takes an empty list for one of bytes, so lists are declared by their type.
            node.declare_parameter(f.name, kind if is_list else f.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as exc:
            raise ConfigError(f"parameter {f.name} cannot be set as given: {exc}") from exc
        # `[]` on the command line, too, arrives as "no value".
        if node.get_parameter_or(f.name).value is None:
            node.set_parameters([Parameter(f.name, kind, [])])
        values[f.name] = node.get_parameter(f.name).value
    return NodeParameters().changed(values)


def engine_directory(parameters: NodeParameters) -> Path:
    """Where the engine is: as given, or the tiny one of the source tree or installed package."""
    if parameters.engine_dir:
        return Path(parameters.engine_dir)
    in_source_tree = Path(__file__).resolve().parents[2] / TINY_ENGINE
    if in_source_tree.is_dir():
        return in_source_tree
    try:
        return Path(get_package_share_directory("qwen3vl_ros")) / TINY_ENGINE
    except (PackageNotFoundError, OSError):  # OSError: no ROS workspace is sourced
        return in_source_tree  # is missing, and the loader says so


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


def parameter_table() -> str:
    """The parameters as a Markdown table, for the README."""
    rows = ["| parameter | default | limits | meaning |", "|---|---|---|---|"]
    for f in fields(NodeParameters):
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
