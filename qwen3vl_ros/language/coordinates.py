# SPDX-License-Identifier: Apache-2.0
"""Coordinates as the model writes them, checked, mended and turned into pixels.

Knows scanned values (`json_scan.py`) and no task. Model coordinates are 0 to 1000 of the
picture's width and height: `u = x / 1000 * width`, Qwen's own reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .json_scan import Value
from .labels import clean_label

FULL_SCALE = 1000.0
# A model that slips a little beyond the picture is clipped; beyond these it is not a coordinate.
LOWEST, HIGHEST = -FULL_SCALE, 2 * FULL_SCALE

Numbers = tuple[float, ...]
Mended = tuple[str, ...]


class DroppedError(Exception):
    """This object cannot be used; the message says why."""


def numbers_at(entries: Mapping[str, Value], key: str, count: int) -> Numbers:
    """The list of `count` finite numbers at a key.

    Raises:
        DroppedError: there is none.
    """
    if key not in entries:
        raise DroppedError(f"no '{key}'")
    items = entries[key].content
    if not isinstance(items, tuple) or len(items) != count:
        raise DroppedError(f"'{key}' is not a list of {count} numbers")
    numbers = [item.content for item in items if isinstance(item.content, float)]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise DroppedError(f"'{key}' is not a list of {count} finite numbers")
    return tuple(numbers)


def label_at(entries: Mapping[str, Value], key: str, *, longest: int) -> str:
    """The words at a key, safe to print and publish.

    Raises:
        DroppedError: there are none.
    """
    label = entries[key].content if key in entries else None
    if not isinstance(label, str) or not (clean := clean_label(label, longest=longest)):
        raise DroppedError(f"no '{key}'")
    return clean


def mended_point(numbers: Numbers) -> tuple[Numbers, Mended]:
    """Model coordinates clipped to the picture, and what had to be mended for it.

    Raises:
        DroppedError: they are nowhere near it.
    """
    if min(numbers) < LOWEST or max(numbers) > HIGHEST:
        raise DroppedError("far outside the picture (0 to 1000)")
    clipped = tuple(min(max(number, 0.0), FULL_SCALE) for number in numbers)
    return clipped, ("clipped to the picture (0 to 1000)",) if clipped != numbers else ()


def mended_box(numbers: Numbers) -> tuple[Numbers, Mended]:
    """A box clipped to the picture with its corners in order, and what had to be mended for it.

    Raises:
        DroppedError: nowhere near the picture, or without area.
    """
    (x1, y1, x2, y2), mended = mended_point(numbers)
    ordered = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    if ordered != (x1, y1, x2, y2):
        mended += ("corners put in order",)
    if ordered[0] == ordered[2] or ordered[1] == ordered[3]:
        raise DroppedError("no area")
    return ordered, mended


def pixels(numbers: Numbers, *, width: int, height: int) -> npt.NDArray[np.float64]:
    """(2,) or (4,) float64 pixels of as many model coordinates.

    >>> pixels((500.0, 1000.0), width=640, height=480).tolist()
    [320.0, 480.0]
    """
    sides = np.tile(np.array([width, height], np.float64), len(numbers) // 2)
    return np.array(numbers, np.float64) * sides / FULL_SCALE
