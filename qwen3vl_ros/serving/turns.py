# SPDX-License-Identifier: Apache-2.0
"""Messages of the OpenAI protocol become a conversation, and the pictures that it shows.

Knows the protocol's messages, not its other fields. Words are held to be words: control tokens in
them are refused where the conversation is rendered. But clients of other servers, which pass such
tokens on, write tool answers and tool calls and thoughts into the words as the checkpoint's
template does (our own client among them); words that are exactly that are read as what they are,
so that the rendered text is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import QueryError
from ..language.chat import Chat, Message, Part, Picture, Role
from ..language.chat_template import END_OF_TURN, IMAGE_BLOCK, VISION_START, ChatStyle, chat_text
from ..language.reading import END_OF_THINKING, thought_in
from ..scene.camera import Frame
from ..scene.tools import Tool, ToolCall, frozen_json, json_from_text
from .fields import Field
from .pictures import PictureReader

# Stands in a conversation for a picture that nobody has looked at yet.
UNSEEN = Picture(grid_hw=(0, 0))

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,  # what OpenAI calls it since 2024
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
_ANSWER_OPENS, _ANSWER_CLOSES = "<tool_response>\n", "\n</tool_response>"
_CALL_IN_WORDS = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
_CALLS_AT_END = re.compile(r"(?:\A|\n)(<tool_call>\n.*\n</tool_call>)\Z", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A conversation whose pictures were not looked at yet.

    Attributes:
        chat: with `UNSEEN` for each picture.
        frames: the pictures, in order.
    """

    chat: Chat
    frames: tuple[Frame, ...]

    def shown(self, seen: Sequence[Part]) -> Chat:
        """The conversation with what a model made of each picture, in order."""
        rest = iter(seen)
        messages = tuple(
            replace(
                message,
                parts=tuple(
                    part if isinstance(part, str) else next(rest) for part in message.parts
                ),
            )
            for message in self.chat.messages
        )
        return replace(self.chat, messages=messages)


def told_from_request(request: Field) -> Told:
    """The conversation that a request goes on from.

    Raises:
        Refusal: a message or a tool is not what the protocol says.
        QueryError: they are no conversation.
    """
    messages = request.get("messages")
    if not messages.items():
        raise messages.refused("is empty, expected at least one message")
    pictures = PictureReader()
    turns = [turn for message in messages.items() for turn in _turns(message, pictures)]
    offered = request.get("tool_choice").value != "none"
    tools = tuple(_tools(request.get("tools"))) if offered else ()
    return Told(chat=Chat(messages=tuple(turns), tools=tools), frames=pictures.frames)


def _turns(message: Field, pictures: PictureReader) -> Iterator[Message]:
    said = message.get("role")
    role = _ROLES.get(said.text())
    if role is None:
        raise said.wrong("one of " + ", ".join(_ROLES))
    parts = _parts(message.get("content"), role, pictures)
    if role is Role.ASSISTANT:
        yield _assistant(message, "".join(part for part in parts if isinstance(part, str)))
        return
    if not parts and role is not Role.TOOL:
        raise message.get("content").refused("says and shows nothing, expected words or a picture")
    answers = _answers_in(parts) if role is Role.USER else None
    if answers is not None:
        yield from (Message(role=Role.TOOL, parts=answer) for answer in answers)
    else:
        yield Message(role=role, parts=parts)


def _parts(content: Field, role: Role, pictures: PictureReader) -> tuple[Part, ...]:
    """Words and pictures in order; no two pieces of words in a row, none empty.

    Words in a row become one piece: a control token could hide where two meet.
    """
    if content.is_absent and role is Role.ASSISTANT:
        return ()
    pieces = [content] if isinstance(content.value, str) else content.items()
    parts: list[Part] = []
    for piece in pieces:
        if isinstance(piece.value, str) and piece is content:
            text = piece.text()
        else:
            kind = piece.get("type")
            if kind.text() == "image_url" and role in (Role.USER, Role.TOOL):
                _look(piece.get("image_url"), pictures)
                parts.append(UNSEEN)
                continue
            if kind.text() != "text":
                raise kind.wrong(
                    "text or image_url; send a video as pictures with their times between them"
                    if role in (Role.USER, Role.TOOL)
                    else f"text; a {role.value} message shows nothing"
                )
            text = piece.get("text").text()
        if parts and isinstance(parts[-1], str):
            parts[-1] += text
        elif text:
            parts.append(text)
        if VISION_START in text:
            raise QueryError(
                f"the message holds the model's control token '{VISION_START}', which would break "
                "out of the question; send pictures as image_url"
            )
    return tuple(parts)


