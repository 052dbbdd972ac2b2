# SPDX-License-Identifier: Apache-2.0
"""From a grounding in the camera's frame to what goes out: raw pixels, and a frame asked for.

Knows no topics. This is where "looked, and saw nothing" is kept apart from "cannot say": when
nothing can be said in 3D, `Result.detections_3d` is None, which is published as silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import TransformError
from ..scene.detections import Detection2D, Detection3D, Grounding, Point2D, Task
from ..scene.geometry import Array, transform_box
from .frames import View
from .transforms import TransformSource, lookup_with_deadline


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """An answer ready to be published.

    Attributes:
        view: what was looked at.
        grounding: the answer, in the view's own pixels and the camera optical frame.
        detections_2d: in pixels of the image message; a point is a box of zero size.
        detections_3d: in `frame_id`; None when nothing can be said in 3D.
        frame_id: frame of `detections_3d`, or where they would be.
        transform_fault: why `frame_id` is not the frame asked for; "" when it is.
    """

    view: View
    grounding: Grounding
    detections_2d: tuple[Detection2D, ...]
    detections_3d: tuple[Detection3D, ...] | None
    frame_id: str
    transform_fault: str = ""

    @property
    def remarks(self) -> str:
        """What was done otherwise than asked, and why; "" when nothing was."""
        faults = (self.view.calibration_fault, self.view.depth_fault)
        said = (*faults, *self.grounding.warnings, *self.grounding.notes)
        return " ".join(remark for remark in said if remark)


def result_from_grounding(
    view: View,
    grounding: Grounding,
    *,
    transforms: TransformSource,
    target_frame: str,
    timeout_s: float,
    fall_back_to_camera: bool,
    must_reach_target: bool = False,
    model_boxes: bool,
) -> Result:
    """The result in `target_frame` ("" for the camera's).

    A transform that is missing at the stamp of the image becomes `transform_fault`; then the
    result is in the camera frame, or has no 3D part, as `fall_back_to_camera` says. With nothing
    to place it is not looked for, unless `must_reach_target` says so.
    `model_boxes` says whether the model was asked for boxes of what has no depth.
    """
    frame_id = grounding.frame_id
    detections_3d = _detections_3d(view, grounding, model_boxes=model_boxes)
    fault = ""
    is_wanted = must_reach_target or detections_3d is not None
    if is_wanted and target_frame and target_frame != frame_id:
        try:
            T_target_camera = _transform(
                transforms, grounding, target_frame=target_frame, timeout_s=timeout_s
            )
        except TransformError as exc:
            fault = (
                f"no transform from '{frame_id}' to '{target_frame}': {exc}; is it published, and "
                "is the target frame spelled as in /tf?"
            )
            detections_3d = detections_3d if fall_back_to_camera else None
        else:
            frame_id = target_frame
            if detections_3d is not None:
                detections_3d = tuple(
                    replace(detection, box=transform_box(T_target_camera, detection.box))
                    for detection in detections_3d
                )
    return Result(
        view=view,
        grounding=grounding,
        detections_2d=_detections_2d(view, grounding),
        detections_3d=detections_3d,
        frame_id=frame_id,
        transform_fault=fault,
    )


def _transform(
    transforms: TransformSource, grounding: Grounding, *, target_frame: str, timeout_s: float
) -> Array:
    if not grounding.stamp_ns:
        # tf2 reads stamp 0 as "the latest", which would place the boxes where the camera is now.
        raise TransformError("the image has no stamp; stamp it with the time it was taken")
    return lookup_with_deadline(
        transforms,
        target=target_frame,
        source=grounding.frame_id,
        stamp_ns=grounding.stamp_ns,
        timeout_s=timeout_s,
    )


def _detections_3d(
    view: View, grounding: Grounding, *, model_boxes: bool
) -> tuple[Detection3D, ...] | None:
    # Without calibration even the model's own boxes have no scale.
    if view.frame.intrinsics is None:
        return None
    if grounding.detections_3d:
        return grounding.detections_3d
    can_place = (
        view.frame.depth_m is not None or model_boxes or grounding.query.task is Task.DETECT_3D
    )
    saw_nothing = not grounding.detections_2d and not grounding.points
    return () if can_place and saw_nothing else None


def _detections_2d(view: View, grounding: Grounding) -> tuple[Detection2D, ...]:
    boxes = [*grounding.detections_2d, *map(_box_of_point, grounding.points)]
    lens = view.rectification
    if lens is None:
        return tuple(boxes)
    return tuple(replace(box, xyxy_px=lens.raw_xyxy_px(box.xyxy_px)) for box in boxes)


def _box_of_point(point: Point2D) -> Detection2D:
    return Detection2D(
        label=point.label,
        xyxy_px=np.concatenate([point.uv_px, point.uv_px]),
        score=point.score,
    )
