# SPDX-License-Identifier: Apache-2.0
"""Experts as ONNX Runtime's `MoE` and `QMoE` read them.

Knows the two operators and where a traced graph has the first. For every token the operator takes
the softmax over all experts, chooses k, and computes those: a pass of one token reads k experts of
a layer, not all of them.

Both want a matrix (out, in) for each expert, and gate and up projection row by row in turn; a
checkpoint has (in, out), all of gate before all of up. So experts, and only they, are stored
otherwise than in the checkpoint. In four bits they are blocks of 32 along `in`, packed as for
`MatMulNBits`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .quantization import ACCURACY_LEVEL, BLOCK_SIZE, int4_from_float
from .stored_weights import Float32, StoredWeights, lazy_tensor

GATE_UP, DOWN = 2, 4  # inputs of MoE
GATE_UP_NAME = ".gate_up_proj"


def attach_experts(graph: ir.Graph, weights: StoredWeights, *, four_bits: bool) -> None:
    """Give every `MoE` of a traced graph its weights, or make it a `QMoE` of four bits."""
    for node in [node for node in graph if node.op_type == "MoE"]:
        gate_up, down = (_stored(node, index, weights) for index in (GATE_UP, DOWN))
        if not four_bits:
            node.replace_input_with(GATE_UP, _float_initializer(graph, gate_up))
            node.replace_input_with(DOWN, _float_initializer(graph, down))
            continue
        packed, scales = _int4_initializers(graph, gate_up)
        packed_down, scales_down = _int4_initializers(graph, down)
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        four_bit_node = ir.node(
            "QMoE",
            [*node.inputs[:2], packed, scales, None, packed_down, scales_down],
            {
                **attributes,
                "expert_weight_bits": 4,
                "block_size": BLOCK_SIZE,
                "weights_prepacked": 0,
                "accuracy_level": ACCURACY_LEVEL,
            },
            domain="com.microsoft",
        )
        out, old = four_bit_node.outputs[0], node.outputs[0]
        out.name, out.shape, out.type = old.name, old.shape, old.type
        graph.insert_before(node, four_bit_node)
        ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
        graph.remove(node, safe=True)


@dataclass(frozen=True, slots=True)
class _Experts:
    """One tensor of experts, (E, in, out) in the checkpoint."""

    weights: StoredWeights
    name: str
    shape: tuple[int, int, int]

    @property
    def rows_shape(self) -> tuple[int, int, int]:
        experts, in_features, out_features = self.shape
        return experts, out_features, in_features

    def rows(self) -> Float32:
        """(E, out, in), filled an expert at a time."""
        filled = np.empty(self.rows_shape, np.float32)
        for expert, rows in enumerate(self._each()):
            filled[expert] = rows
        return filled

    @functools.lru_cache(maxsize=1)  # noqa: B019 (packed and scales ask in turn)
    def int4(self) -> tuple[npt.NDArray[np.uint8], Float32]:
        """(E, out, in/2) uint8 and scales (E, out, in/32)."""
        experts, out_features, in_features = self.rows_shape
        packed = np.empty((experts, out_features, in_features // 2), np.uint8)
        scales = np.empty((experts, out_features, in_features // BLOCK_SIZE), np.float32)
        for expert, rows in enumerate(self._each()):
            weight = int4_from_float(rows)
            packed[expert] = weight.packed.reshape(out_features, -1)
            scales[expert] = weight.scales
        return packed, scales

    def _each(self) -> Iterator[Float32]:
        """Matrices (out, in) in the operator's order of rows."""
        for rows in self.weights.expert_rows(self.name, in_features=self.shape[1]):
            yield _in_turn(rows) if self.name.endswith(GATE_UP_NAME) else rows


def _in_turn(rows: Float32) -> Float32:
    """Rows g0 g1 ... u0 u1 ... as g0 u0 g1 u1 ...

    >>> _in_turn(np.array([[1.0], [2.0], [10.0], [20.0]], np.float32)).ravel().tolist()
    [1.0, 10.0, 2.0, 20.0]
    """
    gate, up = np.split(rows, 2)
    return np.stack([gate, up], axis=1).reshape(rows.shape)


def _stored(node: ir.Node, index: int, weights: StoredWeights) -> _Experts:
    value = node.inputs[index]
    assert value is not None
    assert value.shape is not None
    experts, in_features, out_features = value.shape.numpy()
    return _Experts(weights, str(value.name), (experts, in_features, out_features))


def _float_initializer(graph: ir.Graph, experts: _Experts) -> ir.Value:
    value = ir.val(f"{experts.name}.rows", ir.DataType.FLOAT, experts.rows_shape)
    value.const_value = lazy_tensor(value, experts.rows)
    graph.initializers.add(value)
    return value


def _int4_initializers(graph: ir.Graph, experts: _Experts) -> tuple[ir.Value, ir.Value]:
    E, out_features, in_features = experts.rows_shape
    packed = ir.val(f"{experts.name}.int4", ir.DataType.UINT8, (E, out_features, in_features // 2))
    scales = ir.val(
        f"{experts.name}.scales", ir.DataType.FLOAT, (E, out_features, in_features // BLOCK_SIZE)
    )
    packed.const_value = lazy_tensor(packed, lambda: experts.int4()[0])
    scales.const_value = lazy_tensor(scales, lambda: experts.int4()[1])
    for value in (packed, scales):
        graph.initializers.add(value)
    return packed, scales
