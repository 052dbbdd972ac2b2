# SPDX-License-Identifier: Apache-2.0
"""Answers over HTTP, by the official client library: whole and streamed they are the same."""

from __future__ import annotations

import json
import math

import pytest

from qwen3vl_ros.language.chat_template import ChatStyle, chat_text
from tests.serving.conftest import MODEL
from tests.serving.requests import WEATHER_TOOL, data_url, picture_part, request, speckled, user

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>'
HALF_A_CALL = '<tool_call>\n{"name": "weather", "argu\n</tool_call>'


class Streamed:
    """A stream put together as clients do."""

    def __init__(self, chunks) -> None:
        self.content = ""
        self.thought = ""
        self.calls: list[tuple[str, str]] = []
        self.logprobs = []
        self.reasons: list[str] = []
        self.usage = None
        for chunk in chunks:
            assert chunk.object == "chat.completion.chunk"
            self.usage = chunk.usage or self.usage
            for choice in chunk.choices:
                assert not self.reasons, "nothing comes after the end"
                delta = choice.delta
                self.content += delta.content or ""
                self.thought += getattr(delta, "reasoning_content", None) or ""
                self.calls += [
                    (call.function.name, call.function.arguments)
                    for call in delta.tool_calls or []
                ]
                self.logprobs += choice.logprobs.content if choice.logprobs else []
                self.reasons += [choice.finish_reason] if choice.finish_reason else []


@pytest.fixture
def ask(serve):
    """The answer that a scripted model gives, whole and streamed."""

    def both(answer: str, *, style: ChatStyle = ChatStyle.INSTRUCT, **fields):
        with serve(answer, style=style).client() as client:
            whole = client.chat.completions.create(**request(**fields))
        with serve(answer, style=style).client() as client:
            streamed = Streamed(
                client.chat.completions.create(
                    **request(**fields), stream=True, stream_options={"include_usage": True}
                )
            )
        return whole, streamed

    return both


@pytest.mark.parametrize(
    ("answer", "how", "content", "thought", "calls", "reason"),
    [
        pytest.param("A red mug.", {}, "A red mug.", "", 0, "stop", id="words"),
        pytest.param("", {}, "", "", 0, "stop", id="nothing said"),
        pytest.param("Größe: 日本", {}, "Größe: 日本", "", 0, "stop", id="letters of many bytes"),
        pytest.param("one two three", {"max_tokens": 2}, "one two", "", 0, "length", id="cut"),
        pytest.param(
            "one two three", {"max_completion_tokens": 1, "max_tokens": 2}, "one", "", 0,
            "length", id="cut, the newer field counts",
        ),
        pytest.param(CALL, {"tools": [WEATHER_TOOL]}, "", "", 1, "tool_calls", id="call"),
        pytest.param(
            f"I look.\n{CALL}\n{CALL}\n",
            {"tools": [WEATHER_TOOL]}, "I look.", "", 2, "tool_calls", id="words and calls",
        ),
        pytest.param(
            f"I look.\n{CALL}\nThen I say.",
            {"tools": [WEATHER_TOOL]}, "I look.\nThen I say.", "", 1, "tool_calls",
            id="words around a call",
        ),
        pytest.param(CALL, {}, CALL, "", 0, "stop", id="a call that was not offered is text"),
        pytest.param(
            CALL, {"tools": [WEATHER_TOOL], "tool_choice": "none"}, CALL, "", 0, "stop",
            id="a call that was forbidden is text",
        ),
        pytest.param(
            f"So:\n{CALL}\n{HALF_A_CALL}",
            {"tools": [WEATHER_TOOL]}, f"So:\n{CALL}\n{HALF_A_CALL}", "", 0, "stop",
            id="with a call that cannot be read all stays text",
        ),
        pytest.param(
            "Two? No.\n</think>\n\nThree.",
            {"style": ChatStyle.THINKING}, "Three.", "Two? No.", 0, "stop", id="thought",
        ),
        pytest.param(
            "Two? No",
            {"style": ChatStyle.THINKING}, "", "Two? No", 0, "stop", id="a thought without end",
        ),
        pytest.param(
            f"Which city?\n</think>\n\n{CALL}",
            {"style": ChatStyle.THINKING, "tools": [WEATHER_TOOL]}, "", "Which city?", 1,
            "tool_calls", id="thought and call",
        ),
    ],
)  # fmt: skip
def test_whole_and_streamed_an_answer_is_the_same(
    ask, answer, how, content, thought, calls, reason
):
    whole, streamed = ask(answer, **how)
    (choice,) = whole.choices
    message = choice.message
    said = message.content or ""
    assert said == content
    assert streamed.content == content
    assert (getattr(message, "reasoning_content", "") or "") == streamed.thought == thought
    native = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    assert len(native) == calls
    assert streamed.calls == native
    assert all(
        (name, json.loads(written)) == ("weather", {"city": "Köln", "days": 2})
        for name, written in native
    )
    assert choice.finish_reason == reason
    assert streamed.reasons == [reason]
    assert whole.usage == streamed.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_log_probabilities_are_of_every_token_and_spell_the_answer(ask):
    answer = 'Größe 日本 [{"bbox_2d": [123, 45, 678, 900]}]'
    whole, streamed = ask(answer, logprobs=True, top_logprobs=0)
    tokens = whole.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == answer
    assert len(tokens) == whole.usage.completion_tokens, "the end token is one of them"
    assert all(token.token.encode() == bytes(token.bytes) for token in tokens)
    assert all(-1.2e-2 < token.logprob < 0 for token in tokens), "12 logits above all others"
    assert all(token.top_logprobs == [] for token in tokens)
    assert [token.logprob for token in streamed.logprobs] == [t.logprob for t in tokens]


