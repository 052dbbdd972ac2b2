# SPDX-License-Identifier: Apache-2.0
"""What the tasks beyond the spatial ones find: text, counts, moments, boxes in time, zooms, steps.

Frozen values, nothing computed. Knows neither the model's answer formats (`language/answers.py`)
nor any message type. `Response` is to these tasks what `Grounding` is to the spatial ones.

Pixels: of the original image, (u, v) = (column, row), as `xyxy_px` = left, top, right, bottom.
Time:   seconds from the first frame of the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .detections import Query
from .tools import ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSpan:
    """A piece of text in a picture.

    Attributes:
        text: as read, untrusted.
        xyxy_px: (4,) float64, pixels.
        score: as of a `Detection2D`.
    """

    text: str
    xyxy_px: npt.NDArray[np.float64]
    score: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How many, and which.

    Attributes:
        uv_px: (N, 2) float64, pixels, a point on each.
        scores: of each, as of a `Detection2D`; None where the model does not tell.
    """

    uv_px: npt.NDArray[np.float64]
    scores: tuple[float, ...] | None = None

    @property
    def number(self) -> int:
        """How many; 0 means "looked, and saw none"."""
        return len(self.uv_px)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When something happens.

    Attributes:
        start_s: seconds from the first frame of the video.
        end_s: likewise; never before `start_s`, equal to it for an instant.
        label: what happens, as the model put it; empty where the question said it.
    """

    start_s: float
    end_s: float
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedBox:
    """Something in one frame of a video.

    Attributes:
        time_s: of the frame, as the model put it: seconds from the first frame.
        xyxy_px: (4,) float64, pixels.
        label: what the model called it; may be empty, the question said what it is.
        score: as of a `Detection2D`.
    """

    time_s: float
    xyxy_px: npt.NDArray[np.float64]
    label: str = ""
    score: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Zoom:
    """A wish to see part of a picture larger.

    Attributes:
        picture: index, from 0, among the pictures that the user sent; crops do not count.
        xyxy_px: (4,) float64, pixels of that picture, whole, however often it was zoomed into.
        label: what the model hopes to see there.
    """

    picture: int
    xyxy_px: npt.NDArray[np.float64]
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One turn of a model that may call tools.

    Attributes:
        words: what it says, untrusted; without calls, its answer. May be empty beside calls.
        calls: what it asks to have done, in order, untrusted.
    """

    words: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ZoomedAnswer:
    """An answer in words, and what was looked at more closely for it, in order."""

    words: str
    zooms: tuple[Zoom, ...]


# By task: SPOT_TEXT, COUNT, ASK and COMPARE, LOCATE_MOMENT and LIST_EVENTS, TRACK, ZOOM, ACT.
ResponseValue: TypeAlias = (
    "tuple[TextSpan, ...] | Count | str | tuple[Moment, ...] | tuple[TimedBox, ...] "
    "| ZoomedAnswer | Step"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """The answer to one query that is not a spatial one.

    Attributes:
        stamp_ns: of the first frame that was shown; times in `value` count from it.
        frame_id: of the camera that took it.
        query: what was asked.
        value: what was found, by the query's task; an empty one means "looked, and found nothing".
        complete: False when a truncated tail of the answer was dropped.
        answer_text: the model's words, untrusted.
        notes: what was done otherwise than asked, one sentence each.
        warnings: why the whole answer may not be what was asked for, one sentence each, for a log.
    """

    stamp_ns: int
    frame_id: str
    query: Query
    value: ResponseValue
    complete: bool
    answer_text: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
