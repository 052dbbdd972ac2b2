# SPDX-License-Identifier: Apache-2.0
"""Which model the node asks: the engine of a directory, or one on a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from ..errors import AnswerError, MissingDependency
from ..model.stopwatch import Stopwatch
from ..model.vision_language_model import View
from ..perception import Perception
from ..remote.loading import remote_model
from ..scene.answers import Response
from ..scene.camera import Frame
from ..scene.detections import Grounding, Query, Task
from ..scene.lifting import load_open3d
from .parameters import NodeParameters, engine_directory


class Perceiver(Protocol):
    """What the node needs of `Perception`."""

    def ground(
        self, frame: Frame, query: Query, *, model_boxes: bool, stopwatch: Stopwatch
    ) -> Grounding:
        """The answer to one query of place about one frame."""

    def ask(self, views: Sequence[View], query: Query, *, stopwatch: Stopwatch) -> Response:
        """The answer to one query of any other kind."""


# From an engine directory and the number of threads.
EngineLoader: TypeAlias = "Callable[[Path, int], Perceiver]"


def load_perception(engine_dir: Path, threads: int) -> Perceiver:
    """The perception of an engine directory; whatever takes seconds to load is loaded now."""
    _load_open3d()
    return Perception.load(engine_dir, threads=threads)


def perceiver(parameters: NodeParameters, *, load: EngineLoader) -> Perceiver:
    """What the parameters name, ready to be asked.

    An engine is asked once, so that the first picture is as fast as the rest. A server is not: it
    may come up later than the node, every question to it may cost money, and a failure is told
    per picture and ends by itself.

    Raises:
        ConfigError: the environment's key cannot be one.
        EngineError, CheckpointError: the engine cannot be loaded, or fails.
        MissingDependency: a library is not installed.
    """
    server = parameters.server()
    if server is not None:
        _load_open3d()
        return Perception(remote_model(server))
    engine = load(engine_directory(parameters), parameters.threads)
    _warm_up(engine)
    return engine


def model_facts(parameters: NodeParameters) -> dict[str, object]:
    """What diagnostics show of the model that is asked."""
    if parameters.server_url:
        return {"server_url": parameters.server_url, "server_model": parameters.server_model}
    return {"engine_dir": engine_directory(parameters), "manifest_field_that_differs": ""}


def _load_open3d() -> None:
    with suppress(MissingDependency):  # without it nothing is lifted, and every answer says so
        load_open3d()


def _warm_up(engine: Perceiver) -> None:
    grey = np.full((480, 640, 3), 128, np.uint8)
    # A grey picture may get any answer; that there is one is enough.
    with suppress(AnswerError):
        engine.ground(
            Frame(image=grey, stamp_ns=0, frame_id=""),
            Query(task=Task.DETECT, categories=("object",), max_objects=1),
            model_boxes=False,
            stopwatch=Stopwatch(),
        )
