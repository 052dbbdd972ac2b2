# SPDX-License-Identifier: Apache-2.0
"""The demo's picture: left what was asked and seen, right where it is in front of the robot.

Knows no ROS. Left, one tile for each question: the picture it was answered about, with the 2D
box, its label and the projected 3D box. Right, the same things from above (`demo_map.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from ..image.drawing import caption
from ..scene.camera import Intrinsics
from ..scene.detections import Detection2D
from ..scene.geometry import EDGES, Array, OrientedBox, inverse, transform_box
from .demo_findings import Finding
from .demo_map import FAINT, INK, color_of, draw_map

INCHES = (14.8, 8.3)
DPI = 100
NEAREST_M = 0.05
COLUMNS = 2


def draw_demo(findings: Sequence[Finding], path: Path, *, frame_id: str, subtitle: str) -> None:
    """Writes the picture as PNG; arguments as of `demo_figure`."""
    figure = demo_figure(findings, frame_id=frame_id, subtitle=subtitle)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def demo_figure(findings: Sequence[Finding], *, frame_id: str, subtitle: str) -> Figure:
    """The picture.

    Args:
        findings: in the order asked; at least one.
        frame_id: name of the robot's frame.
        subtitle: one line about what ran.
    """
    figure = Figure(figsize=INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(
        0.012,
        0.962,
        "Asked for by name, found in the robot's frame",
        size=19,
        weight="bold",
        color=INK,
        va="center",
    )
    figure.text(0.988, 0.962, subtitle, size=11.5, color=FAINT, va="center", ha="right")
    rows = -(-len(findings) // COLUMNS)
    left, right, bottom, top, gap = 0.012, 0.625, 0.02, 0.925, 0.012
    width = (right - left - (COLUMNS - 1) * gap) / COLUMNS
    pitch = (top - bottom) / rows
    for i, finding in enumerate(findings):
        row, column = divmod(i, COLUMNS)
        place = (
            left + column * (width + gap),
            top - (row + 1) * pitch,
            width,
            pitch - 0.055,
        )
        _draw_tile(figure.add_axes(place), finding, number=i + 1)
    draw_map(figure.add_axes((0.682, 0.175, 0.306, 0.735)), findings, frame_id=frame_id)
    return figure


def verdict(finding: Finding) -> str:
    """How the answer fared, in a few words."""
    if finding.truth is None:
        is_silent = finding.found_2d is None
        return "rightly not found" if is_silent else "is not there, but was found"
    if finding.found_2d is None:
        return "is there, but was not found"
    words = f"IoU {finding.iou:.2f}"
    if finding.center_error_m is not None:
        words += f", {100 * finding.center_error_m:.1f} cm off"
    return words


def _draw_tile(axes: Axes, finding: Finding, *, number: int) -> None:
    color, sighting = color_of(number), finding.sighting
    height, width = sighting.image.shape[:2]
    axes.imshow(sighting.image, interpolation="antialiased")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.set_anchor("NW")
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2.0)
    _draw_title(axes, finding, number=number)
    if finding.found_3d is not None:
        box = transform_box(inverse(sighting.T_base_camera), finding.found_3d)
        _draw_edges(axes, projected_edges(box, sighting.intrinsics), color=color)
    if finding.found_2d is not None:
        _draw_box(axes, finding.found_2d, width=width, height=height, color=color)
    else:
        _draw_silence(axes, color=color)


def _draw_title(axes: Axes, finding: Finding, *, number: int) -> None:
    """Above the tile: number, what was asked for, how the answer fared."""
    above = 1.03  # of the height of the axes

    def write(x: float, text: str, **style: Any) -> None:
        axes.text(x, above, text, transform=axes.transAxes, va="bottom", **style)

    badge = {"boxstyle": "round,pad=0.15", "fc": color_of(number), "ec": "none"}
    write(0.0, f" {number} ", size=13, weight="bold", color="white", bbox=badge)
    write(0.075, f"“{finding.name}”", size=13, weight="bold", color=INK)
    write(1.0, verdict(finding), size=11, color=INK, ha="right")


def _draw_edges(axes: Axes, edges: Sequence[tuple[Array, Array]], *, color: str) -> None:
    for start, end in edges:
        axes.plot(
            *np.stack([start, end], axis=1),
            color=color,
            linewidth=1.7,
            path_effects=_casing(3.2),
            solid_capstyle="round",
        )


def _draw_box(axes: Axes, found: Detection2D, *, width: int, height: int, color: str) -> None:
    # 2D boxes are measured from the picture's corner, which lies half a pixel off a centre.
    x1, y1, x2, y2 = found.xyxy_px - 0.5
    axes.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=color,
            linewidth=2.6,
            path_effects=_casing(4.6),
        )
    )
    # Its label above the box, or inside it where the picture ends; never out at the right.
    inside, at_right = y1 < 0.1 * height, x1 > 0.6 * width
    axes.annotate(
        caption(found.label, found.score),
        (x2 if at_right else x1, y1),
        xytext=(0, -5 if inside else 5),
        textcoords="offset points",
        size=11.5,
        weight="bold",
        color="white",
        va="top" if inside else "bottom",
        ha="right" if at_right else "left",
        bbox={"boxstyle": "square,pad=0.2", "fc": color, "ec": "white", "lw": 0.8},
    )


def _draw_silence(axes: Axes, *, color: str) -> None:
    axes.text(
        0.5,
        0.06,
        "nothing found",
        transform=axes.transAxes,
        size=13,
        weight="bold",
        color=INK,
        ha="center",
        bbox={"boxstyle": "round,pad=0.35", "fc": "white", "ec": color, "alpha": 0.92},
    )


def projected_edges(box: OrientedBox, intrinsics: Intrinsics) -> list[tuple[Array, Array]]:
    """Edges of a box in the camera optical frame, as pairs of pixels (2,).

    Those that reach behind the camera are left out.
    """
    corners = box.corners()
    pixels = intrinsics.project(corners)
    seen = corners[:, 2] > NEAREST_M
    return [(pixels[a], pixels[b]) for a, b in EDGES if seen[a] and seen[b]]


def _casing(width: float) -> list[Stroke | Normal]:
    return [Stroke(linewidth=width, foreground="white", alpha=0.85), Normal()]
