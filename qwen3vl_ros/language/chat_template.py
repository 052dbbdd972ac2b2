# SPDX-License-Identifier: Apache-2.0
"""A conversation becomes the exact text, and the token ids, that a checkpoint was trained on.

Knows the chat shapes of the two kinds of Qwen3-VL checkpoints, Instruct and Thinking, and runs no
template engine: tests hold the result against such templates rendered by transformers. Which kind
a checkpoint is, its own template file says (`load_chat_style`); no model name is read.

Both:     no system turn unless one is given or tools are offered; parts in list order, nothing
          between a picture and the words; all tool answers in a row share one user turn.
Thinking: the opened turn begins with `<think>`. A turn of the assistant after the user's last
          words keeps its thought, earlier ones lose theirs.
Videos:   in the text one placeholder; in the ids, for each temporal patch, its time as ordinary
          text ("<0.5 seconds>") and a block of its own. These take the place of the whole
          placeholder, as in the transformers that Qwen3-VL came with (4.57, still so in 5.8).
          Since 5.10 its processor leaves the placeholder's `<|vision_start|>` before the first
          time and `<|vision_end|>` after the last block. Qwen has not said that models know
          this, so it is not done here; tests hold that nothing else is different.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, QueryError
from ..model_config import ModelConfig
from ..scene.tools import Tool, ToolCall, plain_json
from .chat import Chat, Message, Part, Picture, Role, Video
from .tokenizer import Tokenizer

END_OF_TURN = "<|im_end|>\n"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_BLOCK = f"{VISION_START}<|image_pad|>{VISION_END}"
VIDEO_BLOCK = f"{VISION_START}<|video_pad|>{VISION_END}"

_TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    'within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, '
    '"arguments": <args-json-object>}\n</tool_call>'
)
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
# A template writes the line breaks of a string as \n, and JSON around it as \\n.
_OPENS_THINKING = re.compile(r"<\|im_start\|>assistant(?:\\+n|\n)<think>")

_Segment: TypeAlias = "str | Picture | Video"


class ChatStyle(Enum):
    """The two kinds of checkpoints."""

    INSTRUCT = "instruct"
    THINKING = "thinking"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A question as the decoder reads it.

    Attributes:
        input_ids: (T,) int64, the image or video token repeated for every token of a picture.
        text: the same in words, with one image or video token for each picture or video.
    """

    input_ids: npt.NDArray[np.int64]
    text: str


def load_chat_style(directory: Path) -> ChatStyle:
    """What the chat template of a checkpoint or engine directory says it is.

    A directory without a template is taken for Instruct: no Thinking checkpoint comes without one.

    Raises:
        CheckpointError: a template is not text.
    """
    for file in (directory / name for name in TEMPLATE_FILES):
        try:
            text = file.read_text(encoding="utf-8") if file.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"cannot read the chat template ({error}), expected text; take it from the "
                f"checkpoint again: {file}"
            ) from error
        if _OPENS_THINKING.search(text):
            return ChatStyle.THINKING
    return ChatStyle.INSTRUCT


def chat_text(chat: Chat, style: ChatStyle, *, open_turn: bool = True) -> str:
    """The chat as the checkpoint's own template renders it.

    Args:
        chat: what was said.
        style: the checkpoint's kind.
        open_turn: whether the assistant is to speak next.

    >>> hello = Chat(messages=(Message(role=Role.USER, parts=("Hello.",)),))
    >>> chat_text(hello, ChatStyle.THINKING)
    '<|im_start|>user\\nHello.<|im_end|>\\n<|im_start|>assistant\\n<think>\\n'
    """
    blocks = {Picture: IMAGE_BLOCK, Video: VIDEO_BLOCK}
    return "".join(
        segment if isinstance(segment, str) else blocks[type(segment)]
        for segment in _segments(chat, style, open_turn=open_turn)
    )


