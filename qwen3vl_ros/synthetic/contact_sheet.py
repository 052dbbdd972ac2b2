# SPDX-License-Identifier: Apache-2.0
"""Many rooms on one sheet, with what is known of each drawn in: to see what the model is shown.

Knows rooms and their truth; `scripts/contact_sheet.py` writes docs/scenes.png with it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .dataset import room_from_seed
from .motion import moving_room_from_seed
from .room_rendering import RoomPicture, render_room
from .shards import known_objects

Image = npt.NDArray[np.uint8]

CELL_WH = (240, 180)
COLUMNS = 4
GAP_PX = 6
ASKABLE, HIDDEN = (255, 255, 255), (0, 0, 0)
BACKGROUND = 40


def contact_sheet(*, first_seed: int, rooms: int, frames: int = 4) -> Image:
    """(h, w, 3) uint8: `rooms` rooms, and below them one that moves, frame by frame.

    A white box is around what may be asked about, a black one around what hides too much; a dot
    marks the point inside.
    """
    cells = [drawn(room_from_seed(first_seed + i)[2]) for i in range(rooms)]
    moving = moving_room_from_seed(first_seed, frames=2 * frames, width=320, height=240)
    for i in range(0, 2 * frames, 2):
        picture = render_room(moving.room_at(moving.times_s[i]), moving.lens_at(i))
        cells.append(drawn(picture, corner=f"{moving.times_s[i]:.1f} s"))
    while len(cells) % COLUMNS:
        cells.append(np.full((1, 1, 3), BACKGROUND, np.uint8))
    width, height = CELL_WH
    rows = len(cells) // COLUMNS
    sheet = np.full(
        (rows * (height + GAP_PX) + GAP_PX, COLUMNS * (width + GAP_PX) + GAP_PX, 3),
        BACKGROUND,
        np.uint8,
    )
    for i, cell in enumerate(cells):
        scale = min(width / cell.shape[1], height / cell.shape[0])
        size = (round(cell.shape[1] * scale), round(cell.shape[0] * scale))
        small = cv2.resize(cell, size, interpolation=cv2.INTER_AREA)
        top = GAP_PX + i // COLUMNS * (height + GAP_PX) + (height - size[1]) // 2
        left = GAP_PX + i % COLUMNS * (width + GAP_PX) + (width - size[0]) // 2
        sheet[top : top + size[1], left : left + size[0]] = small
    return sheet


def drawn(picture: RoomPicture, *, corner: str = "") -> Image:
    """The picture with boxes, names and points, at 640 pixels of its longer side."""
    h, w = picture.image.shape[:2]
    scale = 640 / max(h, w)
    image = cv2.resize(picture.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    for known in known_objects(picture):
        if known is None:
            continue
        norm = np.array([w, h]) * scale / 1000
        x1, y1 = (known.xyxy_norm1000[:2] * norm).astype(int).tolist()
        x2, y2 = (known.xyxy_norm1000[2:] * norm).astype(int).tolist()
        color = ASKABLE if known.askable else HIDDEN
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), color, 1)
        u, v = (known.uv_norm1000 * norm).astype(int).tolist()
        cv2.circle(image, (u, v), 4, color, -1)
        cv2.circle(image, (u, v), 4, (90, 90, 90), 1)
        label = known.name + (f' "{known.word}"' if known.word else "")
        _write(image, label, (x1, max(y1 - 5, 14)), 0.5)
    if corner:
        _write(image, corner, (8, 30), 0.9)
    return np.asarray(image, np.uint8)


def _write(image: Image, text: str, at: tuple[int, int], scale: float) -> None:
    for color, thickness in ((HIDDEN, 3), (ASKABLE, 1)):
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(image, text, at, font, scale, color, thickness, cv2.LINE_AA)
