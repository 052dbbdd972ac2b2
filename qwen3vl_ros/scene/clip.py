# SPDX-License-Identifier: Apache-2.0
"""Several moments of one camera in a row."""

from __future__ import annotations

from dataclasses import dataclass

from .camera import Frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """Frames of one camera, in the order of their stamps.

    Attributes:
        frames: at least one, all of one size and camera, each later than the one before.
    """

    frames: tuple[Frame, ...]
