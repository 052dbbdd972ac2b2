# SPDX-License-Identifier: Apache-2.0
"""Which of the model's 3D boxes belongs to which 2D box, when they came from two questions.

Knows no model. With intrinsics a 3D box is held against the picture; without, the two lists can
only be taken in their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .camera import Intrinsics
from .detections import Detection2D, Detection3D
from .geometry import Array, overlap_of_boxes

# A model's own 3D box may be well off in depth and size, its direction is good: the outline of the
# right object overlaps the 2D box by far more than this.
MIN_OVERLAP = 0.1


def matched_boxes(
    detections: Sequence[Detection2D],
    boxes: Sequence[Detection3D],
    intrinsics: Intrinsics | None,
) -> tuple[Detection3D | None, ...]:
    """For each 2D detection the 3D box of the same object, or None; no box is given twice.

    Args:
        detections: boxes in the picture of `intrinsics`.
        boxes: in the camera optical frame.
        intrinsics: None pairs first with first, second with second.
    """
    if intrinsics is None:
        padded = [*boxes, *[None] * len(detections)]
        return tuple(padded[: len(detections)])
    outlines = [outline_xyxy_px(box, intrinsics) for box in boxes]
    overlaps = sorted(
        (
            (overlap_of_boxes(detection.xyxy_px, outline), i, j)
            for i, detection in enumerate(detections)
            for j, outline in enumerate(outlines)
            if outline is not None
        ),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    matched: list[Detection3D | None] = [None] * len(detections)
    taken: set[int] = set()
    for overlap, i, j in overlaps:
        if overlap >= MIN_OVERLAP and matched[i] is None and j not in taken:
            matched[i] = boxes[j]
            taken.add(j)
    return tuple(matched)


def outline_xyxy_px(detection: Detection3D, intrinsics: Intrinsics) -> Array | None:
    """(4,) float64, the rectangle around a 3D box in the picture; None if part is behind it."""
    corners = intrinsics.project(detection.box.corners())
    if not np.isfinite(corners).all():
        return None
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
