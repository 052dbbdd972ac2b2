# SPDX-License-Identifier: Apache-2.0
"""The cases that went worst, as pictures: the truth in blue, the answer in orange.

Faults come first, then the least right. What is right altogether is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..image.drawing import annotated_image
from ..scene.camera import Frame, Intrinsics
from ..scene.clip import Clip
from ..scene.detections import BoxSource, Detection2D, Detection3D, Point2D
from .case import Boxes, Case, Number, Places, Solids, Span, Texts, Truth, Wording
from .given import Given

TRUTH_COLOUR = (0, 114, 178)  # Okabe and Ito's blue and orange, told apart by everybody
ANSWER_COLOUR = (230, 159, 0)
_WIDTH_PX = 480
_JPEG_QUALITY = 85
_MOST_FRAMES = 4  # of a clip


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCase:
    """One case for people to look at.

    Attributes:
        case: the case.
        given: its answer.
        score: how right that is.
        jpeg: what it is about, with truth and answer drawn on it.
    """

    case: Case
    given: Given
    score: float
    jpeg: bytes


def worst_cases(
    cases: Sequence[Case],
    given: Mapping[str, Given],
    scores: Mapping[str, float],
    *,
    most: int,
) -> Sequence[WorstCase]:
    """At most `most` that are not right: of each group in turn, its worst first."""
    wrong = sorted(
        (case for case in cases if scores[case.case_id] < 1.0),
        key=lambda case: (given[case.case_id].fault is None, scores[case.case_id]),
    )
    groups = list(dict.fromkeys(case.group for case in cases))
    by_group = [[case for case in wrong if case.group == group] for group in groups]
    chosen: list[Case] = []
    for rank in range(max(map(len, by_group), default=0)):
        chosen += [members[rank] for members in by_group if rank < len(members)]
    return [
        WorstCase(
            case=case,
            given=given[case.case_id],
            score=scores[case.case_id],
            jpeg=_jpeg(_drawn(case, given[case.case_id])),
        )
        for case in chosen[:most]
    ]


def truth_in_words(truth: Truth) -> str:
    """What would have been right, for people."""
    if isinstance(truth, Boxes):
        names = [box.label for box in truth.boxes]
    elif isinstance(truth, Solids):
        names = [
            solid.label if solid.counts else f"{solid.label} (does not count)"
            for solid in truth.solids
        ]
    elif isinstance(truth, Places):
        names = [f"{len(truth.places)} places"] * bool(truth.places)
    elif isinstance(truth, Number):
        return str(truth.number)
    elif isinstance(truth, Texts):
        names = [text.text for text in truth.texts]
    elif isinstance(truth, Wording):
        return " or ".join(truth.accepted)
    else:
        return f"{truth.start_s:.1f} to {truth.end_s:.1f} s"
    return ", ".join(names) or "nothing"


def _drawn(case: Case, given: Given) -> npt.NDArray[np.uint8]:
    frames = [
        frame
        for view in case.views()
        for frame in (view.frames[:: _step(view)] if isinstance(view, Clip) else [view])
    ]
    images = [_drawn_on(frame, case.truth, given) for frame in frames]
    height = images[0].shape[0]
    return np.concatenate([image for image in images if image.shape[0] == height], axis=1)


def _step(clip: Clip) -> int:
    return max(1, -(-len(clip.frames) // _MOST_FRAMES))


def _drawn_on(frame: Frame, truth: Truth, given: Given) -> npt.NDArray[np.uint8]:
    intrinsics: Intrinsics | None = frame.intrinsics
    with_truth = annotated_image(
        frame.image,
        detections_2d=[
            Detection2D(label="", xyxy_px=xyxy_px, score=None) for xyxy_px in _true_boxes(truth)
        ],
        detections_3d=[
            Detection3D(label="", box=solid.box, score=None, source=BoxSource.MODEL)
            for solid in (truth.solids if isinstance(truth, Solids) else ())
        ],
        intrinsics=intrinsics,
        colour=TRUTH_COLOUR,
    )
    spotted = [Detection2D(label=t.text, xyxy_px=t.xyxy_px, score=t.score) for t in given.texts]
    return annotated_image(
        with_truth,
        detections_2d=[*given.boxes, *spotted],
        points=[
            Point2D(label=point.label, uv_px=point.uv_px, score=point.score)
            for point in given.points
        ],
        detections_3d=given.solids if isinstance(truth, Solids) else (),
        intrinsics=intrinsics,
        colour=ANSWER_COLOUR,
    )


def _true_boxes(truth: Truth) -> Sequence[npt.NDArray[np.float64]]:
    if isinstance(truth, Boxes):
        return [box.xyxy_px for box in truth.boxes]
    if isinstance(truth, Places):
        return [place.xyxy_px for place in truth.places]
    if isinstance(truth, Texts):
        return [text.xyxy_px for text in truth.texts]
    assert isinstance(truth, Solids | Number | Wording | Span), "a new kind of truth"
    return []


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    height, width = image.shape[:2]
    if width > _WIDTH_PX:
        size = (_WIDTH_PX, round(height * _WIDTH_PX / width))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(data)