def test_without_asking_there_are_no_log_probabilities(ask):
    whole, streamed = ask("A mug.")
    assert whole.choices[0].logprobs is None
    assert streamed.logprobs == []


def test_a_streamed_answer_comes_piece_by_piece_and_ends_with_done(serve):
    import httpx

    served = serve("one two three")
    with httpx.stream("POST", f"{served.url}/chat/completions", json=request(stream=True)) as got:
        assert got.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in got.iter_lines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert len([piece for piece in pieces if piece]) > 2
    assert not any("usage" in chunk for chunk in chunks), "nobody asked for it"
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_pictures_and_words_reach_the_model_in_order(serve):
    served = serve("Different.")
    first, second = (picture_part(data_url(speckled(64, height))) for height in (64, 128))
    with served.client() as client:
        client.chat.completions.create(
            **request(
                {"role": "system", "content": "Be brief."},
                user("before ", first, "between", " them ", second, "after"),
            )
        )
    (chat,) = served.model.chats
    pictures = [part for part in chat.messages[1].parts if not isinstance(part, str)]
    assert [p.grid_hw[0] for p in pictures] != [0, 0], "they were looked at"
    assert chat_text(chat, ChatStyle.INSTRUCT) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
        "before <|vision_start|><|image_pad|><|vision_end|>between them "
        "<|vision_start|><|image_pad|><|vision_end|>after<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_next_turn_about_a_picture_does_not_look_at_it_again(serve):
    served = serve("A mug.", "Red.", "A bowl.")
    mug, bowl = (picture_part(data_url(speckled(64, height))) for height in (64, 96))
    with served.client() as client:
        create = client.chat.completions.create
        create(**request(user(mug, "What?")))
        said = {"role": "assistant", "content": "A mug."}
        create(**request(user(mug, "What?"), said, user("Its colour?")))
        assert served.model.views == 1
        create(**request(user(bowl, "What?")))
    assert served.model.views == 2


def test_the_model_is_listed_under_its_name(serve):
    served = serve()
    with served.client() as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        assert client.models.retrieve(MODEL).id == MODEL


def test_logprobs_of_a_real_model_are_those_of_its_answer(serve, tiny_model):
    served = serve(model=tiny_model)
    with served.client() as client:
        answer = client.chat.completions.create(**request(logprobs=True, max_tokens=8))
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens <= 8
    assert all(math.isfinite(token.logprob) and token.logprob <= 0 for token in tokens)
