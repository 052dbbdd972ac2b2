# SPDX-License-Identifier: Apache-2.0
"""Whatever a server does wrong becomes one error that says what to do, in both protocols."""

from __future__ import annotations

import socket

import pytest

from qwen3vl_ros.errors import ContextError, QueryError, RemoteError
from qwen3vl_ros.language.chat import Chat, Message, Role
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.remote.loading import remote_model
from qwen3vl_ros.remote.remote_server import ChatProtocol, RemoteServer
from qwen3vl_ros.scene.detections import Query, Task
from tests.remote.scripted_server import (
    SOON,
    Reply,
    answer_of,
    anthropic_reply,
    openai_reply,
    stream_of,
)


def refusal(status: int, message: str = "no", **more) -> Reply:
    return Reply(status=status, body={"error": {"message": message, **more}}, headers=SOON)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_server_that_fails_twice_is_asked_three_times(server, protocol, ask, status):
    server.play(refusal(status), refusal(status), answer_of(protocol))
    assert ask(max_retries=2).text == "Hi"
    assert len(server.asked) == 3
    assert server.asked[0].body == server.asked[2].body


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, r"answered 429 \(slow down\) after 2 tries, expected an answer; wait"),
        (500, r"answered 500 \(slow down\) after 2 tries"),
        (503, r"answered 503 \(slow down\) after 2 tries"),
    ],
)
def test_one_that_goes_on_failing_is_told_of_with_its_status(server, ask, status, words):
    server.play(refusal(status, "slow down"))
    with pytest.raises(RemoteError, match=words) as caught:
        ask(max_retries=1)
    assert caught.value.status == status
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, r"answered 400 \(no\), expected it to take the question to 'tiny' at http"),
        (401, r"answered 401 \(no\), expected it to accept the key in \w+_API_KEY; set that"),
        (403, r"accept the key in \w+_API_KEY"),
        (413, "the pictures are too large for it; expected fewer bytes: send JPEG"),
        (422, r"answered 422 \(no\)"),
        (302, "answered 302"),
    ],
)
def test_a_refusal_is_told_at_once_with_its_status(server, ask, status, words):
    server.play(refusal(status))
    with pytest.raises(RemoteError, match=words) as caught:
        ask()
    assert caught.value.status == status
    assert len(server.asked) == 1


def test_a_redirect_is_not_followed_for_the_key_is_for_this_server_only(server, ask):
    server.play(Reply(status=307, headers={"location": f"{server.url}/elsewhere"}))
    with pytest.raises(RemoteError, match="answered 307"):
        ask()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("models", "words"),
    [
        pytest.param(
            {"data": [{"id": "qwen3-vl-2b"}, {"id": "qwen3-vl-4b"}]},
            r"404 \(no\) for model 'tiny', expected one of the models it lists: qwen3-vl-2b, "
            "qwen3-vl-4b; take one of them",
            id="others",
        ),
        pytest.param(
            {"data": [{"id": f"m{n}"} for n in range(20)]}, "m6, m7 and 12 more;", id="many"
        ),
        pytest.param({"data": [{"id": "tiny"}]}, "check http://.*protocol", id="this-one"),
        pytest.param({"data": None}, "check http://.* and the model's name", id="nonsense"),
        pytest.param(None, "check http://.* and the model's name", id="none-told"),
    ],
)
def test_a_model_that_is_not_there_is_told_of_with_those_that_are(server, ask, models, words):
    server.play(refusal(404))
    server.models = models
    with pytest.raises(RemoteError, match=words) as caught:
        ask()
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"object": "error", "message": "out of tea"}, id="flat"),
        pytest.param({"detail": "out of tea"}, id="detail"),
        pytest.param({"error": "out of tea"}, id="error-is-text"),
        pytest.param({"detail": [{"message": "out of tea"}]}, id="list"),
        pytest.param("out  of\ntea", id="no-json"),
    ],
)
def test_the_servers_words_are_found_wherever_they_stand(server, ask, body):
    server.play(Reply(status=400, body=body))
    with pytest.raises(RemoteError, match=r"\(out of tea\)"):
        ask()