def _look(image: Field, pictures: PictureReader) -> None:
    detail = image.get("detail")
    if detail.value not in (None, "auto", "high"):
        raise detail.wrong('"auto" or "high"; send a smaller picture instead')
    pictures.read(image.get("url"))


def _answers_in(parts: tuple[Part, ...]) -> list[tuple[Part, ...]] | None:
    """Tool answers that a user's turn is spelled as; None if it is not."""
    # No words hold the block of a picture (`_parts`), so it can stand for one.
    text = "".join(part if isinstance(part, str) else IMAGE_BLOCK for part in parts)
    if not (text.startswith(_ANSWER_OPENS) and text.endswith(_ANSWER_CLOSES)):
        return None
    inner = text.removeprefix(_ANSWER_OPENS).removesuffix(_ANSWER_CLOSES)
    return [
        tuple(_with_pictures(answer))
        for answer in inner.split(f"{_ANSWER_CLOSES}\n{_ANSWER_OPENS}")
    ]


def _with_pictures(text: str) -> Iterator[Part]:
    for i, words in enumerate(text.split(IMAGE_BLOCK)):
        if i:
            yield UNSEEN
        if words:
            yield words


def _assistant(message: Field, words: str) -> Message:
    thought = message.get("reasoning_content")
    if thought.is_absent:
        thought = message.get("reasoning")  # vLLM's name for it since 0.11
    thinks = "" if thought.is_absent else thought.text()
    if END_OF_THINKING in words:  # split as the checkpoint's template does
        thinks = thought_in(words)
        words = words.rpartition(END_OF_THINKING)[2].lstrip("\n")
    words, calls = _calls_in(words)
    asked = message.get("tool_calls")
    if not asked.is_absent:
        calls += tuple(map(_call, asked.items()))
    if not words and not calls and not thinks:
        raise message.get("content").refused("says nothing and calls no tool, expected either")
    return Message(
        role=Role.ASSISTANT, parts=(words,) if words else (), calls=calls, thought=thinks
    )


def _calls_in(words: str) -> tuple[str, tuple[ToolCall, ...]]:
    """Words without the calls that end them, and these; all of the words if there are none."""
    found = _CALLS_AT_END.search(words)
    if found is None:
        return words, ()
    try:
        written: list[Any] = [json_from_text(call) for call in _CALL_IN_WORDS.findall(found[1])]
        calls = tuple(
            ToolCall(name=call["name"], arguments=dict(call["arguments"])) for call in written
        )
    except (ValueError, TypeError, KeyError):
        return words, ()
    said = words[: found.start()]
    turn = Message(role=Role.ASSISTANT, parts=(said,) if said else (), calls=calls)
    again = chat_text(Chat(messages=(turn,)), ChatStyle.INSTRUCT, open_turn=False)
    # Anything that is not the template's own spelling is words, and its tokens are refused.
    is_same = again == f"<|im_start|>assistant\n{words}{END_OF_TURN}"
    return (said, calls) if is_same else (words, ())


def _call(call: Field) -> ToolCall:
    function = call.get("function")
    written = function.get("arguments")
    try:
        arguments = json_from_text(written.text() or "{}")
    except ValueError as error:
        raise written.refused(f"is not JSON ({error})") from error
    if not isinstance(arguments, dict):
        raise written.refused("is JSON but no object, expected the arguments by name")
    return ToolCall(name=function.get("name").text(), arguments=arguments)


def _tools(tools: Field) -> Iterator[Tool]:
    for tool in () if tools.is_absent else tools.items():
        if tool.get("type").text() != "function":
            raise tool.get("type").wrong('"function"')
        function = tool.get("function")
        description, parameters = function.get("description"), function.get("parameters")
        if not parameters.is_absent and not isinstance(parameters.value, dict):
            raise parameters.wrong("an object, the JSON schema of the arguments")
        schema = frozen_json(parameters.value or {"type": "object", "properties": {}})
        assert not isinstance(schema, (bool, int, float, str, tuple)), "made of a dict"
        assert schema is not None, "made of a dict"
        yield Tool(
            name=function.get("name").text(),
            description="" if description.is_absent else description.text(),
            parameters=schema,
        )
