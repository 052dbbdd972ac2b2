# SPDX-License-Identifier: Apache-2.0
"""Names beside the boxes of the demo's map, where they hide neither a box nor one another.

Knows outlines in the units of the axes, and nothing of what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text

from ..scene.geometry import Array

# How far from its box a name is tried, points on the screen; the nearest free place wins.
DISTANCES = (4, 14, 28, 46, 70, 100)


def draw_names(
    axes: Axes, names: Sequence[tuple[str, str, Array]], *, obstacles: Sequence[Array]
) -> None:
    """Writes each name beside its own outline.

    Args:
        axes: with their limits set.
        names: name, colour and own outline (N, 2).
        obstacles: outlines (N, 2) not to be hidden.
    """
    axes.figure.canvas.draw()  # settles limits and fonts
    renderer = cast(FigureCanvasAgg, axes.figure.canvas).get_renderer()
    to_screen = axes.transData.transform
    taken = [_screen_rectangle(to_screen(outline)) for outline in obstacles]
    page = axes.get_window_extent(renderer)
    frame = np.array([page.x0, page.y0, page.x1, page.y1])
    for name, color, outline in names:
        label = axes.text(
            0,
            0,
            name,
            size=12.5,
            weight="bold",
            color=color,
            zorder=10,
            path_effects=[Stroke(linewidth=3, foreground="white"), Normal()],
        )
        own = _screen_rectangle(to_screen(outline))
        _move_to_free_place(axes, label, own, taken, frame, renderer)
        extent = label.get_window_extent(renderer)
        taken.append(np.array([extent.x0, extent.y0, extent.x1, extent.y1]))


def _move_to_free_place(
    axes: Axes, label: Text, own: Array, obstacles: list[Array], frame: Array, renderer: object
) -> None:
    extent = label.get_window_extent(renderer)  # type: ignore[arg-type]
    w, h = extent.width, extent.height
    middle = (own[:2] + own[2:]) / 2
    candidates = []
    for step in DISTANCES:
        candidates += [
            (middle[0] - w / 2, own[3] + step),
            (middle[0] - w / 2, own[1] - step - h),
            (own[2] + step, middle[1] - h / 2),
            (own[0] - step - w, middle[1] - h / 2),
            (own[2] + step, own[3] + step),
            (own[0] - step - w, own[3] + step),
        ]

    def hidden_area(at: tuple[float, float]) -> float:
        spot = np.array([at[0] - 2, at[1] - 2, at[0] + w + 2, at[1] + h + 2])
        outside = float(np.prod(spot[2:] - spot[:2])) - _shared_area(spot, frame)
        return outside + sum(_shared_area(spot, obstacle) for obstacle in obstacles)

    x, y = min(candidates, key=hidden_area)  # the first of equals: the nearest
    left, low = axes.transData.inverted().transform((x, y))
    label.set(position=(left, low), ha="left", va="bottom")


def _screen_rectangle(points: Array) -> Array:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _shared_area(a: Array, b: Array) -> float:
    return float(np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0)))
