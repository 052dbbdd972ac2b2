# SPDX-License-Identifier: Apache-2.0
"""What is sent to a server that speaks the OpenAI protocol, and what is made of its answers."""

from __future__ import annotations

import base64
import json

import pytest

from qwen3vl_ros.errors import ContextError, RemoteError
from qwen3vl_ros.language.chat import Chat, Message, Picture, Role
from qwen3vl_ros.model.stopwatch import Stopwatch
from qwen3vl_ros.model.vision_language_model import AnswerBudget
from qwen3vl_ros.remote.loading import remote_model
from qwen3vl_ros.remote.remote_server import ChatProtocol, RemoteServer
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.tools import Tool
from tests.remote.scripted_server import SOON, Reply, openai_reply, stream_of

GRASP = Tool(name="grasp", description="Closes it.", parameters={"type": "object"})
CALL = {"id": "1", "function": {"name": "grasp", "arguments": '{"at": [1.50]}'}}
ASKED = Chat(messages=(Message(role=Role.USER, parts=("What?",)),))


@pytest.fixture
def protocol() -> ChatProtocol:
    return ChatProtocol.OPENAI


def logprobs(*pieces: str | list[int] | None) -> dict:
    return {
        "content": [
            {
                "token": piece if isinstance(piece, str) else "?",
                "bytes": None if isinstance(piece, str) else piece,
                "logprob": -0.5,
                "top_logprobs": [],
            }
            for piece in pieces
        ]
    }


def test_a_question_is_sent_as_it_stands_and_greedily(server, ask):
    server.play(openai_reply())
    words = ask()
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "What?"}],
        "temperature": 0.0,
        "logprobs": True,
        "max_tokens": 64,
    }
    assert (words.text, words.ended, words.confidence) == ("Hi", True, None)
    assert (words.prompt_tokens, words.answer_tokens, words.passes) == (20, 3, 0)


def test_without_a_limit_none_is_sent(server, ask):
    server.play(openai_reply())
    ask(budget=AnswerBudget(least=1, most=None))
    assert "max_tokens" not in server.asked[0].body


def test_pictures_stand_where_the_prompt_has_them(server, ask, frame):
    server.play(openai_reply())
    model = remote_model(RemoteServer(base_url=server.url, model="tiny"))
    watch = Stopwatch()
    sights = [model.see(frame, watch=watch) for _ in range(2)]
    first, second = (sight.parts[0] for sight in sights)
    chat = Chat(
        messages=(
            Message(role=Role.SYSTEM, parts=("Be brief.",)),
            Message(role=Role.USER, parts=("Is this", first, "that", second, "?")),
        ),
        label_visuals=True,
    )
    ask(chat, model=model, sights=sights)
    url = f"data:image/png;base64,{base64.b64encode(sights[0].pictures[0].data).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    assert server.asked[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Is thisPicture 1: "},
                image,
                {"type": "text", "text": "thatPicture 2: "},
                image,
                {"type": "text", "text": "?"},
            ],
        },
    ]
    assert watch.stats().image_tokens == 2 * 70
    assert watch.stats().preprocess_s is not None


def test_a_clip_is_sent_as_stills_with_their_times_before_them(server, ask, frame):
    server.play(openai_reply())
    later = type(frame)(image=frame.image, stamp_ns=500_000_000, frame_id="camera")
    model = remote_model(RemoteServer(base_url=server.url, model="tiny", clip_fps=4.0))
    sight = model.see(Clip(frames=(frame, later)), watch=Stopwatch())
    assert all(isinstance(part, Picture) for part in sight.parts)
    chat = Chat(messages=(Message(role=Role.USER, parts=(*sight.parts, "When?")),))
    ask(chat, model=model, sights=[sight])
    content = server.asked[0].body["messages"][0]["content"]
    assert [part.get("text", part["type"]) for part in content] == [
        "<0.0 seconds>", "image_url", "<0.5 seconds>", "image_url", "When?"
    ]  # fmt: skip


def test_tools_are_offered_by_the_protocols_own_means(server, ask):
    server.play(openai_reply(None, finish="tool_calls", tool_calls=[CALL]))
    words = ask(Chat(messages=ASKED.messages, tools=(GRASP,)))
    assert server.asked[0].body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "grasp",
                "description": "Closes it.",
                "parameters": {"type": "object"},
            },
        }
    ]
    assert "grasp" not in json.dumps(server.asked[0].body["messages"])
    assert words.text == (
        '<tool_call>\n{"name": "grasp", "arguments": {"at": [1.50]}}\n</tool_call>'
    )
    assert words.ended


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_thought_that_the_server_took_apart_is_put_back(server, ask, field):
    server.play(openai_reply("\n\nA cup.", **{field: "Round.\n"}))
    assert ask(thinking=True).text == "Round.\n</think>\n\nA cup."


