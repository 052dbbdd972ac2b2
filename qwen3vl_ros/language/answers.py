# SPDX-License-Identifier: Apache-2.0
"""One door to every task's reader: the words that answer a query become its value.

Knows which task has which reader, and when an answer that was cut off may still be whole; nothing
of how they read.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

from ..scene.answers import Count, Moment, Step, TextSpan, TimedBox
from ..scene.detections import Query, Task
from .parsing import Answer, parse_answer, parse_count
from .reading import Reading
from .text_answers import parse_text_spans, parse_words
from .time_answers import parse_events, parse_moments, parse_timed_boxes
from .tool_calls import parse_step

AnyReading: TypeAlias = (
    Answer
    | Reading[Count]
    | Reading[str]
    | Reading[Step]
    | Reading[tuple[TextSpan, ...]]
    | Reading[tuple[Moment, ...]]
    | Reading[tuple[TimedBox, ...]]
)

# Their readers are told whether the words ended.
_IN_WORDS = (Task.ASK, Task.COMPARE, Task.ZOOM, Task.ACT)


def read_answer(
    text: str,
    query: Query,
    *,
    width: int,
    height: int,
    duration_s: float = math.inf,
    ended: bool = True,
    thinking: bool = False,
) -> AnyReading:
    """Read an answer; of which type the value is, the query's task says (docs/tasks.md).

    Args:
        text: the model's words.
        query: what was asked.
        width: of the original picture, or of a frame as it was recorded, pixels.
        height: likewise.
        duration_s: of the video, seconds; without it no time is after its end.
        ended: whether the model ended its words itself, and no limit of ours did.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: the answer cannot be read; this is never "nothing there".
    """
    reading = _read(
        text,
        query,
        width=width,
        height=height,
        duration_s=duration_s,
        ended=ended,
        thinking=thinking,
    )
    # Only a list that is closed says that no more comes; objects line by line do not.
    closing = ("]", "}") if query.task is Task.LIST_EVENTS else "]"
    if ended or query.task in _IN_WORDS or text.rstrip("` \n").endswith(closing):
        return reading
    return replace(reading, complete=False)


def _read(
    text: str,
    query: Query,
    *,
    width: int,
    height: int,
    duration_s: float,
    ended: bool,
    thinking: bool,
) -> AnyReading:
    task, most = query.task, query.max_objects
    if task is Task.SPOT_TEXT:
        return parse_text_spans(
            text, width=width, height=height, max_objects=most, thinking=thinking
        )
    if task is Task.COUNT:
        return parse_count(text, width=width, height=height, max_objects=most, thinking=thinking)
    if task in (Task.ASK, Task.COMPARE):
        return parse_words(text, ended=ended, thinking=thinking)
    if task in (Task.ZOOM, Task.ACT):
        return parse_step(text, ended=ended, thinking=thinking)
    if task is Task.LOCATE_MOMENT:
        return parse_moments(
            text, duration_s=duration_s, max_objects=most, ended=ended, thinking=thinking
        )
    if task is Task.LIST_EVENTS:
        return parse_events(text, duration_s=duration_s, max_objects=most, thinking=thinking)
    if task is Task.TRACK:
        return parse_timed_boxes(
            text,
            width=width,
            height=height,
            duration_s=duration_s,
            max_objects=most,
            thinking=thinking,
        )
    return parse_answer(
        text, task=task, width=width, height=height, max_objects=most, thinking=thinking
    )
