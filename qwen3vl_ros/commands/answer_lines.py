# SPDX-License-Identifier: Apache-2.0
"""What was found in lines for people; programs read JSON (`scene/as_json.py`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..image.drawing import caption
from ..scene.answers import Count, Moment, Response, Step, TextSpan, TimedBox, ZoomedAnswer
from ..scene.detections import Grounding
from ..scene.tools import plain_json


def grounding_lines(grounding: Grounding) -> Iterator[str]:
    """A line for each thing found, then remarks."""
    for box in grounding.detections_2d:
        yield f"{caption(box.label, box.score)}: box {_numbers(box.xyxy_px)} px"
    for point in grounding.points:
        yield f"{caption(point.label, point.score)}: at {_numbers(point.uv_px)} px"
    for solid in grounding.detections_3d:
        yield (
            f"{caption(solid.label, solid.score)}: centre {_numbers(solid.box.center_m, 2)} m, "
            f"size {_numbers(solid.box.size_m, 2)} m, from {solid.source.value}"
        )
    if not (grounding.detections_2d or grounding.points or grounding.detections_3d):
        yield "looked, and saw none"
    yield from _remarks(grounding.complete, grounding.notes)


def response_lines(response: Response) -> Iterator[str]:
    """A line for each thing found, or what was said, then remarks."""
    value = response.value
    if isinstance(value, Count):
        yield str(value.number)
        yield from (f"at {_numbers(uv_px)} px" for uv_px in value.uv_px)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, ZoomedAnswer):
        yield value.words
        for zoom in value.zooms:
            what = zoom.label or "a part"
            yield f"looked closer at {what} of picture {zoom.picture}: {_numbers(zoom.xyxy_px)} px"
    elif isinstance(value, Step):
        yield from (line for line in (value.words,) if line)
        for call in value.calls:
            yield f"calls {call.name} {json.dumps(plain_json(call.arguments))}"
    else:
        yield from map(_item_line, value)
        if not value:
            yield "looked, and found none"
    yield from _remarks(response.complete, response.notes)


def _item_line(item: TextSpan | TimedBox | Moment) -> str:
    if isinstance(item, Moment):
        return f"{item.start_s:.1f} to {item.end_s:.1f} s  {item.label}".rstrip()
    what = (
        item.text if isinstance(item, TextSpan) else f"{item.time_s:.1f} s {item.label}".rstrip()
    )
    return f"{caption(what, item.score)}: box {_numbers(item.xyxy_px)} px"


def _remarks(complete: bool, notes: Sequence[str]) -> Iterator[str]:
    if not complete:
        yield "note: the answer is not complete"
    yield from (f"note: {note}" for note in notes)


def _numbers(values: npt.NDArray[np.float64], decimals: int = 0) -> str:
    return " ".join(f"{value:.{decimals}f}" for value in values)