def test_a_server_that_fails_the_second_question_leaves_the_first_answer_standing(
    server, protocol, frame
):
    """The second is for the model's own 3D boxes; a 2D answer was once lost with it."""
    box = '[{"bbox_2d": [100, 200, 300, 400], "label": "mug"}]'
    server.play(answer_of(protocol, box), refusal(500))
    asked = RemoteServer(base_url=server.url, model="tiny", protocol=protocol, max_retries=0)
    grounding = Perception(remote_model(asked)).ground(frame, Query(task=Task.REFER, text="mug"))
    assert [found.label for found in grounding.detections_2d] == ["mug"]
    assert grounding.detections_3d == ()
    (said,) = [note for note in grounding.notes if "no 3D box of 'mug' from the model" in note]
    assert "answered 500" in said


def test_long_words_of_a_server_are_cut(server, ask):
    server.play(refusal(400, "a" * 5000))
    with pytest.raises(RemoteError, match=r"a{300} \.\.\.\)") as caught:
        ask()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000",
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        "the request exceeds the available context size. try increasing it",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Range of input length should be [1, 30720]",
    ],
    ids=["vllm", "sglang", "llama.cpp", "anthropic", "dashscope"],
)
def test_a_prompt_that_is_too_long_is_a_context_error(server, ask, message):
    server.play(refusal(400, message))
    with pytest.raises(ContextError, match=r"does not fit the server's context.*show less"):
        ask()


def test_so_is_one_that_only_the_errors_type_tells_of(server, ask):
    server.play(refusal(400, "no", type="exceed_context_size_error"))
    with pytest.raises(ContextError):
        ask()


def test_a_server_that_is_not_there_is_told_of_with_its_address(ask):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(RemoteError, match=f"does not answer.*refused.*at {url} after 2 tr") as e:
        ask(base_url=url, max_retries=1)
    assert e.value.status is None


def test_one_that_cannot_be_reached_in_time_is_told_of_as_such(ask):
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # holds one connection; nobody accepts it, and further ones hang
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        with pytest.raises(RemoteError, match=r"does not answer \(no connection in time"):
            ask(base_url=url, timeout_s=0.2, max_retries=0)


def test_control_tokens_are_refused_before_anything_is_sent(server, ask):
    chat = Chat(messages=(Message(role=Role.USER, parts=("a<|im_end|>",)),))
    with pytest.raises(QueryError, match="control token"):
        ask(chat)
    assert not server.asked


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_server_that_gives_no_sign_in_time_is_told_of(server, protocol, ask, streamed):
    server.play(Reply(**{**vars(answer_of(protocol)), "delay_s": 0.6}))
    with pytest.raises(RemoteError, match=r"gave no sign for 0\.15 s in 2 tries") as caught:
        ask(timeout_s=0.15, max_retries=1, on_text=len if streamed else None)
    assert caught.value.status is None
    assert len(server.asked) == 2


def test_nor_may_a_stream_fall_silent(server, protocol, ask):
    server.play(stream_of(protocol, "Hi", "there", pause_s=0.6))
    heard: list[str] = []
    with pytest.raises(RemoteError, match="no sign"):
        ask(timeout_s=0.15, max_retries=0, on_text=heard.append)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body="{'choices"), id="broken-json"),
        pytest.param(Reply(body="<html>", content_type="text/html"), id="a-web-page"),
        pytest.param(Reply(body=""), id="nothing"),
        pytest.param(Reply(body=[1, 2]), id="a-list"),
        pytest.param(Reply(body="null"), id="null"),
        pytest.param(Reply(body="[" * 100_000), id="nested-without-end"),
        pytest.param(Reply(body={}), id="an-empty-object"),
        pytest.param(Reply(body={"choices": None, "content": "Hi"}), id="of-other-types"),
        pytest.param(Reply(body={"choices": [], "content": [3]}), id="of-other-parts"),
        pytest.param(Reply(body={"choices": [{}], "content": {}}), id="hollow"),
        pytest.param(
            Reply(
                body={
                    "choices": [{"message": {"content": [1]}, "finish_reason": "stop"}],
                    "content": [{"type": "text", "text": 3}],
                }
            ),
            id="words-that-are-none",
        ),
    ],
)
def test_an_answer_that_is_none_is_told_of(server, ask, reply):
    server.play(reply)
    with pytest.raises(RemoteError, match=r"cannot be read: .*; does http.* speak the \w+ prot"):
        ask()


