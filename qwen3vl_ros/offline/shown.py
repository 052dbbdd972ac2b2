# SPDX-License-Identifier: Apache-2.0
"""What the sequences of a batch show: a picture each, two pictures, or a clip.

Knows pixels and where things are in them, no questions. Axes: B sequences, P pictures of each as
the tower takes them (a clip's frames go in by twos), N patches of one of them, K objects, V image
tokens of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..language.chat import Picture, Video


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """B sequences that show alike.

    Attributes:
        visuals: what each sequence shows, as a chat names it.
        pixel_values: (B * P, N, 1536) float32.
        grid_thw: (G, 3) int64, of `visuals`; P is the sum of its first column.
        coverage: (B, K, V) float32, share of each image token that an object covers.
        slots: place along K of each object that questions are about, for each sequence.
    """

    visuals: tuple[Picture | Video, ...]
    pixel_values: Tensor
    grid_thw: npt.NDArray[np.int64]
    coverage: Tensor
    slots: tuple[tuple[int, ...], ...]

    @property
    def is_labelled(self) -> bool:
        """Whether visuals are numbered, so that words can say "Picture 2"."""
        return len(self.visuals) > 1

    @property
    def tower_grid(self) -> npt.NDArray[np.int64]:
        """(1, 3) of one of the P pictures."""
        return np.array([[1, *self.grid_thw[0, 1:]]], np.int64)


def still(grid_hw: tuple[int, int]) -> tuple[Picture]:
    """The visuals of sequences that show one picture."""
    return (Picture(grid_hw=grid_hw),)
