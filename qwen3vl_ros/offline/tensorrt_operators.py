# SPDX-License-Identifier: Apache-2.0
"""Which operators each TensorRT reads: the list that every graph for it is held against.

Knows ONNX graphs and NVIDIA's releases; knows no torch, and no TensorRT is needed to be refused.

Sources, read on 2026-11-28:

- onnx-tensorrt `docs/operators.md` of release 10.1 ("10.0 ... opset 9 to opset 20") and of 10.15
  ("opset 9 to opset 24"), the release note of 11.5 ("opset 25"): types and restrictions below.
- onnx-tensorrt `docs/Changelog.md`, NVIDIA/TensorRT `CHANGELOG.md` up to 11.1: Attention came with
  10.14 (2025-11-07), RotaryEmbedding, RMSNormalization and TensorScatter with 10.15 (2026-02-02);
  nothing that we use was taken away, and 10.3 differs from 10.1 in none of it.
- onnx-tensorrt `onnxOpImporters.cpp` and `ModelImporter.cpp` of 10.1: INT4 behind DequantizeLinear
  in blocks along one axis, INT8 with a scale for each row, both without zero point and with scales
  above zero, and no upper limit on the opset of a model.
- NVIDIA's pages for Jetsons: JetPack 6.1 and 6.2 bring TensorRT 10.3, JetPack 7.0 brings 10.13;
  11.4.1 is the first of TensorRT 11 that runs there (AGX Orin and Thor with JetPack 7.2.2).

So the fused set needs 10.15, and JetPack 6 and 7.0 take the plain one (docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from ..errors import ConfigError
from .tensorrt_choices import Release


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """What TensorRT takes of one operator.

    Attributes:
        types: of its data, ONNX IR's names.
        data: the input that types are said of.
        since: first release of TensorRT 10 that has it.
        constants: inputs that must be known when the plan is built.
        absent: inputs that must not be given.
        ranks: of the data; empty for any.
        attributes: values that these must have where they are given.
    """

    types: frozenset[str]
    data: int = 0
    since: Release = (10, 0)
    constants: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    attributes: Mapping[str, object] = field(default_factory=dict)


_FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16"})
_NUMBERS = _FLOATS | {"INT32", "INT64"}
_ALL = _NUMBERS | {"BOOL"}

OPERATORS: Mapping[str, Accepted] = {
    "Add": Accepted(types=_NUMBERS),
    "Attention": Accepted(
        types=_FLOATS,
        since=(10, 14),
        absent=(4, 5, 6),  # past_key, past_value, nonpad_kv_seqlen
        ranks=(4,),
        attributes={"softcap": 0.0, "qk_matmul_output_mode": 0},
    ),
    "Cast": Accepted(types=_ALL),
    "Clip": Accepted(types=_NUMBERS),
    "Concat": Accepted(types=_ALL),
    "Constant": Accepted(types=_ALL),
    "DequantizeLinear": Accepted(types=frozenset({"INT4", "INT8"}), constants=(0, 1), absent=(2,)),
    "Div": Accepted(types=_NUMBERS),
    "Equal": Accepted(types=_NUMBERS),
    "Erf": Accepted(types=_FLOATS),
    "Expand": Accepted(types=_ALL),
    "Gather": Accepted(types=_ALL),
    "GatherND": Accepted(types=_ALL),
    "Gelu": Accepted(types=_NUMBERS),
    "Greater": Accepted(types=_NUMBERS),
    "GreaterOrEqual": Accepted(types=_NUMBERS),
    "Identity": Accepted(types=_ALL),
    "LayerNormalization": Accepted(types=_FLOATS),
    "Less": Accepted(types=_NUMBERS),
    "LessOrEqual": Accepted(types=_NUMBERS),
    "MatMul": Accepted(types=_FLOATS),
    "Max": Accepted(types=_NUMBERS),
    "Min": Accepted(types=_NUMBERS),
    "Mul": Accepted(types=_NUMBERS),
    "Neg": Accepted(types=_NUMBERS),
    "Pow": Accepted(types=_FLOATS),
    "RMSNormalization": Accepted(types=_FLOATS, since=(10, 15)),
    "Range": Accepted(types=_NUMBERS),
    "Reciprocal": Accepted(types=_FLOATS),
    "ReduceMean": Accepted(types=_NUMBERS, constants=(1,)),
    "ReduceSum": Accepted(types=_NUMBERS, constants=(1,)),
    "Reshape": Accepted(types=_ALL),
    "RotaryEmbedding": Accepted(types=_FLOATS, since=(10, 15)),
    "Shape": Accepted(types=_ALL),
    "Sigmoid": Accepted(types=_FLOATS),
    "Slice": Accepted(types=_ALL),
    "Softmax": Accepted(types=_FLOATS),
    "Split": Accepted(types=_ALL),
    "Sqrt": Accepted(types=_FLOATS),
    "Squeeze": Accepted(types=_ALL, constants=(1,)),
    "Sub": Accepted(types=_NUMBERS),
    "Tanh": Accepted(types=_FLOATS),
    "TensorScatter": Accepted(
        types=_FLOATS | {"INT32"}, since=(10, 15), ranks=(4,), attributes={"axis": -2}
    ),
    "Transpose": Accepted(types=_ALL),
    "Unsqueeze": Accepted(types=_ALL, constants=(1,)),
    "Where": Accepted(types=_ALL, data=1),  # its first input is the condition
}
# The newest opset that a release is documented to read.
OPSETS: Mapping[Release, int] = {(10, 0): 20, (10, 15): 24, (11, 5): 25}
# Blocks of four bits exist from this opset on; the parser of every TensorRT 10 reads them.
INT4_OPSET = 21


def operators_read_by(release: Release) -> frozenset[str]:
    """Names of the operators that a release of TensorRT reads, among those on the list."""
    return frozenset(name for name, accepted in OPERATORS.items() if accepted.since <= release)


def check_operators(model: ir.Model, *, name: str, release: Release) -> None:
    """Raise unless a release of TensorRT reads every operator of a graph.

    Args:
        model: of weights only shapes are looked at; not changed.
        name: of the graph, for the message.
        release: of TensorRT.

    Raises:
        ConfigError: with every operator that it does not read, and why.
    """
    typed = ShapeInferencePass()(model.clone()).model  # the tracer leaves some types out
    faults = sorted({f"{node.op_type} ({why})" for node, why in _faults(typed.graph, release)})
    has_int4 = any(
        value is not None and value.dtype == ir.DataType.INT4
        for node in model.graph
        for value in node.inputs
    )
    newest = max(opset for since, opset in OPSETS.items() if since <= release)
    newest = max(newest, INT4_OPSET) if has_int4 else newest
    if (opset := model.graph.opset_imports[""]) > newest:
        faults.append(f"opset {opset} (reads up to {newest})")
    if faults:
        major, minor = release
        raise ConfigError(
            f"TensorRT {major}.{minor} does not read of {name}: {', '.join(faults)}; take the "
            "plain operator set, or TensorRT 10.15 or newer"
        )


def _faults(graph: ir.Graph, release: Release) -> Iterator[tuple[ir.Node, str]]:
    for node in graph:
        accepted = OPERATORS.get(node.op_type) if node.domain == "" else None
        if accepted is None:
            yield node, "not on our list of what TensorRT reads"
        elif accepted.since > release:
            yield node, "from TensorRT {}.{} on".format(*accepted.since)
        elif why := _misuse(node, accepted):
            yield node, why


def _misuse(node: ir.Node, accepted: Accepted) -> str | None:
    """What of a node is outside of what TensorRT takes of its operator."""
    inputs = dict(enumerate(node.inputs))
    data = inputs.get(accepted.data)
    if data is not None and (data.dtype is None or data.dtype.name not in accepted.types):
        return f"of {data.dtype.name if data.dtype else 'unknown type'}"
    rank = data.shape.rank() if data is not None and data.shape is not None else None
    if accepted.ranks and rank not in accepted.ranks:
        return f"of rank {rank or 'unknown'}"
    for index in accepted.constants:
        if (value := inputs.get(index)) is not None and not _is_constant(value):
            return f"input {index} is not a constant"
    for index in accepted.absent:
        if inputs.get(index) is not None:
            return f"input {index} is given"
    if len([output for output in node.outputs if output.uses()]) > 1 and node.op_type != "Split":
        return "more than its first output is used"
    for name, expected in accepted.attributes.items():
        if name in node.attributes and node.attributes[name].value != expected:
            return f"{name} is {node.attributes[name].value}"
    return None


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return value.is_initializer() or (producer is not None and producer.op_type == "Constant")
