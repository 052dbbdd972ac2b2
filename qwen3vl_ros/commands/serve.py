# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl serve`: our own engines over the OpenAI chat completions protocol."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys

from ..errors import ConfigError, MissingDependency
from .command import (
    Commands,
    add_command,
    add_picture_options,
    add_running_options,
    loaded_engine,
    positive,
)

MEBIBYTE = 1 << 20


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "serve", serve)
    add_running_options(parser)
    add_picture_options(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 127.0.0.1 is heard on this machine only",
    )
    parser.add_argument("--port", type=_port, default=8000, help="0 takes any that is free")
    parser.add_argument(
        "--served-name",
        metavar="NAME",
        help='what clients call the model in "model"; by default qwen3vl- and the name of the '
        "folder that holds the engine directory, as in qwen3vl-tiny",
    )
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable with a key; clients must then send it",
    )
    parser.add_argument(
        "--max-waiting",
        type=positive,
        default=8,
        help="so many requests wait while one is served; others are told to come back",
    )
    parser.add_argument(
        "--max-body-mib", type=positive, default=64, help="longer requests are refused"
    )


def serve(options: argparse.Namespace) -> int:
    """Serve an engine over the OpenAI chat completions protocol, until Ctrl-C."""
    try:
        from ..serving.app import chat_app
        from ..serving.model_thread import ModelThread
        from ..serving.server import HttpServer, bound_socket, url_of
    except ModuleNotFoundError as error:
        raise MissingDependency(
            error.name or "starlette",
            needed_for="qwen3vl serve",
            install="pip install -e '.[serve]'",
        ) from error
    name = options.served_name or f"qwen3vl-{options.engines.resolve().parent.name}"
    api_key = None if options.api_key_env is None else _key(options.api_key_env)
    listening = bound_socket(options.host, options.port)
    with listening:
        if api_key is None and not _is_loopback(listening.getsockname()[0]):
            print(
                f"qwen3vl serve: everyone who reaches {options.host} may ask, and is not asked "
                "who they are; set a key with --api-key-env NAME, or listen at 127.0.0.1",
                file=sys.stderr,
            )
        try:
            model = loaded_engine(options).with_pixel_budget(
                min_pixels=options.min_pixels, max_pixels=options.max_pixels
            )
            thread = ModelThread(model, longest_line=options.max_waiting)
            app = chat_app(
                thread,
                model_name=name,
                api_key=api_key,
                max_body_bytes=options.max_body_mib * MEBIBYTE,
            )
            ready = f"serving '{name}' at {url_of(listening)} (Ctrl-C ends)"
            HttpServer(
                app,
                listening,
                on_ready=lambda: print(ready, flush=True),
                on_stop=thread.close,
            ).run_until_stopped()
            thread.join()
        except KeyboardInterrupt:
            pass  # asked to stop while loading, or a second time; not an error
    return 0


def _key(variable: str) -> str:
    """The key in the environment; its value is never repeated.

    Raises:
        ConfigError: there is none, or none that a header can hold.
    """
    key = os.environ.get(variable, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"the environment variable '{variable[:64]}' holds no key, expected one line of ASCII "
            "letters; export it before starting the server"
        )
    return key


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"is {value}, expected 0 to 65535")
    return value
