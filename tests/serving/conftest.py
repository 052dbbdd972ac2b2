# SPDX-License-Identifier: Apache-2.0
"""Real HTTP servers in threads, over the tiny engine, whole or with a head that is scripted."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from qwen3vl_ros.language.chat import Chat
from qwen3vl_ros.language.chat_template import ChatStyle
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.vision_language_model import VisionLanguageModel
from qwen3vl_ros.runtime.loading import load_engines, tiny_engine_directory
from qwen3vl_ros.serving.app import chat_app
from qwen3vl_ros.serving.model_thread import ModelThread
from qwen3vl_ros.serving.server import HttpServer, bound_socket, url_of
from tests import speaking
from tests.speaking import ScriptedHead, model_saying

MODEL = "tiny"
PATIENCE_S = 30


class Overheard:
    """A model, and every chat that it was asked to go on from."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.chats: list[Chat] = []
        self.views = 0

    @property
    def style(self) -> ChatStyle:
        return self.model.style

    def see(self, view, *, watch):
        self.views += 1
        return self.model.see(view, watch=watch)

    def say(self, chat, sights, **how):
        self.chats.append(chat)
        return self.model.say(chat, sights, **how)


@dataclass(kw_only=True)
class Served:
    """A running server and what it serves."""

    url: str
    model: Overheard
    head: ScriptedHead | None
    thread: ModelThread
    server: HttpServer
    ended: threading.Thread = field(repr=False)

    def client(self, **how) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=self.url, api_key=how.pop("api_key", "none"), max_retries=0, **how
        )

    def stop(self) -> None:
        self.server.stop()
        self.ended.join(PATIENCE_S)
        assert not self.ended.is_alive(), "the server did not end"


@pytest.fixture(scope="session")
def tiny_engine() -> Path:
    return tiny_engine_directory()


@pytest.fixture(scope="session")
def tiny_model(tiny_engine) -> LocalModel:
    """The tiny engine, which one server at a time may have."""
    return LocalModel.load(tiny_engine, threads=1)


@pytest.fixture(scope="session")
def _engines_load_once() -> Iterator[None]:
    """Whatever a scripted model says, its engines are the same; they answer one at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speaking, "load_engines", functools.cache(load_engines))
        yield


@pytest.fixture
def serve(tiny_engine, _engines_load_once) -> Iterator[Callable[..., Served]]:
    """Serves a model, or one that will answer with the given texts."""
    with _serving(tiny_engine) as start:
        yield start


@pytest.fixture(scope="module")
def serve_for_a_module(tiny_engine, _engines_load_once) -> Iterator[Callable[..., Served]]:
    """The same, for all tests of a file."""
    with _serving(tiny_engine) as start:
        yield start


@contextmanager
def _serving(engine: Path) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(
        *answers: str,
        model: VisionLanguageModel | None = None,
        style: ChatStyle = ChatStyle.INSTRUCT,
        longest_line: int = 2,
        api_key: str | None = None,
        max_body_bytes: int = 1_000_000,
    ) -> Served:
        head = None
        if model is None:
            model, head = model_saying(engine, *answers, style=style)
        overheard = Overheard(model)
        thread = ModelThread(overheard, longest_line=longest_line)
        app = chat_app(thread, model_name=MODEL, api_key=api_key, max_body_bytes=max_body_bytes)
        ready = threading.Event()
        listening = bound_socket("127.0.0.1", 0)
        server = HttpServer(app, listening, on_ready=ready.set, on_stop=thread.close)
        ended = threading.Thread(target=server.run_until_stopped)
        served = Served(
            url=url_of(listening), model=overheard, head=head, thread=thread, server=server,
            ended=ended,
        )  # fmt: skip
        ended.start()
        running.append(served)
        assert ready.wait(PATIENCE_S), "the server did not start"
        return served

    yield start
    for served in running:
        served.server.stop()
    for served in running:
        served.stop()
        served.thread.join()
