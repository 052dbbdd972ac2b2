# SPDX-License-Identifier: Apache-2.0
"""A turn with tool calls, read; and what the calls of Qwen's own tools mean in pixels.

Knows the format that the chat template teaches, `<tool_call>` around {"name": ..., "arguments":
{...}}, and the coordinates of `image_zoom_in_tool`, `mobile_use` and `computer_use`. Knows no
other tool: whether a call has the arguments its tool needs is the tool's business. Runs nothing.

Calls are instructions: of a row of them the first that cannot be read ends the row, for what
comes after may have relied on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import AnswerError
from ..scene.answers import Step, Zoom
from ..scene.tools import Json, ToolCall
from .coordinates import FULL_SCALE, DroppedError, mended_box, mended_point, pixels
from .json_scan import Value, Word, scan_object
from .labels import clean_label, clean_words
from .reading import Reading, answer_start, excerpt

# What Qwen's notebooks tell the model the screen is, and divide by: mobile_agent.ipynb 999x999,
# computer_use.ipynb 1000x1000 (QwenLM/Qwen3-VL cookbooks; the latter as a fork of it has it).
MOBILE_FULL_SCALE, COMPUTER_FULL_SCALE = 999.0, FULL_SCALE

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_PART_OF_CLOSE = re.compile(r"</?\w*\Z")
_INTEGER = re.compile(r"[+-]?\d{1,15}")
_WORDS: dict[str, Json] = {
    "true": True, "True": True, "false": False, "False": False, "null": None, "None": None
}  # fmt: skip


def parse_step(text: str, *, ended: bool, thinking: bool = False) -> Reading[Step]:
    """Read what a model says and what it asks to have done.

    A call that is whole but not closed is read; the step is then not complete, unless the model
    itself ended there.

    Args:
        text: the model's words.
        ended: whether the model ended them itself.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: there are neither words nor calls, or the first call cannot be read.
    """
    body = text[answer_start(text, thinking=thinking) :]
    said, *blocks = body.split(_OPEN)
    words = [said]
    calls: list[ToolCall] = []
    notes: list[str] = []
    closed = True
    for block in blocks:
        written, close, after = block.partition(_CLOSE)
        closed = bool(close)
        try:
            calls.append(_call(written if close else _PART_OF_CLOSE.sub("", written)))
        except DroppedError as reason:
            notes.append(f"call {len(calls) + 1} of {len(blocks)}: {reason}, it ends the row")
            break
        words.append(after)
    spoken = clean_words("\n".join(filter(None, map(str.strip, words))))
    if notes and not calls:
        raise AnswerError(
            f"the answer's tool call cannot be read ({notes[0]})"
            + ("" if closed else ", it was cut off")
            + f'; expected {_OPEN} around {{"name": ..., "arguments": {{...}}}}; got '
            f"{excerpt(text)}: ask again, or allow more new tokens if it was cut off",
            answer_text=text,
        )
    if not spoken and not calls:
        raise AnswerError(
            "the answer holds neither words nor a tool call, expected one of them; ask again",
            answer_text=text,
        )
    return Reading(
        value=Step(words=spoken, calls=tuple(calls)),
        complete=ended and not notes,
        notes=tuple(notes),
        text=text,
    )


def zoom_from_call(call: ToolCall, *, sizes: Sequence[tuple[int, int]]) -> Zoom:
    """What a call of `image_zoom_in_tool` wants to see.

    Its box is 0 to 1000 of the picture that the user sent, never of a crop, and its index counts
    the user's pictures only (Qwen's developers, QwenLM/Qwen3-VL issue 1667). An index may be
    missing where there is one picture.

    Args:
        call: of that tool.
        sizes: (width, height) of each picture that the user sent, pixels.

    Raises:
        AnswerError: it names no picture, or no box on it.
    """
    index = call.arguments.get("img_idx", 0 if len(sizes) == 1 else None)
    label = call.arguments.get("label", "")
    try:
        if isinstance(index, bool) or index not in range(len(sizes)):
            raise DroppedError(f"'img_idx' is {index!r}, expected 0 to {len(sizes) - 1}")
        numbers, _ = mended_box(_numbers(call, "bbox_2d", 4))
    except DroppedError as reason:
        raise _unusable(call, reason) from reason
    assert isinstance(index, (int, float)), "one of the range"
    width, height = sizes[int(index)]
    return Zoom(
        picture=int(index),
        xyxy_px=pixels(numbers, width=width, height=height),
        label=clean_label(label) if isinstance(label, str) else "",
    )


def point_from_call(
    call: ToolCall, key: str, *, width: int, height: int, full_scale: float
) -> tuple[float, float]:
    """(u, v) in pixels of the screen that a call points at.

    Args:
        call: for example of `mobile_use`.
        key: of the argument, "coordinate" or "coordinate2".
        width: of the screen, pixels.
        height: of the screen, pixels.
        full_scale: what the tool's description calls the screen's size.

    Raises:
        AnswerError: there is no such point.
    """
    try:
        x, y = _numbers(call, key, 2)
        numbers, _ = mended_point((x * FULL_SCALE / full_scale, y * FULL_SCALE / full_scale))
    except DroppedError as reason:
        raise _unusable(call, reason) from reason
    u, v = pixels(numbers, width=width, height=height).tolist()
    return u, v


def _call(written: str) -> ToolCall:
    value = scan_object(written)
    if value is None:
        raise DroppedError("not one well-formed object")
    entries = value.content
    assert isinstance(entries, dict), "as the scanner says"
    name = entries["name"].content if "name" in entries else None
    if not isinstance(name, str) or not name.strip():
        raise DroppedError("no 'name'")
    arguments = _json(entries["arguments"], written) if "arguments" in entries else None
    if not isinstance(arguments, dict):
        raise DroppedError("no 'arguments' object")
    return ToolCall(name=name, arguments=arguments)


def _json(value: Value, text: str) -> Json:
    """A scanned value as JSON means it: whole numbers are int."""
    content = value.content
    if isinstance(content, Word):
        if content.text not in _WORDS:
            raise DroppedError(f"'{content.text[:32]}' is no JSON value")
        return _WORDS[content.text]
    if isinstance(content, float):
        if content in (float("inf"), float("-inf")):
            raise DroppedError("a number is too large")
        whole = _INTEGER.fullmatch(text, value.start, value.stop)
        return int(whole[0]) if whole else content
    if isinstance(content, tuple):
        return tuple(_json(item, text) for item in content)
    if isinstance(content, dict):
        return {key: _json(item, text) for key, item in content.items()}
    return content


def _numbers(call: ToolCall, key: str, count: int) -> tuple[float, ...]:
    items = call.arguments.get(key)
    if not isinstance(items, tuple) or len(items) != count:
        raise DroppedError(f"'{key}' is not a list of {count} numbers")
    numbers = [i for i in items if isinstance(i, (int, float)) and not isinstance(i, bool)]
    if len(numbers) != count:
        raise DroppedError(f"'{key}' is not a list of {count} numbers")
    return tuple(map(float, numbers))


def _unusable(call: ToolCall, reason: DroppedError) -> AnswerError:
    return AnswerError(
        f"the call of '{call.name[:64]}' cannot be carried out: {reason}; tell the model so as "
        "the tool's answer, or ask again",
        answer_text=str(dict(call.arguments)),
    )
