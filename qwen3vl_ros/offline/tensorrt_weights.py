# SPDX-License-Identifier: Apache-2.0
"""Weights of the `tensorrt` flavour: float, or four or eight bits behind DequantizeLinear.

Knows TensorRT's rules for such weights and onnx_ir, no model. Linears get few bits; experts and
their router keep floats. A row of a weight (out, in) is cut into blocks along `in`, each with one
scale; a weight is `scale * q` with q in -8..7. Of eight bits a whole row is a block, and q in
-127..127. TensorRT demands scales above zero and no zero point, which the other flavour's rounding
(`quantization.py`, scales of either sign) does not give, so rounding is done here anew: of the
scales that let the largest weight of a block take 7 or 8, the one that errs less is taken.

Nothing is read here: numbers are read when the model is saved, some rows at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..errors import ConfigError
from .calibrated_weight import NOT_CALIBRATED, CalibratedWeight, RoundedBefore
from .checkpoint import is_expert_tensor
from .stored_weights import Float32, StoredWeights
from .streamed_tensor import NARROW_KINDS, Pieces, StreamedTensor
from .tensorrt_experts import ROUTER, expert_pieces
from .tensorrt_operators import INT4_OPSET

LEAST_SCALE = 2.0**-14  # the smallest normal float16; a block of zeros has it too


@dataclass(frozen=True, kw_only=True, slots=True)
class PositiveInt4:
    """A weight (out, in) in four bits, as TensorRT reads it.

    Attributes:
        packed: (out * in / 2) uint8, row by row, the first of two neighbours in the low half.
        scales: (out, in / block_size) float32, above zero.
        block_size: weights of a row that share a scale.
    """

    packed: npt.NDArray[np.uint8]
    scales: Float32
    block_size: int


def positive_int4(weight: Float32, *, block_size: int, scale_type: npt.DTypeLike) -> PositiveInt4:
    """The four-bit weight next to (out, in) float32; `in` is a multiple of `block_size`.

    `scale_type` is what scales will be stored as: weights are rounded by the stored scale. Rows do
    not know of each other.

    >>> row = np.array([[7.0, 3.5, 0.0, 1.0]], np.float32)
    >>> got = positive_int4(row, block_size=4, scale_type=np.float32)
    >>> got.scales.tolist(), float_from_positive_int4(got).tolist()
    ([[1.0]], [[7.0, 4.0, 0.0, 1.0]])
    """
    blocks = weight.reshape(len(weight), -1, block_size)
    largest = np.abs(blocks).max(axis=2)
    best, codes = np.zeros_like(largest), np.zeros(blocks.shape, np.int8)
    least = np.full(largest.shape, np.inf, np.float32)
    for highest in (7, 8):
        stored = np.maximum(largest / highest, LEAST_SCALE).astype(scale_type)
        scale = stored.astype(np.float32)
        q = np.clip(np.rint(blocks / scale[..., None]), -8, 7)
        error = np.square(q * scale[..., None] - blocks).sum(axis=2)
        better = error < least
        least, best = np.where(better, error, least), np.where(better, scale, best)
        codes = np.where(better[..., None], q.astype(np.int8), codes)
    return PositiveInt4(packed=_packed(codes), scales=best, block_size=block_size)


def _packed(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two neighbours in a byte."""
    nibbles: npt.NDArray[np.uint8] = codes.view(np.uint8).reshape(-1) & np.uint8(15)
    packed: npt.NDArray[np.uint8] = nibbles[0::2] | (nibbles[1::2] << np.uint8(4))
    return packed


def float_from_positive_int4(weight: PositiveInt4) -> Float32:
    """(out, in) float32: the numbers that a four-bit weight stands for."""
    nibbles = np.stack([weight.packed & 15, weight.packed >> 4], axis=-1).astype(np.int8)
    signed = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.float32)
    blocks = signed.reshape(*weight.scales.shape, weight.block_size) * weight.scales[..., None]
    return blocks.reshape(len(blocks), -1)


def positive_int8(
    weight: Float32, *, scale_type: npt.DTypeLike
) -> tuple[npt.NDArray[np.int8], Float32]:
    """The eight-bit weight next to (out, in) float32: codes, and (out,) scales above zero.

    `scale_type` as of `positive_int4`.

    >>> codes, scales = positive_int8(np.array([[127.0, -2.6]], np.float32), scale_type=np.float32)
    >>> codes.tolist(), scales.tolist()
    ([[127, -3]], [1.0])
    """
    stored = np.maximum(np.abs(weight).max(axis=1) / 127, LEAST_SCALE).astype(scale_type)
    scales = stored.astype(np.float32)
    codes = np.clip(np.rint(weight / scales[:, None]), -127, 127).astype(np.int8)
    return codes, scales


