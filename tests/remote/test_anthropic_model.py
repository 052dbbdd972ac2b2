# SPDX-License-Identifier: Apache-2.0
"""What is sent to a server that speaks the Anthropic protocol, and what is made of its answers."""

from __future__ import annotations

import base64
import logging

import pytest

from qwen3vl_ros.errors import ContextError, RemoteError
from qwen3vl_ros.language.chat import Chat, Message, Role
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.vision_language_model import AnswerBudget
from qwen3vl_ros.remote.loading import remote_model
from qwen3vl_ros.remote.remote_server import ChatProtocol, RemoteServer
from qwen3vl_ros.scene.tools import Tool, ToolCall
from tests.remote.scripted_server import Reply, anthropic_reply

GRASP = Tool(name="grasp", description="Closes it.", parameters={"type": "object"})
ASKED = Message(role=Role.USER, parts=("What?",))
THOUGHT = {"type": "thinking", "thinking": "Round.", "signature": ""}
WORDS = {"type": "text", "text": "A cup."}
CALL = {"type": "tool_use", "id": "1", "name": "grasp", "input": {"who": "é", "n": None}}


@pytest.fixture
def protocol() -> ChatProtocol:
    return ChatProtocol.ANTHROPIC


def test_a_question_is_sent_as_it_stands_and_greedily(server, ask):
    server.play(anthropic_reply())
    words = ask()
    (asked,) = server.asked
    assert asked.path == "/v1/messages"
    assert asked.body == {
        "model": "tiny",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "What?"}],
        "temperature": 0.0,
    }
    assert (words.text, words.ended, words.confidence) == ("Hi", True, None)
    assert (words.prompt_tokens, words.answer_tokens) == (20, 3)


def test_an_address_without_the_version_is_as_good(server, ask):
    server.play(anthropic_reply())
    ask(base_url=server.url.removesuffix("/v1"))
    assert server.asked[0].path == "/v1/messages"


def test_without_a_limit_the_servers_is_sent_for_the_protocol_wants_one(server, ask):
    server.play(anthropic_reply())
    ask(budget=AnswerBudget(least=1, most=None), max_tokens=321)
    assert server.asked[0].body["max_tokens"] == 321


def test_a_long_answer_need_not_be_streamed(server, ask):
    """The library refuses such a limit, or sets a shorter time, where it may choose the time."""
    server.play(anthropic_reply())
    ask(budget=AnswerBudget(least=1, most=None), max_tokens=200_000, timeout_s=600.0)
    assert server.asked[0].headers["x-stainless-read-timeout"] == "600.0"


def test_pictures_tools_and_their_answers_have_their_places(server, ask, frame):
    server.play(anthropic_reply())
    model = remote_model(
        RemoteServer(base_url=server.url, model="tiny", protocol=ChatProtocol.ANTHROPIC)
    )
    sight = model.see(frame, watch=Stopwatch())
    chat = Chat(
        messages=(
            Message(role=Role.SYSTEM, parts=("Be brief.",)),
            Message(role=Role.USER, parts=(sight.parts[0], "What?")),
            Message(
                role=Role.ASSISTANT,
                parts=("I look.",),
                calls=(ToolCall(name="grasp", arguments={}),),
            ),
            Message(role=Role.TOOL, parts=("done",)),
        ),
        tools=(GRASP,),
    )
    ask(chat, model=model, sights=[sight])
    body = server.asked[0].body
    data = base64.b64encode(sight.pictures[0].data).decode()
    assert body["system"] == "Be brief."
    assert body["tools"] == [
        {"name": "grasp", "description": "Closes it.", "input_schema": {"type": "object"}}
    ]
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": data},
                },
                {"type": "text", "text": "What?"},
            ],
        },
        {
            "role": "assistant",
            "content": 'I look.\n<tool_call>\n{"name": "grasp", "arguments": {}}\n</tool_call>',
        },
        {"role": "user", "content": "<tool_response>\ndone\n</tool_response>"},
    ]


def test_thought_words_and_calls_are_put_together(server, ask):
    server.play(anthropic_reply(THOUGHT, WORDS, CALL, stop="tool_use"))
    words = ask(thinking=True)
    assert words.text == (
        "Round.\n</think>\n\nA cup.\n"
        '<tool_call>\n{"name": "grasp", "arguments": {"who": "é", "n": null}}\n</tool_call>'
    )
    assert words.ended


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
def test_an_answer_that_a_limit_cut_has_not_ended(server, ask, stop):
    server.play(anthropic_reply(stop=stop))
    assert not ask().ended


def test_an_answer_that_the_context_left_too_little_room_for_is_refused(server, ask):
    server.play(anthropic_reply(stop="model_context_window_exceeded"))
    with pytest.raises(ContextError, match="left 3 tokens"):
        ask(budget=AnswerBudget(least=50, most=100))


def test_tokens_of_a_cached_prompt_are_counted_too(server, ask):
    reply = anthropic_reply()
    reply.body["usage"] |= {"cache_read_input_tokens": 100, "cache_creation_input_tokens": None}
    server.play(reply)
    assert ask().prompt_tokens == 120


def test_a_server_without_temperatures_is_asked_without_and_a_warning_tells(server, ask, caplog):
    refusal = Reply(status=400, body={"error": {"message": "temperature: not permitted"}})
    server.play(refusal, anthropic_reply())
    model = remote_model(
        RemoteServer(base_url=server.url, model="tiny", protocol=ChatProtocol.ANTHROPIC)
    )
    with caplog.at_level(logging.WARNING):
        assert ask(model=model).text == ask(model=model).text == "Hi"
    assert ["temperature" in asked.body for asked in server.asked] == [True, False, False]
    assert [record.name for record in caplog.records] == ["qwen3vl_ros.remote.anthropic_model"]


def streamed(*blocks: tuple[dict, list[dict]], stop: str = "end_turn") -> Reply:
    events: list[object] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}},
        {"type": "ping"},
    ]
    for index, (block, deltas) in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            *({"type": "content_block_delta", "index": index, "delta": d} for d in deltas),
            {"type": "content_block_stop", "index": index},
        ]
    end = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 5}}
    return Reply(events=[*events, end, {"type": "message_stop"}])


def test_a_stream_is_heard_piece_by_piece(server, ask):
    server.play(
        streamed(
            (
                {"type": "thinking", "thinking": ""},
                [
                    {"type": "thinking_delta", "thinking": "Round."},
                    {"type": "signature_delta", "signature": "x"},
                ],
            ),
            (
                {"type": "text", "text": ""},
                [{"type": "text_delta", "text": text} for text in ("A ", "cup")],
            ),
            (
                {"type": "tool_use", "id": "1", "name": "grasp", "input": {}},
                [
                    {"type": "input_json_delta", "partial_json": text}
                    for text in ('{"a', '": 1.50}')
                ],
            ),
            ({"type": "tool_use", "id": "2", "name": "wait", "input": {}}, []),
            stop="tool_use",
        )
    )
    heard: list[str] = []
    words = ask(on_text=heard.append, thinking=True)
    assert heard[:4] == ["Round.", "\n</think>\n\n", "A ", "cup"]
    assert words.text == "".join(heard)
    assert words.text.endswith(
        '\n<tool_call>\n{"name": "grasp", "arguments": {"a": 1.50}}\n</tool_call>\n'
        '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call>'
    )
    assert (words.prompt_tokens, words.answer_tokens, words.ended) == (7, 5, True)


def test_a_server_that_withholds_the_answer_is_told_of(server, ask):
    server.play(anthropic_reply(stop="refusal"))
    with pytest.raises(RemoteError, match="withheld the answer"):
        ask()
