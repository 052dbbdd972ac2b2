# SPDX-License-Identifier: Apache-2.0
"""The model's words about a picture become objects in original pixels and metres, strictly.

Knows Qwen3-VL's three spatial answer formats (`bbox_2d`, `point_2d`, `bbox_3d`) and no
probabilities. An answer is untrusted text: what cannot be read is dropped and said so in `notes`,
and when nothing can be read that is an `AnswerError`, never an empty answer. Only a list that the
model itself left empty, `[]`, is one.

Model coordinates end here: 0..1000 of the picture's width and height become pixels
(`coordinates.py`), angles in half turns become a rotation. 3D numbers are metres in the camera
optical frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scene.answers import Count
from ..scene.detections import BoxSource, Detection2D, Detection3D, Point2D, Task
from ..scene.geometry import OrientedBox, rotation_from_half_turns, transform_from_rotation
from .coordinates import (
    DroppedError,
    Mended,
    Numbers,
    label_at,
    mended_box,
    mended_point,
    numbers_at,
    pixels,
)
from .json_scan import Value
from .labels import MAX_LABEL_CHARACTERS
from .object_list import Found, read_objects
from .reading import Reading, Span

MAX_3D_NUMBER = 1000.0  # metres, and half turns

_KEYS = {
    Task.DETECT: ("bbox_2d", 4),
    Task.REFER: ("bbox_2d", 4),
    Task.POINT: ("point_2d", 2),
    Task.DETECT_3D: ("bbox_3d", 9),
}


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

    def detections_2d(self, scores: Sequence[float | None]) -> tuple[Detection2D, ...]:
        """The 2D boxes, with one score for each of `objects`."""
        return tuple(
            Detection2D(label=found.label, xyxy_px=found.xyxy_px, score=score)
            for found, score in zip(self.objects, scores, strict=True)
            if found.xyxy_px is not None
        )

    def points(self, scores: Sequence[float | None]) -> tuple[Point2D, ...]:
        """The points, with one score for each of `objects`."""
        return tuple(
            Point2D(label=found.label, uv_px=found.uv_px, score=score)
            for found, score in zip(self.objects, scores, strict=True)
            if found.uv_px is not None
        )

    def detections_3d(self, scores: Sequence[float | None]) -> tuple[Detection3D, ...]:
        """The model's own 3D boxes, with one score for each of `objects`."""
        return tuple(
            Detection3D(label=found.label, box=found.box, score=score, source=BoxSource.MODEL)
            for found, score in zip(self.objects, scores, strict=True)
            if found.box is not None
        )


def parse_answer(
    text: str, *, task: Task, width: int, height: int, max_objects: int, thinking: bool = False
) -> Answer:
    """Read an answer to a spatial question.

    Args:
        text: the model's words; of a thinking model, what follows the last `</think>` counts.
        task: the query's; it decides the format.
        width: of the original image, pixels.
        height: of the original image, pixels.
        max_objects: objects beyond this many are not read, with a note.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: no object can be read, and the answer is not an empty list.
    """
    key, count = _KEYS[task]

    def read_one(entries: Mapping[str, Value], offset: int) -> Found[AnswerObject]:
        numbers = numbers_at(entries, key, count)
        label = label_at(entries, "label", longest=MAX_LABEL_CHARACTERS)
        numbers, mended = _mended(numbers, task)
        return Found(
            item=_placed(
                label,
                numbers,
                _number_spans(entries[key], offset),
                task,
                width=width,
                height=height,
            ),
            identity=(label, numbers),
            mended=mended,
        )

    reading = read_objects(
        text,
        read_one,
        expected=f"a '{key}' of {count} numbers and a 'label'",
        max_objects=max_objects,
        thinking=thinking,
    )
    return Answer(
        objects=reading.value, complete=reading.complete, notes=reading.notes, text=reading.text
    )


def parse_count(
    text: str, *, width: int, height: int, max_objects: int, thinking: bool = False
) -> Reading[Count]:
    """Read an answer that counts by pointing; arguments as of `parse_answer`.

    Points at the same place count once, whatever they are called: the trained prompt numbers its
    labels. A count that was cut off, or reached `max_objects`, is not complete: at least so many.

    Raises:
        AnswerError: no point can be read, and the answer is not an empty list.
    """

    def read_one(entries: Mapping[str, Value], _: int) -> Found[npt.NDArray[np.float64]]:
        numbers, mended = mended_point(numbers_at(entries, "point_2d", 2))
        uv_px = pixels(numbers, width=width, height=height)
        return Found(item=uv_px, identity=numbers, mended=mended)

    # One more than are wanted, to see whether there are more.
    reading = read_objects(
        text,
        read_one,
        expected="a 'point_2d' of 2 numbers",
        max_objects=max_objects + 1,
        thinking=thinking,
    )
    uv_px = np.array(reading.value, np.float64).reshape(-1, 2)
    capped = len(uv_px) > max_objects
    beyond = f"more than max_objects {max_objects}, not counted"
    return Reading(
        value=Count(uv_px=uv_px[:max_objects]),
        complete=reading.complete and not capped,
        notes=(*(note for note in reading.notes if "max_objects" not in note), beyond)
        if capped
        else reading.notes,
        text=text,
        number_spans=reading.number_spans[:max_objects],
    )


def _number_spans(numbers: Value, offset: int) -> tuple[Span, ...]:
    assert isinstance(numbers.content, tuple), "as numbers_at says"
    return tuple((offset + item.start, offset + item.stop) for item in numbers.content)


def _mended(numbers: Numbers, task: Task) -> tuple[Numbers, Mended]:
    """Numbers that can be used, and what had to be mended for it."""
    if task is Task.POINT:
        return mended_point(numbers)
    if task is not Task.DETECT_3D:
        return mended_box(numbers)
    if max(map(abs, numbers)) > MAX_3D_NUMBER:
        raise DroppedError(f"'bbox_3d' has a number beyond {MAX_3D_NUMBER:g}")
    if numbers[2] <= 0:
        raise DroppedError("behind the camera (z <= 0)")
    if min(numbers[3:6]) <= 0:
        raise DroppedError("no volume (a size <= 0)")
    return numbers, ()


def _placed(
    label: str,
    numbers: Numbers,
    spans: tuple[Span, ...],
    task: Task,
    *,
    width: int,
    height: int,
) -> AnswerObject:
    """Mended model numbers in pixels or metres."""
    if task is Task.DETECT_3D:
        values = np.array(numbers, np.float64)
        R = rotation_from_half_turns(values[6:])
        box = OrientedBox(T_frame_box=transform_from_rotation(R, values[:3]), size_m=values[3:6])
        return AnswerObject(label=label, number_spans=spans, box=box)
    placed = pixels(numbers, width=width, height=height)
    if task is Task.POINT:
        return AnswerObject(label=label, number_spans=spans, uv_px=placed)
    return AnswerObject(label=label, number_spans=spans, xyxy_px=placed)