def prompt_from_chat(
    chat: Chat, style: ChatStyle, tokenizer: Tokenizer, config: ModelConfig
) -> Prompt:
    """The chat as the decoder reads it, the assistant's turn opened.

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
        if control := tokenizer.control_token_in(words):
            raise QueryError(
                f"the query holds the model's control token '{control}', which would break out "
                "of the question; ask in plain words"
            )
    # Control tokens cut the text before anything else does, so that the parts can be encoded one
    # by one and thousands of image tokens need not be written out and read back.
    ids: list[int] = []
    pending = ""
    for segment in _segments(chat, style, open_turn=True):
        if isinstance(segment, str):
            pending += segment
            continue
        for before, pad in _blocks(segment, config):
            ids += tokenizer.encode(pending + before)
            pending = ""
            rows, columns = segment.grid_hw
            tokens = rows * columns // config.vision.spatial_merge_size**2
            ids += [config.vision_start_token_id, *[pad] * tokens, config.vision_end_token_id]
    ids += tokenizer.encode(pending)
    return Prompt(input_ids=np.array(ids, np.int64), text=chat_text(chat, style))


def _blocks(visual: Picture | Video, config: ModelConfig) -> Iterator[tuple[str, int]]:
    """For each block of visual tokens, the text that the ids have before it, and its token."""
    if isinstance(visual, Picture):
        yield "", config.image_token_id
    else:
        yield from ((_timestamp(time_s), config.video_token_id) for time_s in visual.times_s)


def _timestamp(time_s: float) -> str:
    return f"<{time_s:.1f} seconds>"


def _untrusted(chat: Chat) -> Iterator[str]:
    """Every piece of text that somebody else than this file wrote."""
    yield from map(_signature, chat.tools)
    for message in chat.messages:
        yield message.words  # joined, for a token may be cut in two
        yield message.thought
        for call in message.calls:
            yield call.name
            yield _arguments(call)


def _segments(chat: Chat, style: ChatStyle, *, open_turn: bool) -> Iterator[_Segment]:
    """Text and visuals in order; text may come in several pieces."""
    messages = chat.messages
    if messages[0].role is Role.SYSTEM or chat.tools:
        yield "<|im_start|>system\n"
        if messages[0].role is Role.SYSTEM:
            yield messages[0].words + ("\n\n" if chat.tools else "")
        if chat.tools:
            yield _TOOLS_BEFORE
            yield from ("\n" + _signature(tool) for tool in chat.tools)
            yield _TOOLS_AFTER
        yield END_OF_TURN
    users = [i for i, message in enumerate(messages) if message.role is Role.USER]
    last_question = users[-1] if users else len(messages)
    shown = {Picture: 0, Video: 0}
    for i, message in enumerate(messages):
        if message.role is Role.USER:
            yield "<|im_start|>user\n"
            yield from _shown(message.parts, shown, label=chat.label_visuals)
            yield END_OF_TURN
        elif message.role is Role.ASSISTANT:
            last = i + 1 == len(messages)
            thinks = style is ChatStyle.THINKING and i > last_question
            yield from _assistant(message, thinks=thinks and (last or bool(message.thought)))
        elif message.role is Role.TOOL:
            if messages[i - 1].role is not Role.TOOL:
                yield "<|im_start|>user"
            yield "\n<tool_response>\n"
            yield from _shown(message.parts, shown, label=chat.label_visuals)
            yield "\n</tool_response>"
            if i + 1 == len(messages) or messages[i + 1].role is not Role.TOOL:
                yield END_OF_TURN
    if open_turn:
        yield "<|im_start|>assistant\n"
        yield "<think>\n" if style is ChatStyle.THINKING else ""


def _shown(
    parts: tuple[Part, ...], shown: dict[type[Picture] | type[Video], int], *, label: bool
) -> Iterator[_Segment]:
    """Parts with what stands before each visual; counts them in `shown`, the caller's."""
    for part in parts:
        if not isinstance(part, str):
            shown[type(part)] += 1
            if isinstance(part, Picture) and part.time_s is not None:
                yield _timestamp(part.time_s)
            if label:
                yield f"{type(part).__name__} {shown[type(part)]}: "
        yield part


def _assistant(message: Message, *, thinks: bool) -> Iterator[str]:
    yield "<|im_start|>assistant\n"
    words = message.words
    if thinks:
        thought = message.thought.strip("\n")
        yield f"<think>\n{thought}\n</think>\n\n" + words.lstrip("\n")
    else:
        yield words
    for i, call in enumerate(message.calls):
        yield ("\n" if i or words else "") + _call_text(call)
    yield END_OF_TURN


def _signature(tool: Tool) -> str:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": plain_json(tool.parameters),
    }
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def _call_text(call: ToolCall) -> str:
    written = f'{{"name": "{call.name}", "arguments": {_arguments(call)}}}'
    return f"<tool_call>\n{written}\n</tool_call>"


def _arguments(call: ToolCall) -> str:
    return json.dumps(plain_json(call.arguments), ensure_ascii=False)
