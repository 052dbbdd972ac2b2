# SPDX-License-Identifier: Apache-2.0
"""A question for which the model may ask to see a part of a picture larger, and gets it.

Knows the tool as Qwen's developers describe and answer it (QwenLM/Qwen-Agent,
tools/image_zoom_in_qwen3vl.py): a crop of the picture that the user sent, never of a crop, at
least 32 pixels a side, enlarged to at least 256 image tokens, and nothing but the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..errors import AnswerError
from ..language.chat import Message, Role, message_from_step
from ..language.chat_template import ChatStyle
from ..language.prompt import ZOOM_TOOL, chat_from_query
from ..language.reading import Reading, thought_in
from ..language.tool_calls import parse_step, zoom_from_call
from ..scene.answers import Zoom, ZoomedAnswer
from ..scene.camera import Frame
from ..scene.detections import Query
from ..scene.tools import ToolCall
from .answering import answer_budget
from .stopwatch import Stopwatch
from .vision_language_model import Sight, VisionLanguageModel

MAX_ZOOMS = 6
LEAST_SIDE_PX = 32
LEAST_AREA_PX = 256 * 32 * 32


def answer_by_zooming(
    model: VisionLanguageModel,
    query: Query,
    frames: Sequence[Frame],
    sights: Sequence[Sight],
    *,
    watch: Stopwatch,
) -> Reading[ZoomedAnswer]:
    """The answer in words, after as many looks at parts of the pictures as the model asks for.

    A call that cannot be carried out is told the model, which may go on otherwise.

    Args:
        model: that saw the frames.
        query: a ZOOM query.
        frames: the pictures, in order.
        sights: of them.
        watch: told of every stage.

    Raises:
        AnswerError: a turn cannot be read, or the model asks for more than `MAX_ZOOMS` turns.
        ContextError: chat and pictures no longer fit.
        EngineError, RemoteError: the model failed.
    """
    seen = list(sights)
    chat = chat_from_query(query, [part for sight in seen for part in sight.parts])
    zooms: list[Zoom] = []
    notes: list[str] = []
    for _ in range(MAX_ZOOMS + 1):
        words = model.say(chat, seen, budget=answer_budget(query, model.style), watch=watch)
        thinks = model.style is ChatStyle.THINKING
        reading = parse_step(words.text, ended=words.ended, thinking=thinks)
        notes += reading.notes
        if not reading.value.calls:
            return Reading(
                value=ZoomedAnswer(words=reading.value.words, zooms=tuple(zooms)),
                complete=reading.complete,
                notes=tuple(notes),
                text=words.text,
            )
        turns = [message_from_step(reading.value, thought=thought_in(words.text))]
        for call in reading.value.calls:
            try:
                zoom = _zoom(call, frames)
            except AnswerError as error:
                notes.append(f"a call was not carried out: {error}")
                turns.append(Message(role=Role.TOOL, parts=(f"Error: {error}",)))
                continue
            sight = model.see(zoomed(frames[zoom.picture], zoom), watch=watch)
            zooms.append(zoom)
            seen.append(sight)
            turns.append(Message(role=Role.TOOL, parts=sight.parts))
        chat = chat.continued(*turns)
    raise AnswerError(
        f"the model still asks to see more after {MAX_ZOOMS} turns, expected an answer in words; "
        "ask a narrower question, or crop the picture",
        answer_text=words.text,
    )


def zoomed(frame: Frame, zoom: Zoom) -> Frame:
    """What `zoom` shows of `frame`, enlarged; without depth and intrinsics, which no one needs."""
    height, width = frame.image.shape[:2]
    left, top, right, bottom = zoom.xyxy_px.tolist()
    left, right = _whole(left, right, limit=width)
    top, bottom = _whole(top, bottom, limit=height)
    crop = Image.fromarray(np.ascontiguousarray(frame.image[top:bottom, left:right]))
    grow = max(1.0, math.sqrt(LEAST_AREA_PX / (crop.width * crop.height)))
    enlarged = crop.resize(
        (round(crop.width * grow), round(crop.height * grow)), Image.Resampling.BICUBIC
    )
    return Frame(image=np.asarray(enlarged), stamp_ns=frame.stamp_ns, frame_id=frame.frame_id)


def _whole(low: float, high: float, *, limit: int) -> tuple[int, int]:
    """Whole pixels around an interval, at least `LEAST_SIDE_PX` of them where there are so many.

    >>> _whole(10.2, 12.7, limit=640), _whole(630.0, 640.0, limit=640), _whole(0.0, 9.0, limit=20)
    ((0, 32), (608, 640), (0, 20))
    """
    start, stop = math.floor(low), math.ceil(high)
    if stop - start < LEAST_SIDE_PX:
        start = round((low + high) / 2) - LEAST_SIDE_PX // 2
        stop = start + LEAST_SIDE_PX
    start = max(0, min(start, limit - (stop - start)))
    return start, min(limit, max(stop, start + LEAST_SIDE_PX))


def _zoom(call: ToolCall, frames: Sequence[Frame]) -> Zoom:
    """What a call wants to see.

    Raises:
        AnswerError: it is of another tool, or names no part of a picture.
    """
    if call.name != ZOOM_TOOL.name:
        raise AnswerError(
            f"there is no tool '{call.name[:64]}', expected {ZOOM_TOOL.name}",
            answer_text=str(dict(call.arguments)),
        )
    sizes = [(frame.image.shape[1], frame.image.shape[0]) for frame in frames]
    return zoom_from_call(call, sizes=sizes)