@dataclass(kw_only=True, slots=True)
class _FewBits:
    """A weight, rounded while it is read; codes are asked for first, and scales remembered."""

    weights: StoredWeights
    name: str
    block_size: int | None  # None: eight bits
    scale_type: npt.DTypeLike
    _scales: list[Float32] = field(default_factory=list)

    def codes(self) -> Iterator[npt.NDArray[Any]]:
        self._scales.clear()
        for rows in self.weights.pieces(self.name):
            codes, scales = self._rounded(rows)
            self._scales.append(scales)
            yield codes

    def _rounded(self, rows: Float32) -> tuple[npt.NDArray[Any], Float32]:
        if self.block_size is None:
            return positive_int8(rows, scale_type=self.scale_type)
        four = positive_int4(rows, block_size=self.block_size, scale_type=self.scale_type)
        return four.packed, four.scales

    def scales(self) -> Iterator[Float32]:
        if not self._scales:
            for _ in self.codes():
                pass
        while self._scales:
            yield self._scales.pop(0)


class _Int4Tensor(StreamedTensor):
    """Codes, two in a byte."""

    def _whole(self) -> Any:
        numbers = np.concatenate(list(self._narrowed()))
        return ir.PackedTensor(numbers, ir.DataType.INT4, shape=self.shape, name=self.name)


def attach_weights(
    model: ir.Model,
    weights: StoredWeights,
    *,
    int4_block_size: int | None = None,
    int8: bool = False,
    calibrated: Mapping[str, CalibratedWeight] = NOT_CALIBRATED,
) -> None:
    """Give every initializer its data, read when the model is saved.

    Args:
        model: a graph without data; initializers say by their type how wide they are.
        weights: of the checkpoint.
        int4_block_size: linears get four bits in blocks of this size.
        int8: linears get eight bits, a scale a row; with neither they stay floats.
        calibrated: weights that were rounded already, in blocks of that size, by name.

    Raises:
        ConfigError: a row of a weight is not a number of whole blocks.
    """
    graph = model.graph
    assert not (int8 and int4_block_size), "one of them"
    if int8 or int4_block_size is not None:
        for transpose, weight in list(_linears(graph)):
            before = calibrated.get(str(weight.name))
            _dequantized(graph, transpose, weight, weights, int4_block_size, before)
            if not int8:
                graph.opset_imports[""] = max(graph.opset_imports[""], INT4_OPSET)
    for name, value in list(graph.initializers.items()):
        if value.const_value is None:
            pieces: Pieces = functools.partial(weights.pieces, name)
            if is_expert_tensor(name):
                assert value.shape is not None
                pieces = functools.partial(expert_pieces, weights, name, value.shape.numpy()[1])
            value.const_value = StreamedTensor(value, pieces)


def _linears(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Every transpose of an initializer that a MatMul takes, and that initializer; no routers."""
    for node in graph:
        if node.op_type != "MatMul" or node.inputs[1] is None:
            continue
        transpose = node.inputs[1].producer()
        if transpose is not None and transpose.op_type == "Transpose":
            weight = transpose.inputs[0]
            is_weight = weight is not None and weight.is_initializer()
            if weight is not None and is_weight and not str(weight.name).endswith(ROUTER):
                yield transpose, weight


def _dequantized(
    graph: ir.Graph,
    transpose: ir.Node,
    weight: ir.Value,
    weights: StoredWeights,
    block_size: int | None,
    calibrated: CalibratedWeight | None,
) -> None:
    assert weight.shape is not None
    assert weight.dtype is not None
    name, (out_features, in_features) = str(weight.name), weight.shape.numpy()
    if block_size is not None and in_features % block_size:
        raise ConfigError(
            f"{name} has rows of {in_features}, and TensorRT reads four-bit weights in whole "
            f"blocks only, expected a multiple of {block_size}; take precision float16 or "
            "another block size"
        )
    rounded: _FewBits | RoundedBefore
    if calibrated is not None:
        rounded = RoundedBefore(weight=calibrated, packed=_packed)
    else:
        rounded = _FewBits(
            weights=weights,
            name=name,
            block_size=block_size,
            scale_type=NARROW_KINDS.get(weight.dtype, np.float32),
        )
    if block_size is None:
        codes = ir.val(f"{name}.int8", ir.DataType.INT8, (out_features, in_features))
        scales = ir.val(f"{name}.scales", weight.dtype, (out_features,))
        codes.const_value = StreamedTensor(codes, rounded.codes)
        attributes = {"axis": 0}
    else:
        codes = ir.val(f"{name}.int4", ir.DataType.INT4, (out_features, in_features))
        scales = ir.val(f"{name}.scales", weight.dtype, (out_features, in_features // block_size))
        codes.const_value = _Int4Tensor(codes, rounded.codes)
        attributes = {"axis": 1, "block_size": block_size}
    scales.const_value = StreamedTensor(scales, rounded.scales)
    for value in (codes, scales):
        graph.initializers.add(value)
    node = ir.node("DequantizeLinear", [codes, scales], attributes)
    out = node.outputs[0]
    out.name, out.shape, out.type = f"{name}.float", weight.shape, weight.type
    graph.insert_before(transpose, node)
    transpose.replace_input_with(0, out)
    del graph.initializers[name]
