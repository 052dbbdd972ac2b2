# SPDX-License-Identifier: Apache-2.0
"""What is asked (`Query`) and what is found (`Grounding`): frozen values, nothing computed.

Knows neither the model's answer format (`language/parsing.py`) nor any message type.

Pixels: of the original image, (u, v) = (column, row), as `xyxy_px` = left, top, right, bottom.
Frame:  everything 3D is in the camera optical frame named by `Grounding.frame_id`, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from ..errors import QueryError
from .geometry import OrientedBox

MAX_QUERY_CHARACTERS = 2000


class Task(Enum):
    """Kinds of question; each has its own trained prompt and answer format."""

    DETECT = "detect"  # every instance of the given categories, as 2D boxes
    REFER = "refer"  # every object that matches a description, as 2D boxes
    POINT = "point"  # a point on every object that matches a description
    DETECT_3D = "detect_3d"  # every instance of one category, as the model's own 3D boxes


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question about one picture, in plain words.

    Attributes:
        task: the kind of question.
        text: description ("the red mug left of the laptop"); empty for DETECT.
        categories: for DETECT, the categories to look for; empty otherwise.
        query_id: chosen by the asker, returned with every answer.
        max_objects: more than this many are not read; bounds the length of the answer.
    """

    task: Task
    text: str = ""
    categories: tuple[str, ...] = ()
    query_id: str = ""
    max_objects: int = 20

    def __post_init__(self) -> None:
        if self.task is Task.DETECT:
            wanted = [category for category in self.categories if category.strip()]
            if not wanted or len(wanted) != len(self.categories):
                raise QueryError(
                    f"a 'detect' query has categories {list(self.categories)}; expected at least "
                    "one, none of them empty: name what to look for, for example ['mug', 'laptop']"
                )
        elif not self.text.strip():
            raise QueryError(
                f"a '{self.task.value}' query has no text; say in words what to look for, for "
                "example 'the red mug left of the laptop'"
            )
        length = len(self.text) + sum(map(len, self.categories))
        if length > MAX_QUERY_CHARACTERS:
            raise QueryError(
                f"the query is {length} characters long, expected at most {MAX_QUERY_CHARACTERS}"
            )
        if self.max_objects < 1:
            raise QueryError(f"max_objects is {self.max_objects}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection2D:
    """An object as a box in the picture.

    Attributes:
        label: what the model called it.
        xyxy_px: (4,) float64, pixels.
        score: 0 to 1, how sure the model was of the box's own tokens.
    """

    label: str
    xyxy_px: npt.NDArray[np.float64]
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Point2D:
    """A point on an object: `uv_px` (2,) float64, pixels."""

    label: str
    uv_px: npt.NDArray[np.float64]
    score: float


class BoxSource(Enum):
    """What a 3D box was made from."""

    MODEL = "model"  # the model's own bbox_3d, from the picture alone
    DEPTH = "depth"  # depth pixels inside the 2D box


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection3D:
    """An object as an oriented box in the camera optical frame."""

    label: str
    box: OrientedBox
    score: float
    source: BoxSource


@dataclass(frozen=True, kw_only=True, slots=True)
class Grounding:
    """The answer to one query about one frame.

    Attributes:
        stamp_ns: the frame's.
        frame_id: the camera optical frame that all 3D numbers are in.
        query: what was asked.
        detections_2d: empty means "looked, and saw nothing".
        points: for POINT queries.
        detections_3d: may hold fewer than `detections_2d` (no depth inside a box).
        complete: False when a truncated tail of the answer was dropped.
        answer_text: the model's words, untrusted.
        notes: what was done otherwise than asked, one sentence each, for diagnostics.
    """

    stamp_ns: int
    frame_id: str
    query: Query
    detections_2d: tuple[Detection2D, ...] = ()
    points: tuple[Point2D, ...] = ()
    detections_3d: tuple[Detection3D, ...] = ()
    complete: bool = True
    answer_text: str = ""
    notes: tuple[str, ...] = field(default=())
