# SPDX-License-Identifier: Apache-2.0
"""What is known of the objects in one picture: all that a question can be about.

Knows no renderer: both kinds of synthetic pictures, and cached ones, are told in these values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def _nowhere(size: int) -> Floats:
    return np.full(size, np.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownObject:
    """An object of which everything is known.

    Attributes:
        name: what a person would call it, colour and shape: "red box".
        xyxy_norm1000: (4,) around its visible part, 0 to 1000 of the picture's sides.
        bbox_3d: (9,) Qwen3-VL's numbers: centre and size in metres, angles in half turns.
        askable: shows enough of itself to be asked about.
        uv_norm1000: (2,) a point well inside its visible part; NaN where nobody looked for one.
        word: legible on it; "" for none.
        word_xyxy_norm1000: (4,) around the word; NaN without one.
    """

    name: str
    xyxy_norm1000: Floats
    bbox_3d: Floats
    askable: bool = True
    uv_norm1000: Floats = field(default_factory=lambda: _nowhere(2))
    word: str = ""
    word_xyxy_norm1000: Floats = field(default_factory=lambda: _nowhere(4))

    @property
    def color(self) -> str:
        """The first word of its name."""
        return self.name.split()[0]

    @property
    def shape(self) -> str:
        """The last word of its name."""
        return self.name.split()[-1]

    @property
    def center_u(self) -> float:
        """Of its box in the picture, 0 to 1000."""
        return float(self.xyxy_norm1000[0] + self.xyxy_norm1000[2]) / 2

    @property
    def distance_m(self) -> float:
        """From the camera to its centre."""
        return float(np.linalg.norm(self.bbox_3d[:3]))

    @property
    def volume_m3(self) -> float:
        """Of its box."""
        return float(np.prod(self.bbox_3d[3:6]))
