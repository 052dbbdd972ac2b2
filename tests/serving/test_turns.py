# SPDX-License-Identifier: Apache-2.0
"""Messages become the conversation that the checkpoint's template would have rendered."""

from __future__ import annotations

import json

import pytest

from qwen3vl_ros.language.chat import Chat, Message, Role
from qwen3vl_ros.language.chat_template import ChatStyle, chat_text
from qwen3vl_ros.scene.tools import ToolCall
from qwen3vl_ros.serving.fields import Field
from qwen3vl_ros.serving.turns import Told, told_from_request
from tests.serving.requests import WEATHER_TOOL, data_url, picture_part, request, speckled, user

PICTURE = picture_part(data_url(speckled(8, 8)))
CALL = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": [1, 2.5]}}\n'
    "</tool_call>"
)
NATIVE_CALL = {
    "id": "1",
    "type": "function",
    "function": {
        "name": "weather",
        "arguments": json.dumps({"city": "Köln", "days": [1, 2.5]}, ensure_ascii=False),
    },
}


def told(*messages, **fields) -> Told:
    return told_from_request(Field(request(*messages, **fields)))


def assistant(content: str | None, **fields) -> dict[str, object]:
    return {"role": "assistant", "content": content, **fields}


def tool(content: object) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": "1", "content": content}


def rendered(chat: Chat, style: ChatStyle = ChatStyle.INSTRUCT) -> str:
    return chat_text(chat, style)


@pytest.mark.parametrize(
    ("native", "in_words"),
    [
        pytest.param(
            [assistant("I look.", tool_calls=[NATIVE_CALL]), tool("dry")],
            [assistant(f"I look.\n{CALL}"), user("<tool_response>\ndry\n</tool_response>")],
            id="a call and its answer",
        ),
        pytest.param(
            [
                assistant(None, tool_calls=[NATIVE_CALL, NATIVE_CALL]),
                tool("dry\n\nand cold"),
                tool(""),
            ],
            [
                assistant(f"{CALL}\n{CALL}"),
                user(
                    "<tool_response>\ndry\n\nand cold\n</tool_response>\n"
                    "<tool_response>\n\n</tool_response>"
                ),
            ],
            id="two calls and their answers",
        ),
        pytest.param(
            [assistant(None, tool_calls=[NATIVE_CALL]), tool([PICTURE])],
            [assistant(CALL), user("<tool_response>\n", PICTURE, "\n</tool_response>")],
            id="an answer that is a picture",
        ),
        pytest.param(
            [assistant("Yes.", reasoning_content="Is it?")],
            [assistant("<think>\nIs it?\n</think>\n\nYes.")],
            id="a thought",
        ),
    ],
)
@pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)
def test_what_the_template_writes_into_words_is_read_as_what_it_is(native, in_words, style):
    """Our own client, and others of servers that pass control tokens on, send such words."""
    first, last = user(PICTURE, "What?"), user("And now?")
    apart = told(first, *native, last)
    in_one = told(first, *in_words, last)
    assert in_one.chat == apart.chat
    assert rendered(in_one.chat, style) == rendered(apart.chat, style)
    assert len(in_one.frames) == len(apart.frames)


@pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)
def test_a_conversation_that_is_sent_as_its_rendered_turns_renders_alike(style):
    call = ToolCall(name="weather", arguments={"city": "Köln"})
    chat = Chat(
        messages=(
            Message(role=Role.SYSTEM, parts=("Be brief.",)),
            Message(role=Role.USER, parts=("Weather?",)),
            Message(role=Role.ASSISTANT, parts=("I ask.",), calls=(call,), thought="Where?"),
            Message(role=Role.TOOL, parts=("dry",)),
            Message(role=Role.ASSISTANT, parts=(), calls=(call, call), thought="Sure?"),
            Message(role=Role.TOOL, parts=("dry",)),
            Message(role=Role.TOOL, parts=("wet",)),
        )
    )
    turns = rendered(chat, style).split("<|im_start|>")[1:-1]
    said = [turn.removesuffix("<|im_end|>\n").partition("\n") for turn in turns]
    messages = [{"role": role, "content": words} for role, _, words in said]
    assert rendered(told(*messages).chat, style) == rendered(chat, style)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(CALL.replace('", "', '","'), id="other spaces"),
        pytest.param(CALL.replace("arguments", "args"), id="no arguments"),
        pytest.param(CALL + " So.", id="words after it"),
        pytest.param("<tool_call>\n{\n</tool_call>", id="no JSON"),
        pytest.param('<tool_call>\n["weather"]\n</tool_call>', id="a list"),
    ],
)
def test_calls_that_are_not_the_templates_own_stay_words(words):
    """Their tags are control tokens, for which the conversation is refused later."""
    (_, said, _) = told(user("Weather?"), assistant(words), user("And?")).chat.messages
    assert (said.parts, said.calls) == ((words,), ())


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("<tool_response>\ndry", id="not closed"),
        pytest.param("So: <tool_response>\ndry\n</tool_response>", id="words before"),
        pytest.param("<tool_response>dry</tool_response>", id="on one line"),
    ],
)
def test_answers_that_are_not_the_templates_own_stay_words(words):
    (said,) = told(user(words)).chat.messages
    assert (said.role, said.parts) == (Role.USER, (words,))


def test_a_developer_is_the_system():
    chat = told({"role": "developer", "content": "Be brief."}, user("Hi.")).chat
    assert chat.messages[0] == Message(role=Role.SYSTEM, parts=("Be brief.",))


def test_tools_are_offered_unless_the_request_forbids_calls():
    (offered,) = told(tools=[WEATHER_TOOL]).chat.tools
    assert (offered.name, offered.description) == ("weather", "The weather somewhere")
    assert offered.parameters["properties"]["city"] == {"type": "string"}
    assert told(tools=[WEATHER_TOOL], tool_choice="none").chat.tools == ()
