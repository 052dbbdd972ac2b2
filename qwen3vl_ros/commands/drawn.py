# SPDX-License-Identifier: Apache-2.0
"""An answer drawn on what it was asked about, written as one picture.

Pictures and frames of a video stand side by side. Where the camera is not calibrated, the model's
own 3D boxes are drawn as its developers draw them: with a field of view of 60 degrees
(QwenLM/Qwen3-VL, cookbooks/3d_grounding.ipynb).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import FrameError
from ..image.drawing import annotated_image
from ..model.vision_language_model import View
from ..scene.answers import Count, Response, TextSpan, TimedBox, ZoomedAnswer
from ..scene.camera import Frame, Intrinsics
from ..scene.clip import Clip
from ..scene.detections import Detection2D, Grounding, Point2D
from .views import centred

_ASSUMED_FIELD_OF_VIEW = math.radians(60)
_MOST_FRAMES = 8  # of a video

_Image = npt.NDArray[np.uint8]


def write_drawn(views: Sequence[View], answer: Grounding | Response, path: Path) -> None:
    """Write the picture.

    Raises:
        FrameError: it cannot be written.
    """
    if isinstance(answer, Grounding):
        drawn = _drawn_grounding(views[0], answer)
    else:
        drawn = _side_by_side(_drawn_response(views, answer))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_written = cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    except OSError:
        is_written = False
    if not is_written:
        raise FrameError(f"cannot write the drawn picture to '{path}'; may this user write there?")


def _drawn_grounding(view: View, grounding: Grounding) -> _Image:
    assert isinstance(view, Frame), "a grounding is about one frame"
    return annotated_image(
        view.image,
        detections_2d=grounding.detections_2d,
        points=grounding.points,
        detections_3d=grounding.detections_3d,
        intrinsics=view.intrinsics or _assumed(view.image),
    )


def _assumed(image: _Image) -> Intrinsics:
    height, width = image.shape[:2]
    half = math.tan(_ASSUMED_FIELD_OF_VIEW / 2)
    # As in the notebook: fx from the width and fy from the height.
    return centred(image, width / 2 / half, height / 2 / half)


def _drawn_response(views: Sequence[View], response: Response) -> list[_Image]:
    value = response.value
    first = views[0]
    if isinstance(first, Clip):
        return _drawn_clip(first, value if isinstance(value, tuple) else ())
    images = [view.image for view in views if isinstance(view, Frame)]
    if isinstance(value, Count):
        scores = value.scores or (None,) * value.number
        points = [
            Point2D(label=str(i + 1), uv_px=uv_px, score=score)
            for i, (uv_px, score) in enumerate(zip(value.uv_px, scores, strict=True))
        ]
        return [annotated_image(images[0], points=points)]
    if isinstance(value, ZoomedAnswer):
        return [
            annotated_image(
                image,
                detections_2d=[
                    Detection2D(label=zoom.label, xyxy_px=zoom.xyxy_px, score=None)
                    for zoom in value.zooms
                    if zoom.picture == i
                ],
            )
            for i, image in enumerate(images)
        ]
    if isinstance(value, tuple):
        texts = [item for item in value if isinstance(item, TextSpan)]
        boxes = [Detection2D(label=t.text, xyxy_px=t.xyxy_px, score=t.score) for t in texts]
        return [annotated_image(images[0], detections_2d=boxes)]
    return images


def _drawn_clip(clip: Clip, items: Sequence[object]) -> list[_Image]:
    """The frames in which something was found, or some of all."""
    boxes = [item for item in items if isinstance(item, TimedBox)]
    times_s = np.array(clip.times_s)
    by_frame: dict[int, list[Detection2D]] = {}
    for box in boxes:
        nearest = int(np.abs(times_s - box.time_s).argmin())
        by_frame.setdefault(nearest, []).append(
            Detection2D(label=box.label, xyxy_px=box.xyxy_px, score=box.score)
        )
    chosen = sorted(by_frame) or list(range(len(clip.frames)))
    spread = np.linspace(0, len(chosen) - 1, min(len(chosen), _MOST_FRAMES)).round().astype(int)
    return [
        annotated_image(clip.frames[i].image, detections_2d=by_frame.get(i, []))
        for i in (chosen[n] for n in spread)
    ]


def _side_by_side(images: Sequence[_Image]) -> _Image:
    """Scaled to the height of the first."""
    height = images[0].shape[0]
    row = [
        image
        if image.shape[0] == height
        else cv2.resize(image, (round(image.shape[1] * height / image.shape[0]), height))
        for image in images
    ]
    return np.concatenate(row, axis=1)
