# SPDX-License-Identifier: Apache-2.0
"""Answers about a video: when something happens, everything that happens, where something is when.

Knows the formats that Qwen3-VL's three video prompts ask for, and no frame. Times are seconds from
the first frame; what lies beyond the end of the video is dropped or clipped, with a note.

What is known of answers, by QwenLM/Qwen3-VL cookbooks/video_understanding.ipynb, the one for
Qwen3-VL and earlier ones (in its history) for Qwen2.5-VL:

LOCATE_MOMENT  Qwen2.5-VL, asked nearly so, says one sentence that ends in "happens in 64.0 - 72.0
               seconds", or in two such times as mm:ss.ff where that was asked for. No answer of
               Qwen3-VL to the prompt of its report is published; evaluations of it by others read
               a span in words as well.
LIST_EVENTS    Qwen3-VL (235B): one object of {"mm:ss.ff - mm:ss.ff": "description", ...}.
               Qwen2.5-VL, same prompt: a list of objects with start_time, end_time, description.
TRACK          the format stands in its prompt; the notebook reads it, and shows no answer.

Other keys that are read ("start", "timestamp", "caption", ...) are guesses at what a model may
choose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import AnswerError
from ..scene.answers import Moment, TimedBox
from .coordinates import DroppedError, label_at, mended_box, numbers_at, pixels
from .json_scan import Value
from .labels import MAX_TEXT_CHARACTERS, clean_label
from .object_list import Entries, Found, read_objects
from .reading import Reading, answer_start, excerpt
from .timestamps import Span, instant_in_prose, seconds_from_text, span_from_text, spans_in_prose

ROUNDING_S = 0.05  # the model reads and writes times rounded to 0.1 s

_START_KEYS = ("start", "start_time", "start_timestamp")
_END_KEYS = ("end", "end_time", "end_timestamp")
_SPAN_KEYS = ("time", "timestamp", "time_range")
_LABEL_KEYS = ("description", "event", "label", "caption")
_EMPTY_OBJECT = re.compile(r"\s*(?:```\w*\s*)?\{\s*\}\s*(?:```)?\s*")


def parse_moments(
    text: str, *, duration_s: float, max_objects: int, ended: bool, thinking: bool = False
) -> Reading[tuple[Moment, ...]]:
    """Read when something happens: spans of time in words, or objects with start and end.

    That something does not happen at all is nothing the trained prompt has a format for: an
    answer that says so in words cannot be read, and only `[]` is "never".

    Args:
        text: the model's words.
        duration_s: of the video, seconds.
        max_objects: moments beyond this many are not read, with a note.
        ended: whether the model ended its words itself; a number at their end may not be whole.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: no moment can be read, and the answer is not an empty list.
    """
    body = text[answer_start(text, thinking=thinking) :]
    if "{" in body or re.sub(r"[\s`]|json", "", body) == "[]":
        return read_objects(
            text,
            lambda entries, _: _found_moment(_span_at(entries), "", duration_s),
            expected="a start and an end",
            max_objects=max_objects,
            thinking=thinking,
        )
    spans = list(spans_in_prose(body))
    if not spans and ended and (instant := instant_in_prose(body)):
        spans = [instant]
    if not ended and spans and spans[-1].may_go_on(body):
        spans.pop()
    moments: dict[Moment, None] = {}
    notes: list[str] = []
    for span in spans:
        try:
            found = _found_moment(span, "", duration_s)
        except DroppedError as reason:
            notes.append(f"1 moment: {reason}, dropped")
            continue
        if len(moments) == max_objects and found.item not in moments:
            notes.append(f"1 moment: beyond max_objects {max_objects}, not read")
            continue
        notes += [f"1 moment: {reason}" for reason in found.mended]
        moments[found.item] = None
    if not moments:
        raise AnswerError(
            "the answer holds no span of time"
            + (f" ({'; '.join(notes)})" if notes else "")
            + ("" if ended else ", it was cut off")
            + f"; expected for example '12.5 - 18.0 seconds', or []; got {excerpt(text)}: ask "
            "again, or allow more (max_objects) if it was cut off",
            answer_text=text,
        )
    return Reading(value=tuple(moments), complete=ended, notes=tuple(notes), text=text)


def parse_events(
    text: str, *, duration_s: float, max_objects: int, thinking: bool = False
) -> Reading[tuple[Moment, ...]]:
    """Read everything that happens: {"start - end": description, ...}, or a list of objects.

    In the one object two events at the very same time would be one key twice, which has no single
    meaning: such an answer cannot be read.

    Args:
        text: the model's words.
        duration_s: of the video, seconds.
        max_objects: events beyond this many are not read, with a note.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: no event can be read, and the answer is neither `[]` nor `{}`.
    """

    def read_one(entries: Entries, _: int) -> Found[Moment]:
        key = next((key for key in _LABEL_KEYS if key in entries), _LABEL_KEYS[0])
        label = label_at(entries, key, longest=MAX_TEXT_CHARACTERS)
        return _found_moment(_span_at(entries), label, duration_s)

    if _EMPTY_OBJECT.fullmatch(text, answer_start(text, thinking=thinking)):
        return Reading(value=(), complete=True, notes=(), text=text)
    return read_objects(
        text,
        read_one,
        expected="a span of time and a description",
        max_objects=max_objects,
        thinking=thinking,
        split=_events_of_object,
    )


def parse_timed_boxes(
    text: str,
    *,
    width: int,
    height: int,
    duration_s: float,
    max_objects: int,
    thinking: bool = False,
) -> Reading[tuple[TimedBox, ...]]:
    """Read where something is at each time: objects with `time`, `bbox_2d` and maybe a `label`.

    Args:
        text: the model's words.
        width: of a frame as it was recorded, pixels.
        height: of a frame as it was recorded, pixels.
        duration_s: of the video, seconds.
        max_objects: boxes beyond this many are not read, with a note.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: no box can be read, and the answer is not an empty list.
    """

    def read_one(entries: Entries, _: int) -> Found[TimedBox]:
        numbers, mended = mended_box(numbers_at(entries, "bbox_2d", 4))
        time_s = _time_at(entries, ("time",))
        if time_s > duration_s + ROUNDING_S:
            raise DroppedError("after the end of the video")
        label = entries["label"].content if "label" in entries else ""
        clean = clean_label(label) if isinstance(label, str) else ""
        xyxy_px = pixels(numbers, width=width, height=height)
        box = TimedBox(time_s=time_s, xyxy_px=xyxy_px, label=clean)
        return Found(item=box, identity=(time_s, numbers, clean), mended=mended)

    return read_objects(
        text,
        read_one,
        expected="a 'time' and a 'bbox_2d' of 4 numbers",
        max_objects=max_objects,
        thinking=thinking,
    )


def _events_of_object(entries: Entries) -> Sequence[Entries]:
    """An object whose keys are spans of time stands for as many events."""
    if not any(span_from_text(key) for key in entries):
        return [entries]
    return [
        {_SPAN_KEYS[0]: Value(content=key, start=0, stop=0), _LABEL_KEYS[0]: value}
        for key, value in entries.items()
    ]


def _span_at(entries: Entries) -> Span:
    for key in _SPAN_KEYS:
        written = entries[key].content if key in entries else None
        if isinstance(written, str) and (span := span_from_text(written)):
            return span
    return Span(start_s=_time_at(entries, _START_KEYS), end_s=_time_at(entries, _END_KEYS), stop=0)


def _time_at(entries: Entries, keys: Sequence[str]) -> float:
    """Seconds at the first of some keys that is there."""
    written = next((entries[key].content for key in keys if key in entries), None)
    seconds = seconds_from_text(written) if isinstance(written, str) else written
    # NaN is a word to the scanner; a number too large is infinite
    if not isinstance(seconds, float) or not 0 <= seconds < float("inf"):
        raise DroppedError(f"no '{keys[0]}' in seconds")
    return seconds


def _found_moment(span: Span, label: str, duration_s: float) -> Found[Moment]:
    """A moment of the video.

    Raises:
        DroppedError: it lies after the end of the video.
    """
    mended = []
    start_s, end_s = span.start_s, span.end_s
    if start_s > end_s:
        start_s, end_s = end_s, start_s
        mended.append("times put in order")
    if start_s > duration_s + ROUNDING_S:
        raise DroppedError("after the end of the video")
    if end_s > duration_s + ROUNDING_S:
        mended.append("clipped to the end of the video")
    clipped = (min(start_s, duration_s), min(end_s, duration_s))
    moment = Moment(start_s=clipped[0], end_s=clipped[1], label=label)
    return Found(item=moment, identity=moment, mended=tuple(mended))
