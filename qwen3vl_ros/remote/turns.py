# SPDX-License-Identifier: Apache-2.0
"""A conversation becomes turns of words and pictures, as both protocols take them.

Knows neither protocol. A server that holds a Qwen3-VL checkpoint renders the turns with the
checkpoint's own template; so they are cut out of the text that `chat_template.py` writes, and put
together again they are that text. Hence labels, times, tool answers and earlier tool calls are
ordinary words here. (Tool answers could not be sent as such: of vLLM's two protocols one moves a
tool's picture behind its answer, and strict servers want an identifier for every call.)

Tools on offer are not among the turns: protocols have a place of their own for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..errors import QueryError
from ..language.chat import Chat, Role
from ..language.chat_template import END_OF_TURN, IMAGE_BLOCK, ChatStyle, chat_text
from ..model.vision_language_model import Sight
from ..scene.tools import Json, Tool, plain_json
from .sent_picture import RemoteSight, SentPicture

Speaker: TypeAlias = Literal["system", "user", "assistant"]
TurnPart: TypeAlias = "str | SentPicture"

# Of every released Qwen3-VL. There is no tokenizer here to ask.
CONTROL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>",
    "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)  # fmt: skip
_START_OF_TURN = "<|im_start|>"
_SPEAKERS: dict[str, Speaker] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What one side says at a time.

    Attributes:
        speaker: by the name that both protocols know.
        parts: words and pictures in order; no two pieces of words in a row, none empty.
    """

    speaker: Speaker
    parts: tuple[TurnPart, ...]

    @property
    def words(self) -> str:
        """Its words alone, joined."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def shows(self) -> bool:
        """Whether there is a picture in it."""
        return any(isinstance(part, SentPicture) for part in self.parts)


def turns_from_chat(chat: Chat, sights: Sequence[Sight], style: ChatStyle) -> tuple[Turn, ...]:
    """The chat so far, for the assistant to go on.

    Args:
        chat: its pictures are the parts of `sights`.
        sights: of `sight_from_view`, in the order in which the chat shows them.
        style: the checkpoint's kind.

    Raises:
        QueryError: it is not the assistant's turn, or somebody's words hold one of the
            checkpoint's control tokens.
    """
    if chat.messages[-1].role in (Role.SYSTEM, Role.ASSISTANT):
        raise QueryError(
            f"the last turn is the {chat.messages[-1].role.value}'s, expected a user's or a "
            "tool's to answer"
        )
    for words in _untrusted(chat):
        if control := next((token for token in CONTROL_TOKENS if token in words), None):
            raise QueryError(
                f"the query holds the model's control token '{control}', which would break out "
                "of the question; ask in plain words"
            )
    parts = [part for sight in sights for part in sight.parts]
    assert parts == list(chat.visuals()), "the chat shows something else than was seen"
    pictures = iter([picture for sight in sights for picture in _pictures(sight)])
    text = chat_text(replace(chat, tools=()), style, open_turn=False)
    turns = []
    for written in text.split(_START_OF_TURN)[1:]:
        speaker, _, said = written.partition("\n")
        first, *others = said.removesuffix(END_OF_TURN).split(IMAGE_BLOCK)
        mixed: list[TurnPart] = [first]
        for after in others:
            mixed += [next(pictures), after]
        turns.append(Turn(speaker=_SPEAKERS[speaker], parts=tuple(filter(None, mixed))))
    return tuple(turns)


def schema_of(tool: Tool) -> dict[str, object]:
    """The JSON schema of a tool's arguments, as `json.dumps` takes it."""
    schema = plain_json(tool.parameters)
    assert isinstance(schema, dict), "a mapping becomes a dict"
    return schema


def _pictures(sight: Sight) -> tuple[SentPicture, ...]:
    assert isinstance(sight, RemoteSight), "another model's"
    return sight.pictures


def _untrusted(chat: Chat) -> Iterator[str]:
    """Every piece of text that somebody else than this project wrote."""
    for tool in chat.tools:
        yield from (tool.name, tool.description)
        yield from _texts(tool.parameters)
    for message in chat.messages:
        yield message.words  # joined, for a token may be cut in two
        yield message.thought
        for call in message.calls:
            yield call.name
            yield from _texts(call.arguments)


def _texts(value: Json) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, (bool, int, float)):
        for key, item in value.items():
            yield key
            yield from _texts(item)
