# SPDX-License-Identifier: Apache-2.0
"""What a model gave when it was asked a case, as a value and as JSON, number for number.

An answer that could not be read is a `Fault`, never "nothing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from ..scene.answers import Count, Moment, Response, TextSpan
from ..scene.detections import BoxSource, Detection2D, Detection3D, Grounding, Point2D
from ..scene.geometry import OrientedBox, transform_from_rotation


class Fault(Enum):
    """Why a case has no answer."""

    UNREADABLE = "unreadable"  # the model answered, and nobody can read it
    NO_ROOM = "no_room"  # prompt and answer do not fit the model's context


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """One answer; which of the values it fills, the case's task says.

    Attributes:
        case_id: of the case.
        seconds: from question to answer.
        words: the model's, untrusted.
        fault: why there is no answer; None when there is.
        remark: what was wrong with it, for people.
        complete: False when a truncated tail was dropped.
        notes: what else was dropped or mended to read it, one sentence each.
        boxes: of DETECT and REFER.
        points: of POINT and COUNT.
        solids: of DETECT_3D; lifted by depth for other spatial tasks.
        texts: of SPOT_TEXT.
        moments: of LOCATE_MOMENT.
        number: of COUNT.
    """

    case_id: str
    seconds: float
    words: str
    fault: Fault | None = None
    remark: str = ""
    complete: bool = True
    notes: tuple[str, ...] = ()
    boxes: tuple[Detection2D, ...] = ()
    points: tuple[Point2D, ...] = ()
    solids: tuple[Detection3D, ...] = ()
    texts: tuple[TextSpan, ...] = ()
    moments: tuple[Moment, ...] = ()
    number: int | None = None


def given_by(case_id: str, answer: Grounding | Response, *, seconds: float) -> Given:
    """What an answer holds that a truth can be compared with."""
    if isinstance(answer, Grounding):
        return Given(
            case_id=case_id,
            seconds=seconds,
            words=answer.answer_text,
            complete=answer.complete,
            notes=answer.notes,
            boxes=answer.detections_2d,
            points=answer.points,
            solids=answer.detections_3d,
        )
    value = answer.value
    items = value if isinstance(value, tuple) else ()
    return Given(
        case_id=case_id,
        seconds=seconds,
        words=value if isinstance(value, str) else answer.answer_text,
        complete=answer.complete,
        notes=answer.notes,
        texts=tuple(item for item in items if isinstance(item, TextSpan)),
        moments=tuple(item for item in items if isinstance(item, Moment)),
        number=value.number if isinstance(value, Count) else None,
        points=_counted(value) if isinstance(value, Count) else (),
    )


def _counted(count: Count) -> tuple[Point2D, ...]:
    scores = count.scores or (None,) * count.number
    return tuple(
        Point2D(label=str(i), uv_px=uv_px, score=score)
        for i, (uv_px, score) in enumerate(zip(count.uv_px, scores, strict=True), start=1)
    )


def given_as_json(given: Given) -> Mapping[str, object]:
    """Every number as it is; fields that say nothing are left out."""
    values: dict[str, object] = {
        "case": given.case_id,
        "seconds": round(given.seconds, 4),
        "words": given.words,
    }
    if given.fault is not None:
        return {**values, "fault": given.fault.value, "remark": given.remark}
    if not given.complete:
        values["complete"] = False
    if given.number is not None:
        values["number"] = given.number
    lists: dict[str, Sequence[object]] = {
        "notes": list(given.notes),
        "boxes": [_placed(box.label, box.score, xyxy_px=box.xyxy_px) for box in given.boxes],
        "points": [_placed(point.label, point.score, uv_px=point.uv_px) for point in given.points],
        "solids": [_solid(solid) for solid in given.solids],
        "texts": [_placed(text.text, text.score, xyxy_px=text.xyxy_px) for text in given.texts],
        "moments": [[moment.start_s, moment.end_s, moment.label] for moment in given.moments],
    }
    return {**values, **{name: items for name, items in lists.items() if items}}


def given_from_json(values: Mapping[str, Any]) -> Given:
    """The inverse of `given_as_json`.

    Raises:
        KeyError, TypeError, ValueError: it is not what `given_as_json` made.
    """
    fault = values.get("fault")
    return Given(
        case_id=str(values["case"]),
        seconds=float(values["seconds"]),
        words=str(values["words"]),
        fault=None if fault is None else Fault(fault),
        remark=str(values.get("remark", "")),
        complete=bool(values.get("complete", True)),
        notes=tuple(map(str, values.get("notes", ()))),
        boxes=tuple(
            Detection2D(label=box["label"], score=box["score"], xyxy_px=_array(box["xyxy_px"]))
            for box in values.get("boxes", ())
        ),
        points=tuple(
            Point2D(label=point["label"], score=point["score"], uv_px=_array(point["uv_px"]))
            for point in values.get("points", ())
        ),
        solids=tuple(
            Detection3D(
                label=solid["label"],
                score=solid["score"],
                box=OrientedBox(
                    T_frame_box=transform_from_rotation(
                        _array(solid["rotation"]), _array(solid["center_m"])
                    ),
                    size_m=_array(solid["size_m"]),
                ),
                source=BoxSource(solid["source"]),
            )
            for solid in values.get("solids", ())
        ),
        texts=tuple(
            TextSpan(text=text["label"], score=text["score"], xyxy_px=_array(text["xyxy_px"]))
            for text in values.get("texts", ())
        ),
        moments=tuple(
            Moment(start_s=start_s, end_s=end_s, label=label)
            for start_s, end_s, label in values.get("moments", ())
        ),
        number=values.get("number"),
    )


def _placed(
    label: str, score: float | None, **place: npt.NDArray[np.float64]
) -> Mapping[str, object]:
    return {
        "label": label,
        "score": score,
        **{name: numbers.tolist() for name, numbers in place.items()},
    }


def _solid(solid: Detection3D) -> Mapping[str, object]:
    return {
        "label": solid.label,
        "score": solid.score,
        "source": solid.source.value,
        "center_m": solid.box.center_m.tolist(),
        "size_m": solid.box.size_m.tolist(),
        "rotation": solid.box.T_frame_box[:3, :3].tolist(),
    }


def _array(values: object) -> npt.NDArray[np.float64]:
    return np.array(values, np.float64)
