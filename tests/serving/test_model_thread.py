# SPDX-License-Identifier: Apache-2.0
"""Many who ask, one model: a fair line of bounded length, and nobody is served who has left."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from qwen3vl_ros.errors import EngineError
from tests.serving.conftest import PATIENCE_S, Served
from tests.serving.requests import data_url, picture_part, request, speckled, user


class Gate:
    """Holds a scripted head at every token until it is opened."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.passes = threading.Semaphore(0)
        self.tokens = 0
        self._run = served.head.run
        served.head.run = self

    def __call__(self, feeds):
        self.tokens += 1
        assert self.passes.acquire(timeout=PATIENCE_S)
        return self._run(feeds)

    def open(self) -> None:
        self.passes.release(10_000)


@pytest.fixture
def gated() -> Iterator[Callable[[Served], Gate]]:
    """Gates that are open in the end, whatever happens: the server waits for its model."""
    gates: list[Gate] = []

    def put(served: Served) -> Gate:
        gates.append(Gate(served))
        return gates[-1]

    yield put
    for gate in gates:
        gate.open()


def eventually(so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def post(served: Served, **fields) -> httpx.Response:
    body = request(**fields)
    return httpx.post(f"{served.url}/chat/completions", json=body, timeout=PATIENCE_S)


def ask_and_keep(served: Served, *, stream: bool = False, text: str = "hello") -> socket.socket:
    """A client that has sent its request and waits."""
    asked = httpx.Request(
        "POST", f"{served.url}/chat/completions", json=request(user(text), stream=stream)
    )
    connection = socket.create_connection((asked.url.host, asked.url.port), timeout=PATIENCE_S)
    head = [f"POST {asked.url.path} HTTP/1.1", *(f"{k}: {v}" for k, v in asked.headers.items())]
    connection.sendall("\r\n".join([*head, "", ""]).encode() + asked.read())
    return connection


def in_line(served: Served) -> int:
    return len(served.thread._tickets)


def test_those_who_wait_are_served_in_the_order_in_which_they_came(serve, gated):
    served = serve("one", "two", "three")
    gate = gated(served)
    with ThreadPoolExecutor(3) as clients:
        answers = []
        for place in range(1, 4):
            answers.append(clients.submit(post, served))
            eventually(lambda place=place: in_line(served) == place)
        gate.open()
        said = [a.result().json()["choices"][0]["message"]["content"] for a in answers]
    assert said == ["one", "two", "three"]
    eventually(lambda: in_line(served) == 0)


def test_a_full_line_says_when_to_come_back(serve, gated):
    served = serve("one", "two", "three", longest_line=1)
    gate = gated(served)
    with ThreadPoolExecutor(2) as clients:
        answers = [clients.submit(post, served) for _ in range(2)]
        eventually(lambda: in_line(served) == 2)
        refused = post(served)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert httpx.get(f"{served.url}/models").status_code == 200, "others are heard meanwhile"
        gate.open()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    assert post(served).status_code == 200


def test_who_leaves_while_waiting_is_not_served(serve, gated):
    served = serve("one", "for who stays")
    gate = gated(served)
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(post, served)
        eventually(lambda: in_line(served) == 1)
        leaves = ask_and_keep(served)
        eventually(lambda: in_line(served) == 2)
        leaves.close()
        eventually(lambda: in_line(served) == 1)
        stays = clients.submit(post, served)
        gate.open()
        assert first.result().status_code == 200
        assert stays.result().json()["choices"][0]["message"]["content"] == "for who stays"
    assert len(served.model.chats) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_who_leaves_while_being_served_ends_the_answer(serve, gated, stream):
    served = serve("word " * 100)
    gate = gated(served)
    leaves = ask_and_keep(served, stream=stream)
    gate.passes.release(20)
    eventually(lambda: gate.tokens > 20)
    heard = b""
    while stream and b'" word"' not in heard:  # as the tokenizer cuts it
        piece = leaves.recv(1 << 16)
        assert piece, "the answer ended before anybody left"
        heard += piece
    leaves.close()
    time.sleep(0.2)  # a closed connection is noticed by the event loop, not by the model
    gate.open()
    eventually(lambda: in_line(served) == 0)
    assert gate.tokens < 60


def test_an_answer_that_was_left_leaves_no_trace_in_the_next(serve, tiny_model):
    """The cache holds what was said until then; the next prompt begins where it differs."""
    picture = picture_part(data_url(speckled(160, 120)))
    question = request(user(picture, "What is there?"), logprobs=True, max_tokens=24)
    alone = httpx.post(f"{serve(model=tiny_model).url}/chat/completions", json=question).json()
    served = serve(model=tiny_model)
    with served.client() as client:
        stream = client.chat.completions.create(
            **request(user(picture, "What is there?"), stream=True)
        )
        next(iter(stream))
        stream.close()
    eventually(lambda: in_line(served) == 0)
    after = httpx.post(f"{served.url}/chat/completions", json=question).json()
    assert after["choices"] == alone["choices"]


def test_stopping_ends_the_answer_and_tells_those_who_wait(serve, gated):
    served = serve("word " * 100, "never said", longest_line=3)
    gate = gated(served)
    with ThreadPoolExecutor(2) as clients:
        heard = clients.submit(post, served)
        eventually(lambda: in_line(served) == 1)
        waits = clients.submit(post, served)
        eventually(lambda: in_line(served) == 2)
        gate.passes.release(5)
        eventually(lambda: gate.tokens > 5)
        served.server.stop()
        for answer in (heard.result(), waits.result()):  # although the model is at its sixth token
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "shutting_down"
        gate.open()
    served.stop()
    assert len(served.model.chats) == 1


def test_a_stream_that_fails_on_its_way_ends_with_the_reason(serve):
    served = serve("one two three four")
    run, tokens = served.head.run, []

    def breaks(feeds):
        tokens.append(1)
        if len(tokens) == 3:
            raise EngineError("the engine broke, expected it not to; mend it")
        return run(feeds)

    served.head.run = breaks
    with served.client() as client:
        stream = client.chat.completions.create(**request(), stream=True)
        said = [next(stream).choices[0].delta.content for _ in range(3)]
        assert said == ["", "one", " two"]
        with pytest.raises(openai.APIError, match="the engine broke"):
            next(stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_engine_that_fails_is_the_servers_fault_and_the_next_is_served(serve, stream):
    served = serve("Yes.")
    run = served.head.run

    def breaks_once(feeds):
        served.head.run = run
        raise EngineError("the engine broke, expected it not to; mend it")

    served.head.run = breaks_once
    failed = post(served, stream=stream)
    assert failed.status_code == 500
    error = failed.json()["error"]
    assert (error["type"], error["message"][:16]) == ("server_error", "the engine broke")
    assert post(served).status_code == 200


def test_a_bug_is_told_without_its_insides_and_the_next_is_served(serve, caplog):
    served = serve("Yes.")
    run = served.head.run

    def breaks_once(feeds):
        served.head.run = run
        raise ZeroDivisionError("a secret of ours")

    served.head.run = breaks_once
    failed = post(served)
    assert failed.status_code == 500
    assert "has a bug" in failed.json()["error"]["message"]
    assert "secret" not in failed.text
    assert post(served).status_code == 200
