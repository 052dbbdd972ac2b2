# SPDX-License-Identifier: Apache-2.0
"""Four-bit weights, round to nearest, as ONNX Runtime's `MatMulNBits` reads them.

Knows arrays and the operator's layout, no model. A row of a weight (out, in) is cut into blocks of
32 along `in`; each block has one float32 scale, and each weight is `scale * (q - 8)` with q in
0..15. Two neighbours share a byte, the first in the low half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_SIZE = 32
ZERO_POINT = 8  # the operator's default; it need not be stored
# 4: activations are rounded to int8 per block, so that the product runs on integer units.
ACCURACY_LEVEL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Int4Weight:
    """A weight (out, in) in four bits.

    Attributes:
        packed: (out, blocks, 16) uint8.
        scales: (out, blocks) float32.
        in_features: columns of the weight; the last block is padded with zeros beyond it.
    """

    packed: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    in_features: int


def int4_from_float(weight: npt.NDArray[np.float32]) -> Int4Weight:
    """The nearest four-bit weight to (out, in) float32.

    >>> weight = int4_from_float(np.array([[-8.0, 7.0, 0.0, 1.0]], np.float32))
    >>> weight.scales.tolist(), weight.packed[0, 0, :2].tolist()
    ([[1.0]], [240, 152])
    """
    out_features, in_features = weight.shape
    padding = -in_features % BLOCK_SIZE
    blocks = np.pad(weight, ((0, 0), (0, padding))).reshape(out_features, -1, BLOCK_SIZE)
    # The weight of largest magnitude, with its sign, takes the one code that has no opposite: -8.
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)
    scales = largest / -ZERO_POINT
    safe = np.where(scales == 0, np.float32(1), scales)
    codes = np.clip(np.rint(blocks / safe) + ZERO_POINT, 0, 15).astype(np.uint8)
    return Int4Weight(
        packed=codes[..., 0::2] | codes[..., 1::2] << 4,
        scales=scales[..., 0].astype(np.float32),
        in_features=in_features,
    )


def float_from_int4(weight: Int4Weight) -> npt.NDArray[np.float32]:
    """(out, in) float32: the numbers that a four-bit weight stands for."""
    codes = np.stack([weight.packed & 15, weight.packed >> 4], axis=-1)
    values = (codes.astype(np.float32) - ZERO_POINT).reshape(*weight.scales.shape, BLOCK_SIZE)
    blocks = values * weight.scales[..., None]
    return blocks.reshape(len(blocks), -1)[:, : weight.in_features]
