# SPDX-License-Identifier: Apache-2.0
"""Draws what was found onto the picture it was found in, for people.

Knows no model and no ROS; the node's annotated image, the command line and the demo share it.

Pixels: lines are drawn between pixel centres; 2D boxes and points are measured from the picture's
corner.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from ..scene.camera import Intrinsics
from ..scene.detections import Detection2D, Detection3D, Point2D
from ..scene.geometry import EDGES

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

# Okabe and Ito's colours, told apart with any kind of colour vision (black left out).
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Corners nearer than this are behind the picture for our purposes.
NEAREST_M = 0.05


def label_colour(label: str) -> Colour:
    """RGB of a label: the same in every run, on every machine, in 2D and in 3D."""
    return PALETTE[zlib.crc32(label.encode("utf-8", "replace")) % len(PALETTE)]


def annotated_image(
    image: Picture,
    *,
    detections_2d: Sequence[Detection2D] = (),
    points: Sequence[Point2D] = (),
    detections_3d: Sequence[Detection3D] = (),
    intrinsics: Intrinsics | None = None,
    colour: Colour | None = None,
) -> Picture:
    """A copy of `image` (h, w, 3) uint8 RGB with boxes, points and labels on it.

    `detections_3d` are in the camera optical frame and need `intrinsics`; they are labelled where
    there are no 2D boxes that would say the same. Everything is of one `colour`, or each thing of
    its label's. What has neither label nor score is not labelled.
    """
    picture = np.ascontiguousarray(image).copy()
    thickness = max(1, round(min(picture.shape[:2]) / 320))
    if intrinsics is not None:
        for solid in detections_3d:
            solid_colour = colour or label_colour(solid.label)
            _draw_solid(picture, solid, intrinsics, colour=solid_colour, thickness=thickness)
    anchors: list[tuple[str, float | None, float, float]] = []
    for detection in detections_2d:
        box_colour = colour or label_colour(detection.label)
        _draw_box(picture, detection, colour=box_colour, thickness=2 * thickness)
        left, top = detection.xyxy_px[:2] - 0.5
        anchors.append((detection.label, detection.score, left, top))
    for point in points:
        point_colour = colour or label_colour(point.label)
        _draw_point(picture, point, colour=point_colour, radius=4 * thickness)
        u, v = point.uv_px
        anchors.append((point.label, point.score, u + 6 * thickness, v))
    if not detections_2d and intrinsics is not None:
        for solid in detections_3d:
            corners = intrinsics.project(solid.box.corners())
            if np.isfinite(corners).all():
                left, top = corners.min(axis=0)
                anchors.append((solid.label, solid.score, left, top))
    taken: list[Rectangle] = []
    for label, score, u, v in anchors:
        if label or score is not None:
            tag_colour = colour or label_colour(label)
            _draw_label(picture, caption(label, score), u, v, colour=tag_colour, taken=taken)
    return picture


def caption(label: str, score: float | None) -> str:
    """What stands beside an object.

    >>> caption("red box", 0.456), caption("red box", None)
    ('red box 0.46', 'red box')
    """
    return label if score is None else f"{label} {score:.2f}"


def _draw_box(picture: Picture, detection: Detection2D, *, colour: Colour, thickness: int) -> None:
    # A box from 3 to 8 holds the pixels 3 to 7.
    left, top, right, bottom = (round(float(edge)) for edge in detection.xyxy_px)
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    cv2.rectangle(
        picture,
        (left, top),
        (right, bottom),
        colour,
        thickness,
        cv2.LINE_AA,
    )


def _draw_point(picture: Picture, point: Point2D, *, colour: Colour, radius: int) -> None:
    centre = (round(float(point.uv_px[0]) - 0.5), round(float(point.uv_px[1]) - 0.5))
    cv2.circle(picture, centre, radius, colour, -1, cv2.LINE_AA)
    cv2.circle(picture, centre, radius, (255, 255, 255), 1, cv2.LINE_AA)


def _draw_solid(
    picture: Picture,
    detection: Detection3D,
    intrinsics: Intrinsics,
    *,
    colour: Colour,
    thickness: int,
) -> None:
    corners = detection.box.corners()
    for start, end in EDGES:
        edge = _in_front(corners[start], corners[end])
        if edge is None:
            continue
        # Far outside the picture OpenCV's integers overflow; 1e5 pixels is out of sight anyway.
        uv = np.clip(np.round(intrinsics.project(edge)), -1e5, 1e5).astype(int)
        cv2.line(
            picture,
            tuple(uv[0].tolist()),
            tuple(uv[1].tolist()),
            colour,
            thickness,
            cv2.LINE_AA,
        )


def _in_front(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """The part (2, 3) of an edge that lies in front of the camera, None when all is behind."""
    if max(a[2], b[2]) <= NEAREST_M:
        return None
    near, far = (a, b) if a[2] < b[2] else (b, a)
    if near[2] < NEAREST_M:
        near = near + (far - near) * (NEAREST_M - near[2]) / (far[2] - near[2])
    return np.stack([near, far])


def _draw_label(
    picture: Picture,
    words: str,
    u: float,
    v: float,
    *,
    colour: Colour,
    taken: list[Rectangle],
) -> None:
    # OpenCV's font is ASCII; other letters would show as '??' per byte.
    text = words.encode("ascii", "replace").decode("ascii")
    height, width = picture.shape[:2]
    scale = max(0.4, min(height, width) / 900)
    stroke = max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(text, FONT, scale, stroke)
    pad = max(2, text_height // 3)
    box_width, box_height = text_width + 2 * pad, text_height + baseline + 2 * pad
    left = int(np.clip(u, 0, max(width - box_width, 0)))
    top = int(np.clip(v - box_height, 0, max(height - box_height, 0)))
    top = _free_row(left, top, box_width, box_height, taken=taken, height=height)
    right, bottom = left + box_width, top + box_height
    taken.append((left, top, right, bottom))
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, -1)
    # Relative luminance decides whether black or white is legible on the colour.
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    at = (left + pad, bottom - pad - baseline)
    cv2.putText(picture, text, at, FONT, scale, ink, stroke, cv2.LINE_AA)


def _free_row(
    left: int, top: int, width: int, height_px: int, *, taken: list[Rectangle], height: int
) -> int:
    """The row nearest to `top` at which a label hides no other; `top` where there is none."""
    rows = [top] + [edge for r in taken for edge in (r[3], r[1] - height_px)]
    for row in sorted(rows, key=lambda row: abs(row - top)):
        inside = 0 <= row <= height - height_px
        hides = any(
            left < r[2] and r[0] < left + width and row < r[3] and r[1] < row + height_px
            for r in taken
        )
        if inside and not hides:
            return row
    return top
