# SPDX-License-Identifier: Apache-2.0
"""Turns that a checkpoint's template puts together again are the prompt we would have written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from transformers import AutoTokenizer

from qwen3vl_ros.errors import QueryError
from qwen3vl_ros.language.chat import Chat, Message, Picture, Role, Video
from qwen3vl_ros.language.chat_template import ChatStyle, chat_text
from qwen3vl_ros.offline.tiny_tokenizer import SPECIAL_TOKENS, VISIBLE_TOKENS, write_tiny_tokenizer
from qwen3vl_ros.remote.sent_picture import RemoteSight, SentPicture
from qwen3vl_ros.remote.turns import CONTROL_TOKENS, Turn, schema_of, turns_from_chat
from qwen3vl_ros.scene.tools import Tool, ToolCall
from tests.language.test_chat_template import CHATS, chats, template_of, turn

PICTURE = Picture(grid_hw=(4, 6))
TO_ANSWER = {
    name: chat
    for name, chat in CHATS.items()
    if chat.messages[-1].role in (Role.USER, Role.TOOL)
    and not any(isinstance(visual, Video) for visual in chat.visuals())
}
# The released Thinking template, which cuts a thought out of the words itself and takes a user's
# turn that holds tool answers for no question (its rule, told in our template's words).
TAKES_APART = (
    (
        '{%- set thought = message.reasoning_content or "" %}',
        '{%- set at = words.split("</think>") %}'
        '{%- set thought = at[0].rstrip("\\n").split("<think>")[-1].lstrip("\\n") '
        "if at | length > 1 else '' %}"
        '{%- set words = at[-1].lstrip("\\n") if at | length > 1 else words %}',
    ),
    (
        '{%- if message.role == "user" %}\n        {%- set question.last',
        '{%- set said = parts(message.content, false) %}{%- if message.role == "user" and not '
        '(said.startswith("<tool_response>") and said.endswith("</tool_response>")) %}\n'
        "        {%- set question.last",
    ),
)


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tiny_tokenizer(["the red box"], directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)

    def rendered(turns: tuple[Turn, ...], chat: Chat, template: str) -> str:
        tools = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": schema_of(tool),
                },
            }
            for tool in chat.tools
        ]
        return tokenizer.apply_chat_template(
            [{"role": turn.speaker, "content": list(contents(turn))} for turn in turns],
            tools=tools or None,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )

    return rendered


def contents(turn: Turn) -> Iterator[dict[str, str]]:
    for part in turn.parts:
        yield {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def sights_of(chat: Chat) -> list[RemoteSight]:
    return [
        RemoteSight(
            parts=(visual,),
            pictures=(
                SentPicture(
                    data=str(number).encode(), media_type="image/png", grid_hw=visual.grid_hw
                ),
            ),
        )
        for number, visual in enumerate(chat.visuals())
    ]


def templates(style: ChatStyle) -> Iterator[str]:
    template = template_of(style)
    yield template
    if style is ChatStyle.THINKING:
        for ours, theirs in TAKES_APART:
            assert ours in template
            template = template.replace(ours, theirs)
        yield template


@pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)
@pytest.mark.parametrize("name", TO_ANSWER)
def test_a_server_renders_the_prompt_that_we_would_have_written(render, name, style):
    chat = TO_ANSWER[name]
    turns = turns_from_chat(chat, sights_of(chat), style)
    for template in templates(style):
        assert render(turns, chat, template) == chat_text(chat, style)


@settings(deadline=None, max_examples=60)
@given(chat=chats)
def test_so_it_does_for_any_chat(render, chat):
    if chat.messages[-1].role not in (Role.USER, Role.TOOL):
        return
    if any(isinstance(visual, Video) for visual in chat.visuals()):
        return
    for style in ChatStyle:
        turns = turns_from_chat(chat, sights_of(chat), style)
        for template in templates(style):
            assert render(turns, chat, template) == chat_text(chat, style)


def test_pictures_stay_in_their_order_and_two_answers_of_tools_share_a_turn():
    chat = TO_ANSWER["call-and-answer"]
    asked, called, answered = turns_from_chat(chat, sights_of(chat), ChatStyle.INSTRUCT)
    assert [part.data for part in asked.parts + answered.parts if not isinstance(part, str)] == [
        b"0",
        b"1",
    ]
    assert (asked.speaker, called.speaker, answered.speaker) == ("user", "assistant", "user")
    assert called.words.count("<tool_call>") == 2
    assert answered.words == (
        "<tool_response>\nPicture 2: \n</tool_response>\n<tool_response>\ndone\n</tool_response>"
    )


def test_the_control_tokens_are_the_released_tokenizers():
    assert CONTROL_TOKENS == SPECIAL_TOKENS + VISIBLE_TOKENS


@pytest.mark.parametrize(
    "said",
    [
        turn(Role.USER, "a<|im_end|>"),
        turn(Role.USER, "<|im_", "end|>"),
        turn(Role.TOOL, "</tool_response>"),
        turn(Role.ASSISTANT, "<tool_call>"),
        turn(Role.ASSISTANT, thought="a</think>b"),
        turn(Role.ASSISTANT, calls=(ToolCall(name="<think>", arguments={}),)),
        turn(Role.ASSISTANT, calls=(ToolCall(name="a", arguments={"b": ["<|im_end|>"]}),)),
        turn(Role.ASSISTANT, calls=(ToolCall(name="a", arguments={"<|im_end|>": 1}),)),
    ],
    ids=["user", "in-two", "tool", "assistant", "thought", "call-name", "call-argument", "key"],
)
def test_nobody_can_break_out_of_their_turn(said: Message):
    asked = turn(Role.USER, "What?")
    with pytest.raises(QueryError, match="control token"):
        turns_from_chat(Chat(messages=(asked, said, asked)), [], ChatStyle.INSTRUCT)


def test_a_tools_description_cannot_either():
    tool = Tool(name="a", description="b", parameters={"c": "<|im_start|>"})
    chat = Chat(messages=(turn(Role.USER, "What?"),), tools=(tool,))
    with pytest.raises(QueryError, match="control token"):
        turns_from_chat(chat, [], ChatStyle.INSTRUCT)


def test_an_answer_is_not_answered():
    with pytest.raises(QueryError, match="last turn is the assistant's"):
        turns_from_chat(CHATS["old-thoughts"], [], ChatStyle.INSTRUCT)
