# SPDX-License-Identifier: Apache-2.0
"""Four-bit weights whose errors make up for one another on the inputs that a layer sees.

Knows arrays; knows no model and no file. GPTQ (Frantar et al., arXiv 2210.17323): the columns of a
weight (out, in) are rounded one after the other, and what one column is off is taken out of those
not rounded yet, as far as their inputs go together. So not each weight is nearest to what it was,
but the product with inputs like those shown is. A block's scale is chosen when its turn comes, by
the flavour's own rule. Rows do not know of each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError

Float32 = npt.NDArray[np.float32]
# (rows, block) float32 to (rows,) float32: the scale of a block by its weights.
ScaleRule = Callable[[Float32], Float32]
LOWEST, HIGHEST = -8, 7
DAMPING = 0.01  # of the mean input's square, as in the paper: what was never seen may yet come


def compensation(moment: Float32) -> Float32:
    """How errors of one column are spread over later ones.

    Args:
        moment: (in, in) float32, sum of `x xT` over inputs x.

    Returns:
        (in, in) float32, the upper Cholesky factor of the damped moment's inverse.

    Raises:
        CheckpointError: the inputs hold what is no number.
    """
    size = len(moment)
    diagonal = np.diagonal(moment)
    if not np.isfinite(diagonal).all():
        raise CheckpointError(
            "a layer's inputs on rendered scenes hold what is no number, so nothing can be "
            "calibrated on them; is the checkpoint damaged? Export the precision that is not "
            "calibrated"
        )
    damped = moment.astype(np.float64)
    damped[np.arange(size), np.arange(size)] += DAMPING * float(diagonal.mean()) + 1e-12
    # The inverse of a lower factor L of A gives A^-1 = L^-T L^-1. What is wanted is U with
    # UT U = A^-1, U upper: L^-1 of A with rows and columns turned round, turned round again.
    lower = np.linalg.cholesky(damped[::-1, ::-1])
    del damped
    return np.ascontiguousarray(np.linalg.inv(lower)[::-1, ::-1].astype(np.float32))


def compensated_codes(
    weight: Float32, factor: Float32, *, block_size: int, scale_rule: ScaleRule
) -> tuple[npt.NDArray[np.int8], Float32]:
    """Some rows of a weight in four bits.

    Args:
        weight: (rows, in) float32.
        factor: (in, in), of `compensation`.
        block_size: columns that share a scale; the last block may be shorter.
        scale_rule: of a block.

    Returns:
        (rows, in) int8 codes in -8..7, and (rows, blocks) float32 scales.
    """
    left, (rows, columns) = weight.copy(), weight.shape
    codes = np.empty((rows, columns), np.int8)
    scales = np.empty((rows, -(-columns // block_size)), np.float32)
    for index, start in enumerate(range(0, columns, block_size)):
        end = min(start + block_size, columns)
        block, triangle = left[:, start:end], factor[start:end, start:end]
        scale = scale_rule(block)
        scales[:, index] = scale
        step = np.where(scale == 0, np.float32(1), scale)
        errors = np.empty_like(block)
        for column in range(end - start):
            code = np.clip(np.rint(block[:, column] / step), LOWEST, HIGHEST)
            codes[:, start + column] = code.astype(np.int8)
            error = (block[:, column] - code * scale) / triangle[column, column]
            errors[:, column] = error
            block[:, column + 1 :] -= error[:, None] * triangle[column, column + 1 :]
        left[:, end:] -= errors @ factor[start:end, end:]
    return codes, scales


def float_from_codes(codes: npt.NDArray[np.int8], scales: Float32, *, block_size: int) -> Float32:
    """(rows, in) float32: the numbers that codes and scales stand for.

    >>> codes, scales = np.array([[-8, 7, 1]], np.int8), np.array([[0.5, 2.0]], np.float32)
    >>> float_from_codes(codes, scales, block_size=2).tolist()
    [[-4.0, 3.5, 2.0]]
    """
    spread = np.repeat(scales, block_size, axis=1)[:, : codes.shape[1]]
    return codes.astype(np.float32) * spread
