# SPDX-License-Identifier: Apache-2.0
"""A server to ask, and ways to ask it. Keys of the machine's owner stay out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from qwen3vl_ros.language.chat import Chat, Message, Role
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.vision_language_model import AnswerBudget, Words
from qwen3vl_ros.remote.loading import remote_model
from qwen3vl_ros.remote.remote_server import ChatProtocol, RemoteServer
from qwen3vl_ros.scene.camera import Frame
from tests.remote.scripted_server import ScriptedServer, running_server

BUDGET = AnswerBudget(least=1, most=64)
Ask = Callable[..., Words]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC"):
        for what in ("API_KEY", "BASE_URL", "CUSTOM_HEADERS", "AUTH_TOKEN", "ORG_ID", "LOG"):
            monkeypatch.delenv(f"{name}_{what}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # The libraries measure pauses with the real clock; only their length is ours.
    for library in ("openai", "anthropic"):
        module = pytest.importorskip(f"{library}._base_client")
        monkeypatch.setattr(module, "INITIAL_RETRY_DELAY", 0.001)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with running_server() as running:
        yield running


@pytest.fixture(params=ChatProtocol, ids=lambda protocol: protocol.value)
def protocol(request: pytest.FixtureRequest) -> ChatProtocol:
    return request.param


@pytest.fixture
def frame() -> Frame:
    """64 x 96 pixels of noise, which the model sees as 224 x 320."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    return Frame(image=noise, stamp_ns=0, frame_id="camera")


@pytest.fixture
def ask(server: ScriptedServer, protocol: ChatProtocol) -> Ask:
    """Asks the server "What?" in each protocol; `chat` and the server's settings may be given."""

    def asked(
        chat: Chat | None = None,
        *,
        model=None,
        budget=BUDGET,
        on_text=None,
        watch=None,
        sights=(),
        **settings,
    ) -> Words:
        settings = {"base_url": server.url, "model": "tiny", "protocol": protocol} | settings
        model = model or remote_model(RemoteServer(**settings))
        chat = chat or Chat(messages=(Message(role=Role.USER, parts=("What?",)),))
        return model.say(chat, sights, budget=budget, watch=watch or Stopwatch(), on_text=on_text)

    return asked
