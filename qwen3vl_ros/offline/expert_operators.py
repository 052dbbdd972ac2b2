# SPDX-License-Identifier: Apache-2.0
"""Experts as ONNX Runtime's `MoE` and `QMoE` read them.

Knows the two operators and where a traced graph has the first. For every token the operator takes
the softmax over all experts, chooses k, and computes those: a pass of one token reads k experts of
a layer, not all of them.

Both want a matrix (out, in) for each expert, and gate and up projection row by row in turn; a
checkpoint has (in, out), all of gate before all of up. So experts, and only they, are stored
otherwise than in the checkpoint. In few bits they are blocks along `in`, packed as for
`MatMulNBits`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .precisions import Precision
from .quantization import ACCURACY_LEVEL
from .stored_weights import Float32, RoundedWeight, StoredWeights
from .streamed_tensor import Pieces

GATE_UP, DOWN = 2, 4  # inputs of MoE
GATE_UP_NAME = ".gate_up_proj"


def attach_experts(
    graph: ir.Graph, weights: StoredWeights, precision: Precision
) -> Mapping[str, Pieces]:
    """Turn the experts of every `MoE` of a traced graph, or make it a `QMoE` of few bits.

    Returns the numbers of the initializers that this adds, by name.
    """
    sources: dict[str, Pieces] = {}
    for node in [node for node in graph if node.op_type == "MoE"]:
        gate_up, down = (_stored(node, index, weights) for index in (GATE_UP, DOWN))
        if precision.bits is None:
            for index, experts in ((GATE_UP, gate_up), (DOWN, down)):
                value = ir.val(f"{experts.name}.rows", ir.DataType.FLOAT, experts.rows_shape)
                graph.initializers.add(value)
                sources[str(value.name)] = experts.rows
                node.replace_input_with(index, value)
            continue
        codes, scales = _rounded_initializers(graph, gate_up, precision, sources)
        codes_down, scales_down = _rounded_initializers(graph, down, precision, sources)
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        rounded_node = ir.node(
            "QMoE",
            [*node.inputs[:2], codes, scales, None, codes_down, scales_down],
            {
                **attributes,
                "expert_weight_bits": precision.bits,
                "block_size": precision.block_size,
                "weights_prepacked": 0,
                "accuracy_level": ACCURACY_LEVEL,
            },
            domain="com.microsoft",
        )
        out, old = rounded_node.outputs[0], node.outputs[0]
        out.name, out.shape, out.type = old.name, old.shape, old.type
        graph.insert_before(node, rounded_node)
        ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    return sources


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

    def rows(self) -> Iterator[Float32]:
        """Matrices (out, in) in the operator's order of rows, an expert at a time."""
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


def _rounded_initializers(
    graph: ir.Graph, experts: _Experts, precision: Precision, sources: dict[str, Pieces]
) -> tuple[ir.Value, ir.Value]:
    assert precision.bits is not None
    E, out_features, in_features = experts.rows_shape
    bytes_of_row = in_features * precision.bits // 8
    codes = ir.val(
        f"{experts.name}.int{precision.bits}", ir.DataType.UINT8, (E, out_features, bytes_of_row)
    )
    blocks = in_features // precision.block_size
    scales = ir.val(f"{experts.name}.scales", ir.DataType.FLOAT, (E, out_features, blocks))
    rounded = RoundedWeight(
        matrices=experts.rows, bits=precision.bits, block_size=precision.block_size
    )
    sources |= {str(codes.name): rounded.codes, str(scales.name): rounded.scales}
    for value in (codes, scales):
        graph.initializers.add(value)
    return codes, scales
