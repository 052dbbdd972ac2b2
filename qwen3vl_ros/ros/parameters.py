# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node, declared once: default, description, limits, who may change it.

The declaration is `NodeParameters`; ROS descriptors, checks and the table in the README are made
from it (`declared_parameters.py`). A parameter file or launch file holds only what differs. Knows
nothing of what the node does with the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, QueryError
from ..remote.remote_server import (
    MAX_PIXELS,
    MIN_PIXELS,
    ChatProtocol,
    PictureFormat,
    RemoteServer,
)
from ..runtime.loading import tiny_engine_directory
from ..scene.detections import SPATIAL_TASKS, Query, Task
from .declared_parameters import check_limits, declare_on_node, declared, declared_limits

if TYPE_CHECKING:
    from rclpy.node import Node

# The parameters that make up the question; changing one of them asks anew.
QUESTION = frozenset({"task", "text", "categories", "max_objects"})


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeParameters:
    """The node's parameters; one that breaks its limits cannot be made (ConfigError, QueryError).

    Together `task`, `text` and `categories` are the question asked of every picture; while the
    field that the task needs is empty, no question is in force and the node waits for one.
    """

    engine_dir: str = declared(
        "",
        "Directory of the engine (its manifest.json). Empty: the tiny engine of this package.",
        read_only=True,
    )
    server_url: str = declared(
        "",
        "Address of a model server, for example http://localhost:8000/v1, asked in place of an "
        "engine. It need not run yet when the node starts. Empty: the engine of engine_dir.",
        read_only=True,
    )
    server_model: str = declared(
        "", "The model, as the server calls it; needed with server_url.", read_only=True
    )
    server_protocol: str = declared(
        ChatProtocol.OPENAI.value,
        "What the server speaks: OpenAI's chat completions or Anthropic's messages.",
        one_of=tuple(protocol.value for protocol in ChatProtocol),
        read_only=True,
    )
    server_key_env: str = declared(
        "",
        "Name of the environment variable that holds the server's key, never the key itself. "
        "Empty: OPENAI_API_KEY or ANTHROPIC_API_KEY, by the protocol; where it is not set, no key "
        "is sent.",
        read_only=True,
    )
    server_timeout_s: float = declared(
        30.0,
        "How long the server may give no sign, for each of three tries, seconds.",
        range=(0.1, 3600.0),
        read_only=True,
    )
    server_picture_format: str = declared(
        PictureFormat.PNG.value,
        "How pictures are sent: 'png' loses nothing, 'jpeg' is several times smaller.",
        one_of=tuple(form.value for form in PictureFormat),
        read_only=True,
    )
    server_thinking: bool = declared(
        False, "True when the server's model is a Thinking checkpoint.", read_only=True
    )
    min_pixels: int = declared(
        0,
        "Smaller pictures are shown to the model enlarged to this area, pixels; 0 leaves it to "
        "the checkpoint. Small things are found more often.",
        range=(0, 100_000_000),
        read_only=True,
    )
    max_pixels: int = declared(
        0,
        "Larger pictures are shrunk to this area, pixels: faster, and sees less; 0 leaves it to "
        "the checkpoint. Not more than the engine was exported for.",
        range=(0, 100_000_000),
        read_only=True,
    )
    threads: int = declared(
        0, "CPU threads of the engine; 0 lets it choose.", range=(0, 256), read_only=True
    )
    spinning: bool = declared(
        False,
        "Let threads that wait keep their cores busy: a little faster where nothing else runs.",
        read_only=True,
    )
    providers: tuple[str, ...] = declared(
        (),
        "ONNX Runtime's execution providers, in order, for example ['cuda']. Empty: what is "
        "installed.",
        read_only=True,
    )
    allow_fallback: bool = declared(
        False,
        "Run without a provider that does not start; otherwise the node does not configure.",
        read_only=True,
    )
    autostart: bool = declared(
        True,
        "Configure and activate at start. Set false where a lifecycle manager does that.",
        read_only=True,
    )
    task: str = declared(
        Task.DETECT.value, "Kind of question.", one_of=tuple(task.value for task in SPATIAL_TASKS)
    )
    text: str = declared("", "What to look for, in words; needed by every task but 'detect'.")
    categories: tuple[str, ...] = declared(
        (), "Categories to look for, for example ['mug', 'laptop']; needed by the task 'detect'."
    )
    max_objects: int = declared(
        20, "Answers are cut after this many objects, unless the question says.", range=(1, 200)
    )
    model_boxes: bool = declared(
        True,
        "Ask the model itself for a 3D box of what has no depth: a second question, twice the "
        "time.",
    )
    target_frame: str = declared(
        "", "Frame of the 3D results. Empty: the camera optical frame of each image."
    )
    tf_fallback: str = declared(
        "camera",
        "When the transform to target_frame is missing at the stamp of the image: 'camera' "
        "publishes 3D results in the camera frame, 'drop' does not publish them.",
        one_of=("camera", "drop"),
    )
    tf_timeout_s: float = declared(
        0.2, "How long to wait for that transform, seconds.", range=(0.0, 5.0)
    )
    input_reliability: str = declared(
        "best_effort",
        "QoS of the subscriptions. 'best_effort' hears every publisher; 'reliable' only reliable "
        "ones.",
        one_of=("best_effort", "reliable"),
        read_only=True,
    )
    input_queue_depth: int = declared(
        1, "QoS depth of the subscriptions; 1 keeps images fresh.", range=(1, 30), read_only=True
    )
    image_is_rectified: bool = declared(
        False,
        "True when the image topic is rectified: then P of camera_info holds and its distortion "
        "does not. False: K and the distortion hold.",
    )
    depth_slop_s: float = declared(
        0.05, "Largest difference between stamps of an image and its depth.", range=(0.0, 1.0)
    )
    pairing_wait_s: float = declared(
        0.1,
        "How long an image waits for its depth and calibration while someone publishes them, "
        "seconds.",
        range=(0.0, 2.0),
    )
    max_image_age_s: float = declared(
        5.0,
        "Images older than this on the node's clock are not used, seconds; 0 uses all.",
        range=(0.0, 1e6),
    )
    video_buffer_s: float = declared(
        0.0,
        "How many of the last seconds are kept for videos and rows of pictures (~/ask with "
        "video_s). 0 keeps none, so that a node nobody asks for videos pays no memory: 8 s of "
        "640 x 480 pixels, four a second, are 29 MB.",
        range=(0.0, 600.0),
        read_only=True,
    )
    video_buffer_fps: float = declared(
        4.0,
        "Pictures kept for each of these seconds, at most; a video is looked at twice a second.",
        range=(0.1, 30.0),
        read_only=True,
    )
    video_buffer_mb: int = declared(
        256,
        "Bound of their memory, MB (10^6 bytes; width x height x 3 for each picture): past it the "
        "oldest go.",
        range=(1, 65536),
        read_only=True,
    )
    marker_lifetime_s: float = declared(
        3.0, "How long RViz shows a marker, seconds; 0 is for ever.", range=(0.0, 1e6)
    )

    def __post_init__(self) -> None:
        check_limits(self)
        self.query()
        self.server()

    def server(self) -> RemoteServer | None:
        """The server that is asked, None where an engine is.

        Raises:
            ConfigError: it is named in part, or cannot be one.
        """
        if not self.server_url:
            if self.server_model:
                raise ConfigError(
                    f"parameter server_model is '{self.server_model}' and server_url empty, "
                    "expected both or none; an engine is named by engine_dir"
                )
            return None
        if self.engine_dir:
            raise ConfigError(
                f"parameters engine_dir ('{self.engine_dir}') and server_url are both given, "
                "expected one of them: the node asks one model"
            )
        return RemoteServer(
            base_url=self.server_url,
            model=self.server_model,
            protocol=ChatProtocol(self.server_protocol),
            key_variable=self.server_key_env or None,
            timeout_s=self.server_timeout_s,
            picture_format=PictureFormat(self.server_picture_format),
            min_pixels=self.min_pixels or MIN_PIXELS,
            max_pixels=self.max_pixels or MAX_PIXELS,
            thinking=self.server_thinking,
        )

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
            if name in declared_limits(type(self))
        }
        new = replace(self, **ours)
        if self.query() is not None and new.query() is None:
            needed = "categories" if Task(new.task) is Task.DETECT else "text"
            raise QueryError(
                f"a '{new.task}' question needs {needed}, which is empty: say what to look for; "
                "to stop looking, deactivate the node"
            )
        return new


def declare_parameters(node: Node) -> NodeParameters:
    """Declares every parameter on a node; what launch file and command line gave it.

    Raises:
        ConfigError: a given value has the wrong type or breaks its limits.
        QueryError: the given question cannot be asked.
    """
    return NodeParameters().changed(declare_on_node(node, NodeParameters))


def engine_directory(parameters: NodeParameters) -> Path:
    """Where the engine is: as given, or the tiny one that comes with the package."""
    return Path(parameters.engine_dir) if parameters.engine_dir else tiny_engine_directory()
