# SPDX-License-Identifier: Apache-2.0
"""A question whose true answer is known in the model's own words becomes a truth.

Whoever makes questions to learn from knows their answers as text. Read by the readers that read
the model, that text is what an answer can be held against; no second kind of truth has to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from ..language.answers import read_answer
from ..language.parsing import Answer
from ..scene.answers import Count, Moment, TextSpan
from ..scene.detections import Query, Task
from .asked_categories import same_words
from .case import (
    Boxes,
    Number,
    Place,
    Places,
    Solids,
    Span,
    Texts,
    TrueBox,
    TrueSolid,
    TrueText,
    Truth,
    Wording,
)


def truth_of_answer(
    query: Query,
    answer: str,
    *,
    width: int,
    height: int,
    duration_s: float = math.inf,
    places: Sequence[Place] = (),
) -> Truth:
    """What would be right.

    Args:
        query: what is asked.
        answer: the true answer, word for word as the model should say it.
        width: of the picture, pixels.
        height: likewise.
        duration_s: of the clip.
        places: where each object of the answer truly is, in its order. POINT needs them, for a
            point has no extent; DETECT and REFER take their boxes, which thousandths of a
            picture's side cannot say so well.

    Raises:
        AnswerError: the answer cannot be read, so no model could be right.
        ValueError: there are not as many places as objects, or the task is not scored.
    """
    reading = read_answer(answer, query, width=width, height=height, duration_s=duration_s)
    if isinstance(reading, Answer):
        return _spatial(query, reading, tuple(places))
    value = reading.value
    if isinstance(value, Count):
        return Number(number=value.number)
    if isinstance(value, str):
        return Wording(accepted=(value,))
    if query.task is Task.SPOT_TEXT and isinstance(value, tuple):
        spans = [item for item in value if isinstance(item, TextSpan)]
        return Texts(texts=tuple(TrueText(text=s.text, xyxy_px=s.xyxy_px) for s in spans))
    moments = [item for item in value if isinstance(item, Moment)] if _is_row(value) else []
    if query.task is not Task.LOCATE_MOMENT or len(moments) != 1:
        raise ValueError(f"an answer to '{query.task.value}' with {value!r:.80} is not scored")
    return Span(start_s=moments[0].start_s, end_s=moments[0].end_s)


def _spatial(query: Query, answer: Answer, places: tuple[Place, ...]) -> Truth:
    if query.task is Task.DETECT_3D:
        boxes = [found.box for found in answer.objects if found.box is not None]
        return Solids(solids=tuple(TrueSolid(label=query.text, box=box) for box in boxes))
    if (places or query.task is Task.POINT) and len(places) != len(answer.objects):
        raise ValueError(f"{len(places)} places for the {len(answer.objects)} objects answered")
    if query.task is Task.POINT:
        return Places(places=places)
    told = [found.xyxy_px for found in answer.objects if found.xyxy_px is not None]
    exact = [place.xyxy_px for place in places] or told
    return Boxes(
        boxes=tuple(
            TrueBox(
                label=_asked_for(query, found.label),
                xyxy_px=xyxy_px,
                area_px=float(np.prod(xyxy_px[2:] - xyxy_px[:2])),
            )
            for found, xyxy_px in zip(answer.objects, exact, strict=True)
        )
    )


def _asked_for(query: Query, label: str) -> str:
    """The category that a label is of; REFER's label is its text."""
    if query.task is Task.REFER:
        return query.text
    named = [name for name in query.categories if same_words(name, label)]
    if len(query.categories) == 1:
        named = list(query.categories)
    if not named:
        raise ValueError(f"the true answer names '{label}', which was not asked for")
    return named[0]


def _is_row(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)
