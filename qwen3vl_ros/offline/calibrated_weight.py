# SPDX-License-Identifier: Apache-2.0
"""A weight that was rounded before its graph is written: codes and scales in files.

Knows the files and no rounding (`calibration.py`), no graph and no flavour. They are read some
rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .stored_weights import PIECE_BYTES, Float32


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedWeight:
    """A weight (out, in) in four bits, in two files.

    Attributes:
        file: of int8 codes in -8..7, row by row; the scales are beside it.
        shape: of the weight.
        block_size: columns that share a scale.
    """

    file: Path
    shape: tuple[int, int]
    block_size: int

    @property
    def scales_file(self) -> Path:
        """Of float32 scales, row by row."""
        return self.file.with_suffix(".scales")

    def pieces(self) -> Iterator[tuple[npt.NDArray[np.int8], Float32]]:
        """(rows, in) codes and (rows, blocks) scales, some rows after the other."""
        out_features, in_features = self.shape
        blocks = -(-in_features // self.block_size)
        rows = max(1, PIECE_BYTES // (4 * in_features))
        for start in range(0, out_features, rows):
            count = min(rows, out_features - start)
            yield (
                _read(self.file, np.int8, start, (count, in_features)),
                _read(self.scales_file, np.float32, start, (count, blocks)),
            )


NOT_CALIBRATED: Mapping[str, CalibratedWeight] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundedBefore:
    """A calibrated weight, laid out as a flavour lays out those that it rounds itself.

    Attributes:
        weight: what was rounded.
        packed: (rows, in) codes as the flavour's graphs hold them, bytes.
    """

    weight: CalibratedWeight
    packed: Callable[[npt.NDArray[np.int8]], npt.NDArray[np.uint8]]

    def codes(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Packed, some rows after the other."""
        for codes, _ in self.weight.pieces():
            yield self.packed(codes)

    def scales(self) -> Iterator[Float32]:
        """(rows, blocks), likewise."""
        for _, scales in self.weight.pieces():
            yield scales


def _read(file: Path, kind: Any, row: int, shape: tuple[int, int]) -> Any:
    count, width = shape
    size = np.dtype(kind).itemsize
    numbers = np.fromfile(file, kind, count * width, offset=row * width * size)
    return numbers.reshape(shape)
