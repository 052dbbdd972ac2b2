# SPDX-License-Identifier: Apache-2.0
"""Which model the node asks: the engine of a directory, or one on a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from ..errors import AnswerError, MissingDependency
from ..model.golden_check import check_golden
from ..model.local_model import LocalModel
from ..model.stopwatch import Stopwatch
from ..model.taught_tasks import load_taught_tasks
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


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedModel:
    """A model that can be asked, and what an operator should know about it.

    Attributes:
        perceiver: asks it.
        facts: for diagnostics.
        warning: what is not as it should be, and no reason to stop; "" for nothing.
    """

    perceiver: Perceiver
    facts: Mapping[str, object] = field(default_factory=dict)
    warning: str = ""


# From an engine directory and the parameters that say how to run it.
EngineLoader: TypeAlias = "Callable[[Path, NodeParameters], AskedModel]"


def load_perception(engine_dir: Path, parameters: NodeParameters) -> AskedModel:
    """The perception of an engine directory; whatever takes seconds to load is loaded now.

    The engine is held against the reference's outputs that it came with: one that is off is
    refused, with the numbers.
    """
    _load_open3d()
    model = LocalModel.load(
        engine_dir,
        threads=parameters.threads,
        spinning=parameters.spinning,
        providers=parameters.providers or None,
        allow_fallback=parameters.allow_fallback,
    )
    taught = load_taught_tasks(engine_dir)
    numbers = check_golden(model, engine_dir)
    warnings = []
    if numbers is None:
        warnings.append(
            "the engine came without golden outputs, so nobody knows whether it is right; export "
            "it again"
        )
    if model.running is not None and model.running.missing:
        warnings.append(f"{' and '.join(model.running.missing)} did not start")
    return AskedModel(
        perceiver=Perception(
            model.with_pixel_budget(
                min_pixels=parameters.min_pixels or None,
                max_pixels=parameters.max_pixels or None,
            ),
            taught=taught,
        ),
        facts={
            "runs_on": model.running,
            "taught": taught or "not said",
            "golden_check": "none" if numbers is None else numbers,
            "golden_check_ms": "n/a" if numbers is None else f"{1e3 * numbers.seconds:.0f}",
        },
        warning="; ".join(warnings),
    )


def asked_model(parameters: NodeParameters, *, load: EngineLoader) -> AskedModel:
    """What the parameters name, ready to be asked.

    An engine is asked once, so that the first picture is as fast as the rest. A server is not: it
    may come up later than the node, every question to it may cost money, and a failure is told
    per picture and ends by itself. For the same reasons nobody checks whether it is right.

    Raises:
        ConfigError: the environment's key cannot be one.
        EngineError, CheckpointError: the engine cannot be loaded, fails, or is not right.
        MissingDependency: a library is not installed.
    """
    server = parameters.server()
    if server is not None:
        _load_open3d()
        return AskedModel(
            perceiver=Perception(remote_model(server)),
            facts={
                "server_url": parameters.server_url,
                "server_model": parameters.server_model,
                "golden_check": "none: the model is on a server",
            },
        )
    directory = engine_directory(parameters)
    asked = load(directory, parameters)
    _warm_up(asked.perceiver)
    return replace(
        asked,
        facts={"engine_dir": directory, "manifest_field_that_differs": "", **asked.facts},
    )


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
