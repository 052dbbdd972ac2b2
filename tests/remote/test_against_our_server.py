# SPDX-License-Identifier: Apache-2.0
"""The tiny engine asked here and asked through `qwen3vl serve` gives the same answer, to the bit.

This is the one server that was asked; what others do is read, and played in the other files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qwen3vl_ros.errors import ContextError, RemoteError
from qwen3vl_ros.image.preprocess import load_preprocess_config
from qwen3vl_ros.language.chat import Chat, Message, Role
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.vision_language_model import AnswerBudget, VisionLanguageModel, Words
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.remote.loading import remote_model
from qwen3vl_ros.remote.remote_server import RemoteServer
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.detections import Query, Task
from qwen3vl_ros.scene.tools import Tool, ToolCall
from qwen3vl_ros.serving.app import chat_app
from qwen3vl_ros.serving.model_thread import ModelThread
from qwen3vl_ros.serving.server import HttpServer, bound_socket, url_of

ENGINE = tiny_engine_directory()
SCENE = ENGINE.parents[2] / "docs" / "scene.jpg"
BUDGET = AnswerBudget(least=8, most=40)
GRASP = Tool(name="grasp", description="Closes – it.", parameters={"type": "object"})


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel.load(ENGINE, threads=1)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with bound_socket("127.0.0.1", 0) as listening:
        asked = ModelThread(LocalModel.load(ENGINE, threads=1), longest_line=2)
        app = chat_app(asked, model_name="tiny", api_key="secret", max_body_bytes=2**26)
        ready = threading.Event()
        server = HttpServer(app, listening, on_ready=ready.set, on_stop=asked.close)
        thread = threading.Thread(target=server.run_until_stopped)
        thread.start()
        assert ready.wait(30)
        yield url_of(listening)
        server.stop()
        thread.join()
        asked.join()


@pytest.fixture
def settings(url: str, monkeypatch: pytest.MonkeyPatch) -> RemoteServer:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    limits = load_preprocess_config(ENGINE)
    return RemoteServer(
        base_url=url,
        model="tiny",
        min_pixels=limits.min_pixels,
        max_pixels=limits.max_pixels,
        clip_max_pixels=limits.max_pixels // 2,
    )


@pytest.fixture
def remote(settings: RemoteServer) -> VisionLanguageModel:
    return remote_model(settings)


def frame(height: int = 480, width: int = 640) -> Frame:
    image = np.asarray(Image.open(SCENE).convert("RGB"))[:height, :width]
    return Frame(image=np.ascontiguousarray(image), stamp_ns=0, frame_id="camera")


def said(model: VisionLanguageModel, chat: Chat, sights, **more) -> Words:
    return model.say(chat, sights, budget=BUDGET, watch=Stopwatch(), **more)


def assert_same(here: Words, there: Words) -> None:
    assert here.text == there.text
    assert (here.ended, here.prompt_tokens, here.answer_tokens) == (
        there.ended,
        there.prompt_tokens,
        there.answer_tokens,
    )
    assert here.confidence.token_spans == there.confidence.token_spans
    np.testing.assert_array_equal(here.confidence.logprobs, there.confidence.logprobs)


@pytest.mark.parametrize(
    ("query", "size"),
    [
        pytest.param(Query(task=Task.REFER, text="blue cylinder"), (480, 640), id="refer"),
        pytest.param(
            Query(task=Task.DETECT, categories=("red cube", "blue cylinder")),
            (401, 537),
            id="detect-odd-size",
        ),
        pytest.param(Query(task=Task.POINT, text="the blue cylinder"), (480, 640), id="point"),
    ],
)
def test_a_query_finds_the_same_with_the_same_scores(local, remote, query, size):
    here, there = (
        Perception(model).ground(frame(*size), query, model_boxes=False)
        for model in (local, remote)
    )
    assert here.detections_2d or here.points
    assert repr(here) == repr(there)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("label", [False, True], ids=["plain", "numbered"])
def test_a_long_conversation_is_the_same_prompt(local, remote, streamed, label):
    words = {}
    for model in (local, remote):
        sights = [model.see(frame(), watch=Stopwatch()), model.see(frame(300), watch=Stopwatch())]
        (first,), (second,) = (sight.parts for sight in sights)
        chat = Chat(
            messages=(
                Message(role=Role.SYSTEM, parts=("Be brief.",)),
                Message(role=Role.USER, parts=("Look: ", first, "Where is 'it'? 椅")),
                Message(
                    role=Role.ASSISTANT,
                    parts=("I look.",),
                    calls=(ToolCall(name="grasp", arguments={"who": "é", "at": [1, 2.5]}),),
                    thought="not for this checkpoint",
                ),
                Message(role=Role.TOOL, parts=(second,)),
                Message(role=Role.TOOL, parts=("done",)),
            ),
            tools=(GRASP,),
            label_visuals=label,
        )
        heard: list[str] = []
        words[model] = said(model, chat, sights, on_text=heard.append if streamed else None)
        assert not streamed or "".join(heard) == words[model].text
    assert_same(words[local], words[remote])


def test_stills_of_a_clip_are_the_same_prompt_as_timed_pictures(local, remote, settings):
    clip = Clip(frames=tuple(replace(frame(), stamp_ns=n * 400_000_000) for n in range(4)))
    sight = remote.see(clip, watch=Stopwatch())
    assert [part.time_s for part in sight.parts] == pytest.approx([0.0, 1.2])
    there = Chat(messages=(Message(role=Role.USER, parts=(*sight.parts, "When?")),))
    sights = []
    for part in sight.parts:
        (height, width) = (side * 16 for side in part.grid_hw)
        small = np.asarray(Image.fromarray(frame().image).resize((width, height)))
        seen = local.see(replace(frame(), image=small), watch=Stopwatch())
        sights.append(replace(seen, parts=(part,)))
    assert_same(said(local, there, sights), said(remote, there, [sight]))


def test_what_does_not_fit_is_a_context_error_there_as_here(local, remote):
    for model in (local, remote):
        chat = Chat(messages=(Message(role=Role.USER, parts=("why " * 5000,)),))
        with pytest.raises(ContextError):
            said(model, chat, [])


def test_a_wrong_key_and_a_wrong_name_are_told_of(settings, monkeypatch):
    chat = Chat(messages=(Message(role=Role.USER, parts=("What?",)),))
    with pytest.raises(RemoteError, match="models it lists: tiny; take one") as caught:
        said(remote_model(replace(settings, model="qwen3-vl-2b")), chat, [])
    assert caught.value.status == 404
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    with pytest.raises(RemoteError, match="accept the key in OPENAI_API_KEY"):
        said(remote_model(settings), chat, [])