def test_an_answer_that_a_limit_cut_has_not_ended(server, ask):
    server.play(openai_reply("[{", finish="length"))
    assert not ask().ended


def test_an_answer_that_the_context_left_too_little_room_for_is_refused(server, ask):
    server.play(openai_reply("[{", finish="length"))
    with pytest.raises(ContextError, match=r"left 3 tokens after a prompt of 20.*at least 50"):
        ask(budget=AnswerBudget(least=50, most=100))


def test_the_probabilities_of_tokens_become_a_confidence(server, ask):
    told = logprobs("a", [0xE6, 0xA4], [0x85], "<|im_end|>")
    server.play(openai_reply("a椅", logprobs=told))
    confidence = ask().confidence
    assert confidence.token_spans == ((0, 1), (1, 1), (1, 2), (2, 2))
    assert confidence.logprobs.tolist() == [-0.5] * 4


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(logprobs("H"), id="other-tokens"),
        pytest.param({"content": [{"token": "Hi", "logprob": None}]}, id="no-probability"),
        pytest.param({"content": [{"token": "Hi", "logprob": 0, "bytes": [300]}]}, id="no-bytes"),
        pytest.param({"content": ["Hi"]}, id="no-entry"),
        pytest.param({"tokens": ["Hi"]}, id="another-shape"),
    ],
)
def test_probabilities_that_do_not_fit_are_none(server, ask, told):
    server.play(openai_reply("Hi", logprobs=told))
    assert ask().confidence is None


def test_a_server_that_refuses_probabilities_is_asked_without_and_remembered(server, ask):
    refusal = Reply(status=400, body={"error": {"message": "logprobs is not supported"}})
    server.play(refusal, openai_reply())
    model = remote_model(RemoteServer(base_url=server.url, model="tiny"))
    assert ask(model=model).text == ask(model=model).text == "Hi"
    assert ["logprobs" in asked.body for asked in server.asked] == [True, False, False]


def test_a_server_that_refuses_them_of_streamed_calls_is_still_asked_for_others(server, ask):
    """llama.cpp: "logprobs is not supported with tools + stream"."""
    refusal = Reply(
        status=400, body={"error": {"message": "logprobs is not supported with tools + stream"}}
    )
    stream = stream_of(ChatProtocol.OPENAI, "Hi")
    server.play(refusal, stream, openai_reply())
    model = remote_model(RemoteServer(base_url=server.url, model="tiny"))
    ask(Chat(messages=ASKED.messages, tools=(GRASP,)), model=model, on_text=len)
    ask(model=model)
    assert ["logprobs" in asked.body for asked in server.asked] == [True, False, True]


def test_another_refusal_is_not_taken_for_that(server, ask):
    server.play(Reply(status=400, body={"error": {"message": "no pictures here"}}))
    with pytest.raises(RemoteError, match=r"400 \(no pictures here\)"):
        ask()
    assert len(server.asked) == 1


def test_a_stream_is_heard_piece_by_piece(server, ask):
    choices = [
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"reasoning": "Rou"}},
        {"delta": {"reasoning": "nd."}},
        {"delta": {"content": "A "}, "logprobs": logprobs("A ")},
        {"delta": {"content": "cup"}, "logprobs": logprobs("cup")},
        {"delta": None, "finish_reason": "stop"},
    ]
    usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    events = [*({"choices": [{"index": 0, **choice}]} for choice in choices), usage, "[DONE]"]
    server.play(Reply(events=events))
    heard: list[str] = []
    words = ask(on_text=heard.append, thinking=True)
    assert heard == ["Rou", "nd.", "\n</think>\n\n", "A ", "cup"]
    assert words.text == "".join(heard)
    assert words.confidence.token_spans == ((17, 19), (19, 22))
    assert (words.prompt_tokens, words.answer_tokens) == (9, 4)
    assert server.asked[0].body["stream_options"] == {"include_usage": True}


def test_streamed_calls_are_put_together(server, ask):
    deltas = [
        {"content": "I look."},
        {"tool_calls": [{"index": 0, "function": {"name": "grasp", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
        {"tool_calls": [{"index": 1, "function": {"name": "wait", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    server.play(Reply(events=[*chunks, end, "[DONE]"]))
    heard: list[str] = []
    words = ask(on_text=heard.append)
    assert words.text == "".join(heard)
    assert words.text == (
        'I look.\n<tool_call>\n{"name": "grasp", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "wait", "arguments": {}}\n</tool_call>'
    )


def test_a_stream_that_fails_is_tried_again_before_its_first_word(server, ask):
    server.play(Reply(status=503, headers=SOON), stream_of(ChatProtocol.OPENAI, "Hi"))
    assert ask(on_text=len).text == "Hi"
    assert len(server.asked) == 2
