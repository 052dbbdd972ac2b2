# SPDX-License-Identifier: Apache-2.0
"""Linears of the tower's blocks as products of integers, for processors without much else.

Knows ONNX Runtime's `DynamicQuantizeMatMul`: each output has weights with one scale, activations
are rounded to 8 bits with a scale of their tensor on the way, and the product is of integers. A
tower has hundreds to thousands of rows, so it is bound by arithmetic, not by memory, and integers
are twice as fast as float32 where AVX2 is all there is (docs/LOG.md).

Weights are -63..63, seven bits: AVX2 adds two products of 8 bits in 16, and cuts off silently what
does not fit there. With eight bits that cost the tiny checkpoint's tower more than all rounding
does (rows 2.1 per cent off, against 0.9 with seven).

What is not in a block stays as it is: patches come in there, and the mergers' rows go out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .streamed_tensor import Pieces

BLOCKS = ".blocks."
LARGEST_CODE = 63

Float32 = npt.NDArray[np.float32]


def is_integer_product(weight: ir.Value) -> bool:
    """Whether a tower's linear is one of those."""
    return BLOCKS in str(weight.name)


def integer_product(
    graph: ir.Graph, x: ir.Value | None, weight: ir.Value, read: Callable[[], Float32]
) -> tuple[ir.Node, Mapping[str, Pieces]]:
    """The operator of a linear, and where its initializers' numbers come from.

    Args:
        graph: gets the initializers.
        x: what goes in.
        weight: (out, in), as in the checkpoint.
        read: the whole weight, when it is asked for.
    """
    assert weight.shape is not None
    out_features, in_features = weight.shape.numpy()
    name = str(weight.name)
    codes = ir.val(f"{name}.int7", ir.DataType.INT8, (in_features, out_features))
    scales = ir.val(f"{name}.scales", ir.DataType.FLOAT, (out_features,))
    zeros = ir.val(f"{name}.zeros", ir.DataType.INT8, (out_features,))
    for value in (codes, scales, zeros):
        graph.initializers.add(value)
    node = ir.node("DynamicQuantizeMatMul", [x, codes, scales, zeros], domain="com.microsoft")
    return node, {
        str(codes.name): functools.partial(_codes, read),
        str(scales.name): functools.partial(_scales, read),
        str(zeros.name): functools.partial(_zeros, out_features),
    }


def rounded_rows(weight: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """(out, in) float32 to codes (out, in) and scales (out): each row has one.

    >>> codes, scales = rounded_rows(np.array([[-6.3, 0.1, 3.2]], np.float32))
    >>> codes.tolist(), [round(float(scale), 6) for scale in scales]
    ([[-63, 1, 32]], [0.1])
    """
    scales = (np.abs(weight).max(axis=1) / LARGEST_CODE).astype(np.float32)
    codes = np.rint(weight / np.where(scales == 0, np.float32(1), scales)[:, None])
    return codes.astype(np.int8), scales


def _codes(read: Callable[[], Float32]) -> Iterator[npt.NDArray[np.int8]]:
    codes, _ = rounded_rows(read())
    yield codes.T  # the operator has inputs in rows


def _scales(read: Callable[[], Float32]) -> Iterator[Float32]:
    _, scales = rounded_rows(read())
    yield scales


def _zeros(length: int) -> Iterator[npt.NDArray[np.int8]]:
    yield np.zeros(length, np.int8)