@pytest.mark.parametrize("reason", [None, "abort", "pause_turn"])
def test_an_answer_that_nobody_ended_is_told_of(server, protocol, ask, reason):
    openai = protocol is ChatProtocol.OPENAI
    server.play(openai_reply(finish=reason) if openai else anthropic_reply(stop=reason))
    with pytest.raises(RemoteError, match=f"broke the answer off .*_reason is {reason}"):
        ask()


@pytest.mark.parametrize(
    "reply",
    [openai_reply(finish="content_filter"), openai_reply(None, refusal="I may not.")],
    ids=["filter", "refusal"],
)
def test_an_answer_that_is_withheld_is_told_of(server, ask, protocol, reply):
    if protocol is ChatProtocol.ANTHROPIC:
        reply = anthropic_reply(stop="refusal")
    server.play(reply)
    with pytest.raises(RemoteError, match="withheld the answer"):
        ask()


def test_a_stream_that_ends_too_soon_is_told_of(server, protocol, ask):
    whole = stream_of(protocol, "Hi", "there")
    server.play(Reply(events=whole.events[:2]))
    with pytest.raises(RemoteError, match="broke the answer off"):
        ask(on_text=len)


def test_a_connection_that_breaks_within_a_stream_is_told_of_as_such(server, protocol, ask):
    """It was once said that the server does not answer."""
    whole = stream_of(protocol, "Hi", "there")
    server.play(Reply(events=whole.events[:2], headers={"content-length": "100000"}))
    with pytest.raises(RemoteError, match=r"broke the answer off \(peer closed connection"):
        ask(on_text=len)
    assert len(server.asked) == 1


def test_a_stream_that_cannot_be_unpacked_is_told_of(server, protocol, ask):
    whole = stream_of(protocol, "Hi")
    server.play(Reply(events=whole.events, headers={"content-encoding": "gzip"}))
    with pytest.raises(RemoteError, match=r"broke the answer off .*decompress"):
        ask(on_text=len)


def test_a_stream_nested_without_end_is_told_of(server, protocol, ask):
    kind = "content_block_start"  # without a name the Anthropic library passes an event over
    hostile = f"event: {kind}\ndata: {'[' * 100_000}\n\n"
    server.play(Reply(body=hostile, content_type="text/event-stream"))
    with pytest.raises(RemoteError, match="cannot be read"):
        ask(on_text=len)


def test_a_stream_of_garbage_is_told_of(server, protocol, ask):
    whole = stream_of(protocol, "Hi")
    garbage = "{'a" if protocol is ChatProtocol.OPENAI else {"type": "message_start"}
    server.play(Reply(events=[garbage, *whole.events]))
    with pytest.raises(RemoteError, match="cannot be read"):
        ask(on_text=len)


def test_a_failure_within_a_stream_is_told_of(server, protocol, ask):
    whole = stream_of(protocol, "Hi")
    failure = {"type": "error", "error": {"type": "api_error", "message": "out of memory"}}
    server.play(Reply(events=[*whole.events[:3], failure]))
    with pytest.raises(RemoteError, match="out of memory") as caught:
        ask(on_text=len)
    assert caught.value.status == 200


def test_a_context_that_a_stream_finds_too_short_is_told_of(server, protocol, ask):
    failure = {"type": "error", "error": {"message": "longer than the model's context length"}}
    server.play(Reply(events=[failure]))
    with pytest.raises(ContextError):
        ask(on_text=len)


def test_what_the_listener_raises_is_its_own(server, protocol, ask):
    def listener(_: str) -> None:
        raise ValueError("enough")

    server.play(stream_of(protocol, "Hi", "there"))
    with pytest.raises(ValueError, match="enough"):
        ask(on_text=listener)


def test_the_first_word_ends_the_prefill(server, protocol, ask):
    """Only a stream tells when it came; otherwise all of the wait is decode."""
    stages: list[str] = []
    server.play(stream_of(protocol, "Hi", "there"), answer_of(protocol))
    ask(on_text=lambda _: stages.append("word"), watch=Stopwatch(on_stage=stages.append))
    assert stages == ["prefill", "word", "decode", "word"]
    watch = Stopwatch()
    ask(watch=watch)
    assert watch.stats().decode_s > watch.stats().prefill_s
    assert (watch.stats().prompt_tokens, watch.stats().answer_tokens) == (20, 3)
