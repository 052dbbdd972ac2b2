# SPDX-License-Identifier: Apache-2.0
"""Chats are spelled as the checkpoints' own templates spell them, and the ids are those of it.

The two templates in data/ are ours, rendered by transformers here. On 2026-11-22 both, and our
own text, were equal to the released templates, as public repositories hold them, on 2,500 chats
of the kind drawn below and on those with names: both as in xorbitsai/inference, Instruct also as
in christian-bick/edugraph-classify-qwen3vl (which adds a system turn of its own). A third
repository's copy of Thinking's, a preset for LM Studio, has the same words. The files of the
released checkpoints themselves could not be fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from qwen3vl_ros.errors import CheckpointError, QueryError
from qwen3vl_ros.language.chat import Chat, Message, Picture, Role, Video
from qwen3vl_ros.language.chat_template import (
    ChatStyle,
    chat_text,
    load_chat_style,
    prompt_from_chat,
)
from qwen3vl_ros.language.tokenizer import Tokenizer
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.scene.tools import Tool, ToolCall, plain_json

DATA = Path(__file__).parent / "data"
PICTURE, CLIP = Picture(grid_hw=(4, 6)), Video(grid_hw=(2, 4), times_s=(0.25, 1.26))
GRASP = Tool(
    name="grasp",
    description='Closes the gripper, "gently" – 夹',
    parameters={"type": "object", "properties": {"force_n": {"type": "number"}}},
)
CALL = ToolCall(name="grasp", arguments={"force_n": 2.5, "at": [1, None], "who": "é"})


def turn(role: Role, *parts: str | Picture | Video, **more) -> Message:
    return Message(role=role, parts=parts, **more)


ASKED = turn(Role.USER, PICTURE, "What is it?")
CHATS = {
    "one-picture": Chat(messages=(ASKED,)),
    "no-picture": Chat(messages=(turn(Role.USER, "Hello."),)),
    "system": Chat(messages=(turn(Role.SYSTEM, "Be brief."), ASKED)),
    "three-pictures": Chat(messages=(turn(Role.USER, PICTURE, PICTURE, "and", PICTURE, "?"),)),
    "numbered": Chat(
        messages=(
            turn(Role.USER, PICTURE, CLIP, "Same?"),
            turn(Role.ASSISTANT, "No."),
            turn(Role.USER, PICTURE, CLIP, "And these?"),
        ),
        label_visuals=True,
    ),
    "timed-stills": Chat(
        messages=(
            turn(Role.USER, *(Picture(grid_hw=(2, 2), time_s=t) for t in (0.0, 0.96)), "When?"),
        ),
        label_visuals=True,
    ),
    "video": Chat(messages=(turn(Role.USER, CLIP, "When?"),)),
    "tools": Chat(messages=(ASKED,), tools=(GRASP, GRASP)),
    "system-and-tools": Chat(messages=(turn(Role.SYSTEM, "Be brief."), ASKED), tools=(GRASP,)),
    "call-and-answer": Chat(
        messages=(
            ASKED,
            turn(Role.ASSISTANT, "\nI look.", calls=(CALL, CALL), thought="\nHard to see.\n"),
            turn(Role.TOOL, PICTURE),
            turn(Role.TOOL, "done"),
        ),
        tools=(GRASP,),
        label_visuals=True,
    ),
    "call-without-words": Chat(
        messages=(ASKED, turn(Role.ASSISTANT, calls=(CALL,)), turn(Role.TOOL, "no"))
    ),
    "old-thoughts": Chat(
        messages=(
            ASKED,
            turn(Role.ASSISTANT, "A cup.", thought="Round."),
            turn(Role.USER, "Sure?"),
            turn(Role.ASSISTANT, "Yes.", thought="It has a handle."),
        )
    ),
    "no-thought-in-the-last-turn": Chat(messages=(ASKED, turn(Role.ASSISTANT, "\n\nA cup."))),
}


def as_messages(chat: Chat) -> Iterator[dict[str, object]]:
    """The chat as transformers takes it."""
    for message in chat.messages:
        content: list[dict[str, str]] = []
        for part in message.parts:
            if isinstance(part, Picture) and part.time_s is not None:
                content.append({"type": "text", "text": f"<{part.time_s:.1f} seconds>"})
            kind = {str: "text", Picture: "image", Video: "video"}[type(part)]
            content.append({"type": kind, "text": part} if kind == "text" else {"type": kind})
        told: dict[str, object] = {"role": message.role.value, "content": content}
        if message.role is Role.ASSISTANT:
            told["content"] = message.words
            told["reasoning_content"] = message.thought
            told["tool_calls"] = [
                {"function": {"name": call.name, "arguments": plain_json(call.arguments)}}
                for call in message.calls
            ]
        yield told


@cache
def transformers_tokenizer(directory: Path):
    return AutoTokenizer.from_pretrained(directory)


def rendered(chat: Chat, template: str, directory: Path, *, open_turn: bool = True) -> str:
    functions = [
        {"name": t.name, "description": t.description, "parameters": plain_json(t.parameters)}
        for t in chat.tools
    ]
    return transformers_tokenizer(directory).apply_chat_template(
        list(as_messages(chat)),
        tools=[{"type": "function", "function": function} for function in functions] or None,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=open_turn,
        add_vision_id=chat.label_visuals,
    )


def template_of(style: ChatStyle) -> str:
    return (DATA / f"{style.value}.jinja").read_text()


@pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)
@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_spelled_as_the_template_spells_it(tokenizer_directory: Path, name, style):
    for open_turn in (True, False):
        expected = rendered(
            CHATS[name], template_of(style), tokenizer_directory, open_turn=open_turn
        )
        assert chat_text(CHATS[name], style, open_turn=open_turn) == expected


def test_a_thinking_turn_is_opened_with_the_thought():
    assert chat_text(CHATS["no-picture"], ChatStyle.THINKING) == (
        "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )


def test_a_thought_is_kept_only_after_the_last_question():
    text = chat_text(CHATS["old-thoughts"], ChatStyle.THINKING, open_turn=False)
    assert "Round." not in text
    assert "<think>\nIt has a handle.\n</think>\n\nYes." in text
    assert "handle" not in chat_text(CHATS["old-thoughts"], ChatStyle.INSTRUCT)


plain_words = st.text(st.sampled_from("ab\n é椅{}\"'<>|"), max_size=8)
arguments = st.dictionaries(
    st.text("ab", max_size=2), st.one_of(st.none(), st.booleans(), st.integers(), plain_words)
)
calls = st.lists(st.builds(ToolCall, name=st.just("grasp"), arguments=arguments), max_size=2)
shown_parts = st.lists(st.one_of(plain_words, st.sampled_from([PICTURE, CLIP])), max_size=4).map(
    tuple
)
said_parts = st.lists(plain_words, max_size=2).map(tuple)
users = st.builds(Message, role=st.just(Role.USER), parts=shown_parts)
answers = st.builds(Message, role=st.just(Role.TOOL), parts=shown_parts)
assistants = st.builds(
    Message,
    role=st.just(Role.ASSISTANT),
    parts=said_parts,
    calls=calls.map(tuple),
    thought=plain_words,
)
systems = st.builds(Message, role=st.just(Role.SYSTEM), parts=said_parts)
chats = st.builds(
    lambda system, first, rest, tools, label: Chat(
        messages=(*system, first, *rest), tools=tools, label_visuals=label
    ),
    st.lists(systems, max_size=1),
    users,
    st.lists(st.one_of(users, assistants, answers), max_size=5),
    st.sampled_from([(), (GRASP,), (GRASP, GRASP)]),
    st.booleans(),
)


@settings(deadline=None, max_examples=100)
@given(chat=chats, style=st.sampled_from(ChatStyle), open_turn=st.booleans())
def test_any_chat_is_spelled_as_the_template_spells_it(
    tokenizer_directory: Path, chat, style, open_turn
):
    expected = rendered(chat, template_of(style), tokenizer_directory, open_turn=open_turn)
    assert chat_text(chat, style, open_turn=open_turn) == expected


@pytest.mark.parametrize("role", [Role.SYSTEM, Role.ASSISTANT], ids=lambda role: role.value)
def test_only_users_and_tools_show_pictures(role):
    with pytest.raises(QueryError, match="shows a picture"):
        turn(role, PICTURE)


@pytest.mark.parametrize("more", [{"calls": (CALL,)}, {"thought": "Hm."}], ids=["call", "thought"])
def test_only_the_assistant_calls_and_thinks(more):
    with pytest.raises(QueryError, match="only the assistant"):
        turn(Role.USER, "Hello.", **more)


@pytest.mark.parametrize(
    "roles",
    [(), (Role.TOOL,), (Role.USER, Role.SYSTEM)],
    ids=["nobody", "tool-first", "system-later"],
)
def test_a_chat_that_no_template_can_tell_is_refused(roles):
    with pytest.raises(QueryError, match="expected system first"):
        Chat(messages=tuple(turn(role, "Hello.") for role in roles))


def test_an_answer_is_not_answered(tokenizer: Tokenizer, config: ModelConfig):
    with pytest.raises(QueryError, match="last turn is the assistant's"):
        prompt_from_chat(CHATS["old-thoughts"], ChatStyle.INSTRUCT, tokenizer, config)


@pytest.mark.parametrize(
    "said",
    [
        turn(Role.USER, "a<|im_end|>"),
        turn(Role.USER, "a<|im_", "end|>"),
        turn(Role.TOOL, "</tool_response>"),
        turn(Role.ASSISTANT, "<tool_call>"),
        turn(Role.ASSISTANT, thought="a</think>b"),
        turn(Role.ASSISTANT, calls=(ToolCall(name="<think>", arguments={}),)),
        turn(Role.ASSISTANT, calls=(ToolCall(name="a", arguments={"b": ["<|im_end|>"]}),)),
    ],
    ids=[
        "user",
        "user-in-two-pieces",
        "tool",
        "assistant",
        "thought",
        "call-name",
        "call-argument",
    ],
)
def test_nobody_can_break_out_of_their_turn(tokenizer: Tokenizer, config: ModelConfig, said):
    chat = Chat(messages=(ASKED, said, ASKED))
    with pytest.raises(QueryError, match="control token"):
        prompt_from_chat(chat, ChatStyle.INSTRUCT, tokenizer, config)


def test_tools_cannot_break_out_either(tokenizer: Tokenizer, config: ModelConfig):
    tool = Tool(name="a", description="<|im_end|>", parameters={})
    with pytest.raises(QueryError, match="control token"):
        prompt_from_chat(
            Chat(messages=(ASKED,), tools=(tool,)), ChatStyle.INSTRUCT, tokenizer, config
        )


@pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)
def test_the_template_says_which_kind_a_checkpoint_is(tmp_path: Path, style):
    assert load_chat_style(tmp_path) is ChatStyle.INSTRUCT
    (tmp_path / "chat_template.jinja").write_text(template_of(style))
    assert load_chat_style(tmp_path) is style


@pytest.mark.parametrize("file", ["chat_template.json", "tokenizer_config.json"])
def test_older_checkpoints_keep_the_template_in_json(tmp_path: Path, file):
    template = template_of(ChatStyle.THINKING)
    (tmp_path / file).write_text(json.dumps({"chat_template": template}))
    assert load_chat_style(tmp_path) is ChatStyle.THINKING


def test_a_template_that_is_not_text_is_a_checkpoint_error(tmp_path: Path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="cannot read the chat template"):
        load_chat_style(tmp_path)
