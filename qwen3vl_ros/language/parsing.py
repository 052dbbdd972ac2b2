# SPDX-License-Identifier: Apache-2.0
"""The model's words become objects in original pixels and metres, strictly.

Knows Qwen3-VL's three answer formats (`bbox_2d`, `point_2d`, `bbox_3d`) and no probabilities. An
answer is untrusted text: what cannot be read is dropped and said so in `notes`, and when nothing
can be read that is an `AnswerError`, never an empty answer. Only a list that the model itself
left empty, `[]`, is one.

Model coordinates end here: 0..1000 of the picture's width and height become pixels
(`u = x / 1000 * width`, Qwen's own reading), angles in half turns become a rotation. 3D numbers
are metres in the camera optical frame.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import AnswerError
from ..scene.detections import BoxSource, Detection2D, Detection3D, Point2D, Task
from ..scene.geometry import OrientedBox, rotation_from_half_turns, transform_from_rotation
from .json_scan import Value, scan_objects

FULL_SCALE = 1000.0
# A model that slips a little beyond the picture is clipped; beyond these it is not a coordinate.
LOWEST, HIGHEST = -FULL_SCALE, 2 * FULL_SCALE
MAX_3D_NUMBER = 1000.0  # metres, and half turns
MAX_LABEL_CHARACTERS = 64
END_OF_THINKING = "</think>"

_ANSI_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b."
)
_KEYS = {
    Task.DETECT: ("bbox_2d", 4),
    Task.REFER: ("bbox_2d", 4),
    Task.POINT: ("point_2d", 2),
    Task.DETECT_3D: ("bbox_3d", 9),
}

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerObject:
    """One object of an answer; exactly one of the three places is given, by the task.

    Attributes:
        label: what the model called it, made safe to print and publish.
        number_spans: where its coordinates stand in the answer text, (start, stop) characters.
        xyxy_px: (4,) float64, pixels of the original image; None for other tasks.
        uv_px: (2,) float64, pixels of the original image; None for other tasks.
        box: in the camera optical frame, metres; None for other tasks.
    """

    label: str
    number_spans: tuple[Span, ...]
    xyxy_px: npt.NDArray[np.float64] | None = None
    uv_px: npt.NDArray[np.float64] | None = None
    box: OrientedBox | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the model said, read.

    Attributes:
        objects: in the model's order; empty only if the model's list was.
        complete: False when the text ends in the middle and the tail was dropped.
        notes: what was dropped or mended, one sentence each.
        text: the model's words, whole and untrusted.
    """

    objects: tuple[AnswerObject, ...]
    complete: bool
    notes: tuple[str, ...]
    text: str

    def detections_2d(self, scores: Sequence[float]) -> tuple[Detection2D, ...]:
        """The 2D boxes, with one score for each of `objects`."""
        return tuple(
            Detection2D(label=found.label, xyxy_px=found.xyxy_px, score=score)
            for found, score in zip(self.objects, scores, strict=True)
            if found.xyxy_px is not None
        )

    def points(self, scores: Sequence[float]) -> tuple[Point2D, ...]:
        """The points, with one score for each of `objects`."""
        return tuple(
            Point2D(label=found.label, uv_px=found.uv_px, score=score)
            for found, score in zip(self.objects, scores, strict=True)
            if found.uv_px is not None
        )

    def detections_3d(self, scores: Sequence[float]) -> tuple[Detection3D, ...]:
        """The model's own 3D boxes, with one score for each of `objects`."""
        return tuple(
            Detection3D(label=found.label, box=found.box, score=score, source=BoxSource.MODEL)
            for found, score in zip(self.objects, scores, strict=True)
            if found.box is not None
        )


class _DroppedError(Exception):
    """This object cannot be used; the message says why."""


