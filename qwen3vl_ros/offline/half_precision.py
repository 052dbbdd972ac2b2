# SPDX-License-Identifier: Apache-2.0
"""A float32 graph computes its products in float16, and what must not lose digits in float32.

Knows operators, no weights. Products and attention run in float16, and so does what stands between
them and takes nothing else (biases, activations, reshapes). Norms, rotation, the sum along the
depth and the blend of position rows stay float32, as in torch's autocast: sums of many layers grow
where float16 has few digits left, and positions are small differences. The cache is float16, the
graph's other inputs and outputs stay float32.
"""

from __future__ import annotations

import onnx_ir as ir

from ..runtime.engine import is_resident
from .precisions import FLOAT16, FLOAT32

PRODUCTS = frozenset(
    ("FusedMatMul", "MatMul", "MatMulNBits", "MoE", "QMoE", "GroupQueryAttention")
) | {"MultiHeadAttention"}
# Float16 when everything they take is.
BETWEEN = frozenset(
    ("Add", "Mul", "Sigmoid", "Gelu", "Reshape", "Transpose", "Split", "Slice", "Unsqueeze")
) | {"Concat", "Squeeze"}


def compute_in_half(graph: ir.Graph, *, whole: str) -> None:
    """Change a graph in place.

    Args:
        graph: in topological order; initializers need no data.
        whole: products by a weight whose name ends so stay float32.
    """
    # Types are replaced and never changed: clones of a graph share them.
    for value in (*graph.inputs, *graph.outputs):
        if is_resident(str(value.name)):
            value.type = ir.TensorType(FLOAT16)
    kinds = _Kinds(graph)
    for node in list(graph):
        _name_kinds(node)
        is_product = node.op_type in PRODUCTS and not _is_by(node, whole)
        if is_product or (node.op_type in BETWEEN and kinds.takes_only_half(node)):
            kinds.make_half(node)
        else:
            kinds.keep_whole(node)
    kinds.widen_outputs()


def _name_kinds(node: ir.Node) -> None:
    """The tracer leaves some outputs without a type: lengths, and what is as the first input."""
    for out in node.outputs:
        if out.type is None:
            first = node.inputs[0]
            assert first is not None
            assert first.dtype is not None
            out.type = ir.TensorType(ir.DataType.INT64 if node.op_type == "Shape" else first.dtype)


def _is_by(node: ir.Node, ending: str) -> bool:
    return any(value is not None and str(value.name).endswith(ending) for value in node.inputs)


class _Kinds:
    """What each value of a graph is, and its twin of the other kind once somebody wanted it."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._twins: dict[ir.Value, ir.Value] = {}

    def takes_only_half(self, node: ir.Node) -> bool:
        values = [value for value in node.inputs if _is_float(value)]
        computed = [value for value in values if value is not None and not value.is_initializer()]
        return bool(computed) and all(value.dtype == FLOAT16 for value in computed)

    def make_half(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == FLOAT32:
                if _is_weight(value) and len(value.uses()) == 1:
                    value.type = ir.TensorType(FLOAT16)  # stored so
                else:
                    node.replace_input_with(index, self._twin(value, FLOAT16, before=node))
        for out in node.outputs:
            if out.dtype == FLOAT32:
                out.type = ir.TensorType(FLOAT16)

    def keep_whole(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == FLOAT16:
                node.replace_input_with(index, self._twin(value, FLOAT32, before=node))

    def widen_outputs(self) -> None:
        for index, value in enumerate(self._graph.outputs):
            if value.dtype == FLOAT16 and not is_resident(str(value.name)):
                name, wide = str(value.name), self._twin(value, FLOAT32, before=None)
                value.name, wide.name = f"{name}.half", name
                wide.shape = value.shape
                self._graph.outputs[index] = wide

    def _twin(self, value: ir.Value, kind: ir.DataType, *, before: ir.Node | None) -> ir.Value:
        if value not in self._twins:
            cast = ir.node("Cast", [value], {"to": kind.value})
            twin = cast.outputs[0]
            twin.name = f"{value.name}.{kind.name.lower()}"
            twin.shape, twin.type = value.shape, ir.TensorType(kind)
            if before is None:
                self._graph.append(cast)
            else:
                self._graph.insert_before(before, cast)
            self._twins[value] = twin
        return self._twins[value]


def _is_weight(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is None


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype in (FLOAT32, FLOAT16)
