# SPDX-License-Identifier: Apache-2.0
"""Which model a command asks: an engine on this machine, or one on a server."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..evaluation.asked_engine import engine_identity
from ..model.taught_tasks import TaughtTasks, load_taught_tasks
from ..model.vision_language_model import VisionLanguageModel
from ..perception import Perception
from ..remote.loading import remote_model
from ..remote.remote_server import (
    MAX_PIXELS,
    MIN_PIXELS,
    ChatProtocol,
    PictureFormat,
    RemoteServer,
)
from ..scene.detections import Task
from .command import add_picture_options, add_running_options, loaded_engine, warn


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """An engine directory, or a server in its place."""
    add_running_options(parser)
    add_picture_options(parser)
    server = parser.add_argument_group("a server in place of an engine")
    server.add_argument("--server", metavar="URL", help="for example http://localhost:8000/v1")
    server.add_argument("--model", metavar="NAME", help="as the server calls it")
    server.add_argument(
        "--protocol",
        choices=[protocol.value for protocol in ChatProtocol],
        default=ChatProtocol.OPENAI.value,
        help="chat completions or messages",
    )
    server.add_argument(
        "--api-key-env",
        metavar="VARIABLE",
        help="environment variable that holds the key; by default OPENAI_API_KEY or "
        "ANTHROPIC_API_KEY, and none is fine",
    )
    server.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long it may give no sign, each time it is tried",
    )
    server.add_argument("--retries", type=int, default=2, help="when it is busy or fails")
    server.add_argument(
        "--picture-format",
        choices=[form.value for form in PictureFormat],
        default=PictureFormat.PNG.value,
        help="png loses nothing, jpeg is several times smaller",
    )
    server.add_argument("--thinking", action="store_true", help="it is a Thinking checkpoint")


def perception_asked(options: argparse.Namespace) -> Perception:
    """The model that the options name, ready to be asked; errors as `model_asked`."""
    return Perception(model_asked(options), taught=taught_asked(options))


def taught_asked(options: argparse.Namespace) -> TaughtTasks | None:
    """What the model that the options name was taught, where it says so; a server does not.

    Raises:
        ConfigError: it says so in no words of ours.
    """
    return load_taught_tasks(options.engines) if options.server is None else None


def warn_of_untaught(options: argparse.Namespace, tasks: Iterable[Task]) -> None:
    """Say on stderr which of the tasks the model that the options name was not taught."""
    taught = taught_asked(options)
    warn(options, () if taught is None else taught.warnings(tasks))


def model_asked(options: argparse.Namespace) -> VisionLanguageModel:
    """The model that the options name.

    Raises:
        ConfigError: the server is named in part, or cannot be one.
        EngineError, CheckpointError, MissingDependency: the engine cannot be loaded.
    """
    if options.server is None:
        if options.model is not None:
            raise ConfigError(
                f"--model {options.model} names a server's model, expected --server URL with it; "
                "an engine is named by --engines DIR"
            )
        return loaded_engine(options).with_pixel_budget(
            min_pixels=options.min_pixels, max_pixels=options.max_pixels
        )
    if options.model is None:
        raise ConfigError("--server was given without --model NAME, as the server calls it")
    return remote_model(
        RemoteServer(
            base_url=options.server,
            model=options.model,
            protocol=ChatProtocol(options.protocol),
            key_variable=options.api_key_env,
            timeout_s=options.timeout,
            max_retries=options.retries,
            picture_format=PictureFormat(options.picture_format),
            min_pixels=options.min_pixels or MIN_PIXELS,
            max_pixels=options.max_pixels or MAX_PIXELS,
            thinking=options.thinking,
        )
    )


def identity_asked(options: argparse.Namespace) -> Mapping[str, str]:
    """Which model that is, in words that stand beside numbers about it; never a key.

    Raises:
        EngineError: the engine has no manifest that can be read.
    """
    if options.server is None:
        budget = {
            name: str(area)
            for name, area in (
                ("min_pixels", options.min_pixels),
                ("max_pixels", options.max_pixels),
            )
            if area is not None
        }
        return {**engine_identity(options.engines), **budget}
    address = urlsplit(options.server)
    return {
        "kind": "server",
        "model": str(options.model),
        # Without a name and password before the host.
        "server": address._replace(netloc=address.netloc.rpartition("@")[2]).geturl(),
        "protocol": options.protocol,
        "picture_format": options.picture_format,
        "min_pixels": str(options.min_pixels or MIN_PIXELS),
        "max_pixels": str(options.max_pixels or MAX_PIXELS),
        "thinking": str(options.thinking).lower(),
    }
