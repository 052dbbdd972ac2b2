# SPDX-License-Identifier: Apache-2.0
"""What is asked (`Query`) and what is found (`Grounding`): frozen values, nothing computed.

Knows neither the model's answer formats (`language/answers.py`) nor any message type. What the
tasks beyond the spatial ones find is in `scene/answers.py`.

Pixels: of the original image, (u, v) = (column, row), as `xyxy_px` = left, top, right, bottom.
Frame:  everything 3D is in the camera optical frame named by `Grounding.frame_id`, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from ..errors import QueryError
from .geometry import OrientedBox
from .tools import Tool

MAX_QUERY_CHARACTERS = 2000
# An answer of so many boxes takes 34,000 tokens; more is a mistake, and no server's limit.
MAX_OBJECTS = 1000


class Task(Enum):
    """Kinds of question; each has its own trained prompt and answer format."""

    DETECT = "detect"  # every instance of the given categories, as 2D boxes
    REFER = "refer"  # every object that matches a description, as 2D boxes
    POINT = "point"  # a point on every object that matches a description
    DETECT_3D = "detect_3d"  # every instance of one category, as the model's own 3D boxes
    SPOT_TEXT = "spot_text"  # every line or word of text, read and boxed
    COUNT = "count"  # how many objects match a description, by pointing at each
    ASK = "ask"  # any question, answered in words
    COMPARE = "compare"  # a question about several pictures, answered in words
    LOCATE_MOMENT = "locate_moment"  # when something happens in a video
    LIST_EVENTS = "list_events"  # everything that happens in a video, with its times
    TRACK = "track"  # where something is at each time of a video, as 2D boxes
    ZOOM = "zoom"  # a question for which the model may ask to see a crop first
    ACT = "act"  # an instruction, carried out by calling the tools that are offered

    @property
    def query(self) -> str:
        """A query of this task in a sentence: "an 'act' query", "a 'zoom' query"."""
        return f"{'an' if self.value[0] in 'aeiou' else 'a'} '{self.value}' query"


# What a `Grounding` answers, and what may be the node's standing question.
SPATIAL_TASKS = (Task.DETECT, Task.REFER, Task.POINT, Task.DETECT_3D)
VIDEO_TASKS = (Task.LOCATE_MOMENT, Task.LIST_EVENTS, Task.TRACK)
# About one picture, and answered in its pixels, as the spatial ones are.
ONE_PICTURE_TASKS = (Task.SPOT_TEXT, Task.COUNT)
TASKS_WITHOUT_TEXT = (Task.SPOT_TEXT, Task.LIST_EVENTS)


class TextLevel(Enum):
    """What counts as one piece of text."""

    LINE = "line"
    WORD = "word"


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question about what a camera saw, in plain words.

    Attributes:
        task: the kind of question.
        text: description ("the red mug left of the laptop"), question or instruction; empty for
            DETECT, SPOT_TEXT and LIST_EVENTS, whose prompts hold none.
        categories: for DETECT, the categories to look for; empty otherwise.
        query_id: chosen by the asker, returned with every answer.
        max_objects: more than this many are not read; bounds the length of the answer.
        text_level: for SPOT_TEXT, lines or words.
        tools: for ACT, what may be called; at least one. ZOOM brings its own.
    """

    task: Task
    text: str = ""
    categories: tuple[str, ...] = ()
    query_id: str = ""
    max_objects: int = 20
    text_level: TextLevel = TextLevel.LINE
    tools: tuple[Tool, ...] = ()

    def __post_init__(self) -> None:
        if self.task is Task.DETECT:
            wanted = [category for category in self.categories if category.strip()]
            if not wanted or len(wanted) != len(self.categories):
                raise QueryError(
                    f"a 'detect' query has categories {list(self.categories)}; expected at least "
                    "one, none of them empty: name what to look for, for example ['mug', 'laptop']"
                )
        elif self.task in TASKS_WITHOUT_TEXT:
            if self.text.strip():
                raise QueryError(
                    f"{self.task.query} has the text '{self.text[:64]}', expected none: "
                    "its prompt has no room for one"
                )
        elif not self.text.strip():
            raise QueryError(
                f"{self.task.query} has no text; say in words what to look for, for "
                "example 'the red mug left of the laptop'"
            )
        if bool(self.tools) != (self.task is Task.ACT):
            raise QueryError(
                f"{self.task.query} has {len(self.tools)} tools; an 'act' query needs "
                "at least one to call, and no other takes any"
            )
        try:
            " ".join((self.text, *self.categories)).encode()
        except UnicodeEncodeError as error:
            raise QueryError(
                "the query holds half a character (a lone surrogate, as bytes that are not UTF-8 "
                "become), expected text in UTF-8; type it anew"
            ) from error
        length = len(self.text) + sum(map(len, self.categories))
        if length > MAX_QUERY_CHARACTERS:
            raise QueryError(
                f"the query is {length} characters long, expected at most {MAX_QUERY_CHARACTERS}"
            )
        if not 1 <= self.max_objects <= MAX_OBJECTS:
            raise QueryError(f"max_objects is {self.max_objects}, expected 1 to {MAX_OBJECTS}")

    def require_spatial(self) -> None:
        """Refuse a question whose answer is not a `Grounding`.

        Raises:
            QueryError: the task is none of SPATIAL_TASKS.
        """
        if self.task not in SPATIAL_TASKS:
            raise QueryError(
                f"{self.task.query} cannot be grounded in one picture, expected one of "
                f"{', '.join(task.value for task in SPATIAL_TASKS)}; ask it of `Perception.ask`"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection2D:
    """An object as a box in the picture.

    Attributes:
        label: what the model called it.
        xyxy_px: (4,) float64, pixels.
        score: 0 to 1, how sure the model was of the box's own tokens; None where a model server
            does not tell.
    """

    label: str
    xyxy_px: npt.NDArray[np.float64]
    score: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Point2D:
    """A point on an object: `uv_px` (2,) float64, pixels."""

    label: str
    uv_px: npt.NDArray[np.float64]
    score: float | None


class BoxSource(Enum):
    """What a 3D box was made from."""

    MODEL = "model"  # the model's own bbox_3d, from the picture alone
    DEPTH = "depth"  # depth pixels inside the 2D box


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection3D:
    """An object as an oriented box in the camera optical frame."""

    label: str
    box: OrientedBox
    score: float | None
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
        warnings: why the whole answer may not be what was asked for, one sentence each, for a log.
    """

    stamp_ns: int
    frame_id: str
    query: Query
    detections_2d: tuple[Detection2D, ...] = ()
    points: tuple[Point2D, ...] = ()
    detections_3d: tuple[Detection3D, ...] = ()
    complete: bool = True
    answer_text: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
