# SPDX-License-Identifier: Apache-2.0
"""Weights in few bits, round to nearest, as ONNX Runtime's `MatMulNBits` reads them.

Knows arrays and the operator's layout, no model. A row of a weight (out, in) is cut into blocks
along `in`; each block has one float32 scale, and each weight is `scale * (q - zero)` with q in
0..15 and zero 8, or in 0..255 and zero 128. Two four-bit neighbours share a byte, the first in the
low half. Rows do not know of each other, so a weight may be rounded a few rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_SIZE = 32
# 4: activations are rounded to int8 per block, so that the product runs on integer units.
ACCURACY_LEVEL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockWeight:
    """A weight (out, in) in four or eight bits.

    Attributes:
        packed: (out, blocks, block_size * bits / 8) uint8.
        scales: (out, blocks) float32.
        in_features: columns of the weight; the last block is padded with zeros beyond it.
        bits: 4 or 8.
    """

    packed: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    in_features: int
    bits: int


def zero_point(bits: int) -> int:
    """The code that means 0: the operator's default, which need not be stored.

    >>> zero_point(4), zero_point(8)
    (8, 128)
    """
    return int(2 ** (bits - 1))


def blocks_from_float(
    weight: npt.NDArray[np.float32], *, bits: int, block_size: int
) -> BlockWeight:
    """The nearest weight of so few bits to (out, in) float32."""
    out_features, in_features = weight.shape
    padding = -in_features % block_size
    if padding:
        weight = np.pad(weight, ((0, 0), (0, padding)))
    blocks, zero = weight.reshape(out_features, -1, block_size), zero_point(bits)
    scales = block_scales(blocks, bits=bits)[..., None]
    codes = blocks / np.where(scales == 0, np.float32(1), scales)
    np.rint(codes, out=codes)
    codes += zero
    np.clip(codes, 0, 2 * zero - 1, out=codes)
    whole = codes.astype(np.uint8)
    return BlockWeight(
        packed=whole if bits == 8 else _packed(whole),
        scales=scales[..., 0].astype(np.float32),
        in_features=in_features,
        bits=bits,
    )


def block_scales(blocks: npt.NDArray[np.float32], *, bits: int) -> npt.NDArray[np.float32]:
    """(..., block_size) float32 to (...): the scale of each block.

    The weight of largest magnitude, with its sign, takes the one code that has no opposite: the
    lowest.

    >>> block_scales(np.array([[4.0, -1.0], [-8.0, 2.0]], np.float32), bits=4).tolist()
    [-0.5, 1.0]
    """
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)
    scales: npt.NDArray[np.float32] = largest[..., 0] / np.float32(-zero_point(bits))
    return scales


def packed_int4(codes: npt.NDArray[np.int8], *, block_size: int) -> npt.NDArray[np.uint8]:
    """(rows, in) codes in -8..7 as the operator reads them: (rows, blocks, block_size / 2).

    >>> packed_int4(np.array([[-8, 7, 0, 1]], np.int8), block_size=4).tolist()
    [[[240, 152]]]
    """
    rows, in_features = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -in_features % block_size)))
    return _packed((padded + np.int8(zero_point(4))).view(np.uint8).reshape(rows, -1, block_size))


def _packed(whole: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two neighbours in a byte."""
    packed: npt.NDArray[np.uint8] = whole[..., 0::2] | (whole[..., 1::2] << np.uint8(4))
    return packed


def float_from_blocks(weight: BlockWeight) -> npt.NDArray[np.float32]:
    """(out, in) float32: the numbers that a weight of few bits stands for."""
    codes = weight.packed
    if weight.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    values = codes.astype(np.float32) - zero_point(weight.bits)
    blocks = values.reshape(*weight.scales.shape, -1) * weight.scales[..., None]
    return blocks.reshape(len(blocks), -1)[:, : weight.in_features]


def int4_from_float(
    weight: npt.NDArray[np.float32], *, block_size: int = BLOCK_SIZE
) -> BlockWeight:
    """The nearest four-bit weight to (out, in) float32.

    >>> weight = int4_from_float(np.array([[-8.0, 7.0, 0.0, 1.0]], np.float32))
    >>> weight.scales.tolist(), weight.packed[0, 0, :2].tolist()
    ([[1.0]], [240, 152])
    """
    return blocks_from_float(weight, bits=4, block_size=block_size)
