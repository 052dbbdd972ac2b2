# SPDX-License-Identifier: Apache-2.0
"""One question and what would be right; many of them are a data set.

Knows no file format (`coco_data.py`, `refcoco_data.py`, `omni3d_data.py` read them) and no model.
A truth that holds nothing means that the right answer is "nothing".

Pixels: of the original picture. Frame: camera optical frame, metres. Time: seconds from the first
frame of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..model.vision_language_model import View
from ..scene.detections import Query
from ..scene.geometry import OrientedBox


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueBox:
    """An object as a box in the picture.

    Attributes:
        label: the category, as it was asked for.
        xyxy_px: (4,) float64, pixels.
        area_px: of what the box is around, for COCO's small, medium and large.
        counts: False for a crowd: an answer on it is neither right nor wrong.
        solid: the object itself, where depth can lift the box to it; None where there is none.
    """

    label: str
    xyxy_px: npt.NDArray[np.float64]
    area_px: float
    counts: bool = True
    solid: OrientedBox | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueSolid:
    """An object as an oriented box; one that does not count is neither asked nor punished."""

    label: str
    box: OrientedBox
    counts: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxes:
    """Truth of DETECT and REFER.

    Attributes:
        boxes: every object that was asked for. Of REFER most often one.
        not_exhaustive: categories of which the picture may hold more than is annotated (LVIS).
        is_federated: whether only the categories asked are known of this picture (LVIS).
    """

    boxes: tuple[TrueBox, ...]
    not_exhaustive: tuple[str, ...] = ()
    is_federated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Solids:
    """Truth of DETECT_3D: every object of the category that was asked for."""

    solids: tuple[TrueSolid, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a point is right: inside the box, and on the mask where there is one.

    Attributes:
        xyxy_px: (4,) float64, pixels.
        mask: (h, w) bool, of the whole picture.
    """

    xyxy_px: npt.NDArray[np.float64]
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Truth of POINT: one place for each object."""

    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """Truth of COUNT."""

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueText:
    """A word or line that is written in the picture; `xyxy_px` (4,) float64, pixels."""

    text: str
    xyxy_px: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """Truth of SPOT_TEXT: everything that is written."""

    texts: tuple[TrueText, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """Truth of ASK and COMPARE: any of these words, whatever their case and full stop."""

    accepted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Truth of LOCATE_MOMENT."""

    start_s: float
    end_s: float


Truth: TypeAlias = "Boxes | Solids | Places | Number | Texts | Wording | Span"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One question, what it is about, and what would be right.

    Attributes:
        case_id: unique in its data set and the same in every run: interrupted runs go on by it.
        picture_id: of what it is about; cases of one picture stand together.
        group: under which heading its result counts, for example "refer" or "relations".
        views: loads what it is about.
        query: what is asked.
        truth: what would be right.
    """

    case_id: str
    picture_id: str
    group: str
    views: Callable[[], tuple[View, ...]]
    query: Query
    truth: Truth

    @property
    def is_about_nothing(self) -> bool:
        """Whether the right answer is "nothing"."""
        truth = self.truth
        if isinstance(truth, Boxes):
            return not truth.boxes
        if isinstance(truth, Solids):
            return not truth.solids
        if isinstance(truth, Places):
            return not truth.places
        if isinstance(truth, Texts):
            return not truth.texts
        return isinstance(truth, Number) and truth.number == 0


def picture_order(case: Case) -> tuple[int, str]:
    """Sorts cases as evaluations sort pictures: by their numbers, where they are numbers."""
    picture_id = case.picture_id
    return (int(picture_id), "") if picture_id.isdecimal() else (-1, picture_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """Questions, and where they come from.

    Attributes:
        cases: in the order in which they are asked.
        identity: which files, and what was chosen of them; the same words, the same cases.
        remarks: what was left out, one sentence each.
    """

    cases: tuple[Case, ...]
    identity: Mapping[str, str]
    remarks: tuple[str, ...] = field(default=())