def parse_answer(text: str, *, task: Task, width: int, height: int, max_objects: int) -> Answer:
    """Read an answer.

    Args:
        text: the model's words; of a thinking model, what follows the last `</think>` counts.
        task: the query's; it decides the format.
        width: of the original image, pixels.
        height: of the original image, pixels.
        max_objects: objects beyond this many are not read, with a note.

    Raises:
        AnswerError: no object can be read, and the answer is not an empty list.
    """
    thinking = text.rfind(END_OF_THINKING)
    offset = thinking + len(END_OF_THINKING) if thinking >= 0 else 0
    scanned = scan_objects(text[offset:])
    if scanned.is_empty_list:
        return Answer(objects=(), complete=True, notes=(), text=text)

    key, count = _KEYS[task]
    notes: Counter[str] = Counter()
    if scanned.malformed:
        notes["not well-formed, dropped"] = scanned.malformed
    found: list[AnswerObject] = []
    seen: set[tuple[str, tuple[float, ...]]] = set()
    for value in scanned.objects:
        try:
            label, numbers, spans = _fields(value, key, count, offset)
            numbers, mended = _mended_numbers(numbers, task)
        except _DroppedError as reason:
            notes[f"{reason}, dropped"] += 1
            continue
        if (label, numbers) in seen:
            notes["said before, dropped"] += 1
            continue
        seen.add((label, numbers))
        if len(found) == max_objects:
            notes[f"beyond max_objects {max_objects}, not read"] += 1
            continue
        notes.update(mended)
        found.append(_placed(label, numbers, spans, task, width=width, height=height))
    reasons = tuple(f"{n} object{'s' * (n > 1)}: {reason}" for reason, n in notes.items())
    if not found:
        raise AnswerError(
            f"the answer holds no object with a '{key}' of {count} numbers and a 'label'"
            + (f" ({'; '.join(reasons)})" if reasons else "")
            + (", it was cut off" if not scanned.complete else "")
            + f"; expected a JSON list of them, or []; got {text[:80]!r}: ask again, or allow "
            "more new tokens if it was cut off",
            answer_text=text,
        )
    return Answer(objects=tuple(found), complete=scanned.complete, notes=reasons, text=text)


def _fields(
    value: Value, key: str, count: int, offset: int
) -> tuple[str, tuple[float, ...], tuple[Span, ...]]:
    """Label, numbers, and the spans of the numbers."""
    entries = value.content
    if not isinstance(entries, dict) or key not in entries:
        raise _DroppedError(f"no '{key}'")
    items = entries[key].content
    if not isinstance(items, tuple) or len(items) != count:
        raise _DroppedError(f"'{key}' is not a list of {count} numbers")
    numbers = [item.content for item in items if isinstance(item.content, float)]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise _DroppedError(f"'{key}' is not a list of {count} finite numbers")
    label = entries["label"].content if "label" in entries else None
    if not isinstance(label, str) or not (clean := clean_label(label)):
        raise _DroppedError("no 'label'")
    spans = tuple((offset + item.start, offset + item.stop) for item in items)
    return clean, tuple(numbers), spans


def clean_label(label: str) -> str:
    """A label safe to print and publish: NFC, one line, no control characters, not too long.

    >>> clean_label("\\x1b[31mred\\x1b[0m  mug\\n")
    'red mug'
    """
    plain = _ANSI_ESCAPE.sub("", label)
    # Categories C*: control, invisible formatting (bidi overrides), surrogates, unassigned.
    visible = "".join(
        " " if character.isspace() else character
        for character in plain
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    one_line = unicodedata.normalize("NFC", " ".join(visible.split()))
    return one_line[:MAX_LABEL_CHARACTERS].rstrip()


def _mended_numbers(
    numbers: tuple[float, ...], task: Task
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Numbers that can be used, and what had to be mended for it."""
    if task is Task.DETECT_3D:
        if max(map(abs, numbers)) > MAX_3D_NUMBER:
            raise _DroppedError(f"'bbox_3d' has a number beyond {MAX_3D_NUMBER:g}")
        if numbers[2] <= 0:
            raise _DroppedError("behind the camera (z <= 0)")
        if min(numbers[3:6]) <= 0:
            raise _DroppedError("no volume (a size <= 0)")
        return numbers, ()
    if min(numbers) < LOWEST or max(numbers) > HIGHEST:
        raise _DroppedError("far outside the picture (0 to 1000)")
    mended = []
    clipped = tuple(min(max(number, 0.0), FULL_SCALE) for number in numbers)
    if clipped != numbers:
        mended.append("clipped to the picture (0 to 1000)")
    if task is Task.POINT:
        return clipped, tuple(mended)
    x1, y1, x2, y2 = clipped
    ordered = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    if ordered != clipped:
        mended.append("corners put in order")
    if ordered[0] == ordered[2] or ordered[1] == ordered[3]:
        raise _DroppedError("no area")
    return ordered, tuple(mended)


def _placed(
    label: str,
    numbers: tuple[float, ...],
    spans: tuple[Span, ...],
    task: Task,
    *,
    width: int,
    height: int,
) -> AnswerObject:
    """Mended model numbers in pixels or metres."""
    values = np.array(numbers, np.float64)
    if task is Task.DETECT_3D:
        R = rotation_from_half_turns(values[6:])
        box = OrientedBox(T_frame_box=transform_from_rotation(R, values[:3]), size_m=values[3:6])
        return AnswerObject(label=label, number_spans=spans, box=box)
    if task is Task.POINT:
        uv_px = values * (width, height) / FULL_SCALE
        return AnswerObject(label=label, number_spans=spans, uv_px=uv_px)
    xyxy_px = values * (width, height, width, height) / FULL_SCALE
    return AnswerObject(label=label, number_spans=spans, xyxy_px=xyxy_px)
