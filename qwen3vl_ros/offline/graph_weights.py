# SPDX-License-Identifier: Apache-2.0
"""A traced graph gets its weights: linears their operator, initializers their numbers.

Knows the `onnxruntime` flavour's operators and which tensor of a checkpoint each initializer is.
A weight is stored as the checkpoint has it, (out, in), once; only experts are turned
(`expert_operators.py`). Nothing is read here: numbers are read when the model is saved.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from .calibrated_weight import NOT_CALIBRATED, CalibratedWeight, RoundedBefore
from .expert_operators import attach_experts
from .half_precision import compute_in_half
from .integer_products import integer_product, is_integer_product
from .precisions import FLOAT16, FLOAT32, INT8, Precision
from .quantization import ACCURACY_LEVEL, packed_int4
from .stored_weights import RoundedWeight, StoredWeights
from .streamed_tensor import Pieces, StreamedTensor

ROUTER = ".mlp.gate.weight"


def attach_weights(
    model: ir.Model,
    weights: StoredWeights,
    precision: Precision,
    *,
    calibrated: Mapping[str, CalibratedWeight] = NOT_CALIBRATED,
) -> None:
    """Give a graph its operators and every initializer the promise of its numbers.

    Args:
        model: without data.
        weights: of the checkpoint.
        precision: of this graph.
        calibrated: weights that were rounded already, by name.
    """
    graph = model.graph
    sources: dict[str, Pieces] = {}
    for matmul, weight in list(_linears(graph)):
        x = matmul.inputs[0]
        # A router weighs experts in float32: it is small, and a wrong choice is not a small error.
        if precision.bits is not None and not str(weight.name).endswith(ROUTER):
            initializers, rounded = _rounded_initializers(
                graph, weight, weights, precision, calibrated.get(str(weight.name))
            )
            sources |= rounded
            attributes = _attributes(weight, precision)
            inputs = [x, *initializers]
            node = ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft")
        elif precision.stored == INT8 and is_integer_product(weight):
            read = functools.partial(weights.array, str(weight.name))
            node, rounded = integer_product(graph, x, weight, read)
            sources |= rounded
        else:
            # Takes the weight as it lies, so that nobody has to store or make its transpose.
            node = ir.node("FusedMatMul", [x, weight], {"transB": 1}, domain="com.microsoft")
        out, old = node.outputs[0], matmul.outputs[0]
        out.name, out.shape, out.type = old.name, old.shape, old.type
        graph.insert_before(matmul, node)
        ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
        graph.remove(matmul, safe=True)
    sources |= attach_experts(graph, weights, precision)
    model.opset_imports["com.microsoft"] = 1
    RemoveUnusedNodesPass()(model)
    if precision.computed == FLOAT16:
        compute_in_half(graph, whole=ROUTER)
    elif precision.stored not in (FLOAT32, INT8):
        _store_narrow(graph, precision.stored)
    for name, value in graph.initializers.items():
        if value.const_value is None:
            pieces = sources.get(name, functools.partial(weights.pieces, name))
            value.const_value = StreamedTensor(value, pieces)


def _linears(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Every MatMul by the transpose of an initializer, and that initializer."""
    for node in graph:
        if node.op_type != "MatMul" or node.inputs[1] is None:
            continue
        transpose = node.inputs[1].producer()
        if transpose is not None and transpose.op_type == "Transpose":
            weight = transpose.inputs[0]
            if weight is not None and weight.is_initializer():
                yield node, weight


def _matrix_shape(weight: ir.Value) -> tuple[int, int]:
    assert weight.shape is not None
    out_features, in_features = weight.shape.numpy()
    return out_features, in_features


def _attributes(weight: ir.Value, precision: Precision) -> Mapping[str, int]:
    out_features, in_features = _matrix_shape(weight)
    assert precision.bits is not None
    return {
        "N": out_features,
        "K": in_features,
        "bits": precision.bits,
        "block_size": precision.block_size,
        "accuracy_level": ACCURACY_LEVEL,
    }


def _rounded_initializers(
    graph: ir.Graph,
    weight: ir.Value,
    weights: StoredWeights,
    precision: Precision,
    calibrated: CalibratedWeight | None,
) -> tuple[tuple[ir.Value, ir.Value], Mapping[str, Pieces]]:
    """Codes and scales of a weight, and where their numbers come from."""
    name, (out_features, in_features) = str(weight.name), _matrix_shape(weight)
    assert precision.bits is not None
    blocks = -(-in_features // precision.block_size)
    bytes_of_block = precision.block_size * precision.bits // 8
    codes = ir.val(
        f"{name}.int{precision.bits}", ir.DataType.UINT8, (out_features, blocks, bytes_of_block)
    )
    scales = ir.val(f"{name}.scales", FLOAT32, (out_features, blocks))
    for value in (codes, scales):
        graph.initializers.add(value)
    rounded: RoundedWeight | RoundedBefore
    if calibrated is not None:
        rounded = RoundedBefore(
            weight=calibrated,
            packed=functools.partial(packed_int4, block_size=calibrated.block_size),
        )
    else:
        rounded = RoundedWeight(
            matrices=functools.partial(weights.pieces, name),
            bits=precision.bits,
            block_size=precision.block_size,
        )
    return (codes, scales), {str(codes.name): rounded.codes, str(scales.name): rounded.scales}


def _store_narrow(graph: ir.Graph, kind: ir.DataType) -> None:
    """Floating-point weights in `kind`, widened before they are used."""
    for name, weight in list(graph.initializers.items()):
        if weight.dtype != FLOAT32 or weight.const_value is not None:
            continue
        uses = list(weight.uses())
        wide = ir.node("Cast", [weight], {"to": FLOAT32.value})
        out = wide.outputs[0]
        out.name, out.shape, out.type = f"{name}.wide", weight.shape, weight.type
        for node, index in uses:
            node.replace_input_with(index, out)
        graph.insert_before(graph[0], wide)
        weight.type = ir.TensorType(kind)  # replaced, not changed: clones of a graph share it
