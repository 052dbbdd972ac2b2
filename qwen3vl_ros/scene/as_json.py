# SPDX-License-Identifier: Apache-2.0
"""What was found as plain JSON values, for programs that are not Python.

Knows every value that an answer may hold, and no message type. Lengths are metres, places pixels
of the original picture, times seconds from the first frame, rotations 3x3 matrices. A score that
is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .answers import Count, Moment, Response, Step, TextSpan, TimedBox, Zoom, ZoomedAnswer
from .detections import Detection2D, Detection3D, Grounding, Point2D, Query
from .tools import ToolCall, plain_json


def grounding_as_json(grounding: Grounding) -> Mapping[str, object]:
    """A grounding, places rounded to 0.01 pixels and 0.1 mm."""
    return {
        **_query(grounding.query),
        "complete": grounding.complete,
        "detections_2d": [_found(found) for found in grounding.detections_2d],
        "points": [_found(found) for found in grounding.points],
        "detections_3d": [_solid(found) for found in grounding.detections_3d],
        "notes": [*grounding.warnings, *grounding.notes],
        "answer": grounding.answer_text,
    }


def response_as_json(response: Response) -> Mapping[str, object]:
    """A response; what is under which key, the type of its value says.

    `texts`, `count` with `points`, `words`, `moments`, `boxes`, `words` with `zooms`, or `words`
    with `calls`.
    """
    return {
        **_query(response.query),
        "complete": response.complete,
        **_value(response),
        "notes": [*response.warnings, *response.notes],
        "answer": response.answer_text,
    }


def rounded_score(score: float | None) -> float | None:
    """As it is written: four decimals."""
    return None if score is None else round(score, 4)


def _query(query: Query) -> Mapping[str, object]:
    return {
        "task": query.task.value,
        "text": query.text,
        "categories": list(query.categories),
    }


def _value(response: Response) -> Mapping[str, object]:
    value = response.value
    if isinstance(value, Count):
        scores = value.scores or (None,) * value.number
        points = [
            {"score": rounded_score(score), "uv_px": _rounded(uv_px, 2)}
            for uv_px, score in zip(value.uv_px, scores, strict=True)
        ]
        return {"count": value.number, "points": points}
    if isinstance(value, str):
        return {"words": value}
    if isinstance(value, ZoomedAnswer):
        return {"words": value.words, "zooms": [_zoom(zoom) for zoom in value.zooms]}
    if isinstance(value, Step):
        return {"words": value.words, "calls": [_call(call) for call in value.calls]}
    key = {"spot_text": "texts", "track": "boxes"}.get(response.query.task.value, "moments")
    return {key: [_item(item) for item in value]}


def _item(item: TextSpan | TimedBox | Moment) -> Mapping[str, object]:
    if isinstance(item, Moment):
        return {"start_s": item.start_s, "end_s": item.end_s, "label": item.label}
    placed = {"score": rounded_score(item.score), "xyxy_px": _rounded(item.xyxy_px, 2)}
    if isinstance(item, TextSpan):
        return {"text": item.text, **placed}
    return {"time_s": item.time_s, "label": item.label, **placed}


def _found(found: Detection2D | Point2D) -> Mapping[str, object]:
    place = (
        {"xyxy_px": _rounded(found.xyxy_px, 2)}
        if isinstance(found, Detection2D)
        else {"uv_px": _rounded(found.uv_px, 2)}
    )
    return {"label": found.label, "score": rounded_score(found.score), **place}


def _solid(found: Detection3D) -> Mapping[str, object]:
    return {
        "label": found.label,
        "score": rounded_score(found.score),
        "source": found.source.value,
        "center_m": _rounded(found.box.center_m, 4),
        "size_m": _rounded(found.box.size_m, 4),
        "rotation": _rounded(found.box.T_frame_box[:3, :3], 5),
    }


def _zoom(zoom: Zoom) -> Mapping[str, object]:
    return {
        "picture": zoom.picture,
        "xyxy_px": _rounded(zoom.xyxy_px, 2),
        "label": zoom.label,
    }


def _call(call: ToolCall) -> Mapping[str, object]:
    return {"name": call.name, "arguments": plain_json(call.arguments)}


def _rounded(values: npt.NDArray[np.float64], decimals: int) -> list[object]:
    rounded: list[object] = values.round(decimals).tolist()
    return rounded
