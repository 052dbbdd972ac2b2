# SPDX-License-Identifier: Apache-2.0
"""A decoder graph that keeps keys and values in int8, with scales that never change.

Knows ONNX Runtime's `GroupQueryAttention`, which takes such a cache as it lies, reads a quarter of
the memory behind a long prompt, and rounds what it appends: to nearest, half to even, cut off at
-128 and 127. It dequantises: queries and sums stay float32.

A prompt that begins a conversation takes another way, in a branch: attention in float32 over its
own keys and values, which are then rounded into the cache. With many rows of queries the operator
is several times slower over codes than over floats (docs/LOG.md), and a prompt has hundreds; and
so what a prompt's tokens see of each other loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..runtime.engine import PAST, is_resident
from .precisions import INT8

KEY = f"{PAST}key_"
LOWEST, HIGHEST = -128.0, 127.0
_LENGTH = 2  # axis of a cache's buffer: (B, kv_heads, S, head_dim)
_TO_THE_END = 2**31 - 1

Float32 = npt.NDArray[np.float32]
ScalesOfLayer = Callable[[int], tuple[Float32, Float32]]


def hold_cache_in_int8(model: ir.Model, scales: ScalesOfLayer) -> None:
    """Change a graph in place.

    Args:
        model: a decoder whose cache is float32.
        scales: by layer, of keys and of values, (1, kv_heads, 1, head_dim).
    """
    graph = model.graph
    # Types are replaced and never changed: clones of a graph share them.
    for value in (*graph.inputs, *graph.outputs):
        if is_resident(str(value.name)):
            value.type = ir.TensorType(INT8)
    begins: ir.Value | None = None
    for node in list(graph):
        if node.op_type != "GroupQueryAttention":
            continue
        if begins is None:
            begins = _begins_a_conversation(graph, before=node)
        _exchange(graph, node, begins, scales)


def _begins_a_conversation(graph: ir.Graph, *, before: ir.Node) -> ir.Value:
    """Whether no sequence has tokens in its cache yet."""
    (cached_tokens,) = (value for value in graph.inputs if value.name == "cached_tokens")
    most = ir.node("ReduceMax", [cached_tokens], {"keepdims": 0}, name="most_cached_tokens")
    none = _constant(graph, "no_tokens", np.array(0, np.int32))
    begins = ir.node("Equal", [most.outputs[0], none], name="begins_a_conversation")
    most.outputs[0].name, begins.outputs[0].name = str(most.name), str(begins.name)
    for node in (most, begins):
        graph.insert_before(before, node)
    return begins.outputs[0]


def _exchange(
    graph: ir.Graph, attention: ir.Node, begins: ir.Value, scales: ScalesOfLayer
) -> None:
    """The operator over floats for one that chooses."""
    past = attention.inputs[3]
    assert past is not None
    layer = int(str(past.name).removeprefix(KEY))
    steps = [
        _constant(graph, f"{kind}_{layer}.scales", numbers)
        for kind, numbers in zip(("key", "value"), scales(layer), strict=True)
    ]
    choice = ir.node(
        "If",
        [begins],
        {
            "then_branch": _prompt(graph, attention, layer, steps),
            "else_branch": _behind_a_cache(attention, layer, steps),
        },
        num_outputs=3,
    )
    for out, old in zip(choice.outputs, attention.outputs, strict=True):
        out.name, out.shape, out.type = old.name, old.shape, old.type
    graph.insert_before(attention, choice)
    for out, old in zip(choice.outputs, attention.outputs, strict=True):
        ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
    graph.remove(attention, safe=True)


def _behind_a_cache(attention: ir.Node, layer: int, steps: list[ir.Value]) -> ir.Graph:
    """The operator over codes; it rounds what it appends."""
    node = ir.node(
        "GroupQueryAttention",
        [*attention.inputs, *[None] * (12 - len(attention.inputs)), *steps],
        {
            **attention.attributes,
            "k_quant_type": "PER_CHANNEL",
            "v_quant_type": "PER_CHANNEL",
            "kv_cache_bit_width": 8,
        },
        domain=attention.domain,
        outputs=_named_as(attention.outputs, f"layer_{layer}.behind"),
    )
    return _branch([node], node.outputs, name=f"layer_{layer}_behind_a_cache")


def _prompt(graph: ir.Graph, attention: ir.Node, layer: int, steps: list[ir.Value]) -> ir.Graph:
    """Attention over the prompt alone, whose keys and values are then rounded into the cache."""
    name = f"layer_{layer}.prompt"
    x, key, value = _named_as(attention.outputs, name)
    key, value = ir.Value(name=f"{name}.key.whole"), ir.Value(name=f"{name}.value.whole")
    inputs = list(attention.inputs)
    inputs[3:5] = None, None
    whole = ir.node(
        "GroupQueryAttention",
        inputs,
        attention.attributes,
        domain=attention.domain,
        outputs=[x, key, value],
    )
    limits = [_constant(graph, f"code_{int(n)}", np.array(n, "f4")) for n in (LOWEST, HIGHEST)]
    end, axis = (
        _constant(graph, f"cache_{word}", np.array([n], np.int64))
        for word, n in (("end", _TO_THE_END), ("axis", _LENGTH))
    )
    nodes, outputs = [whole], [x]
    for kind, of_prompt, past, step, old in zip(
        ("key", "value"),
        (key, value),
        attention.inputs[3:5],
        steps,
        attention.outputs[1:],
        strict=True,
    ):
        chain = [
            ir.node("Div", [of_prompt, step]),
            ir.node("Round", [None]),
            ir.node("Clip", [None, *limits]),
            ir.node("Cast", [None], {"to": INT8.value}),
        ]
        for before, after in pairwise(chain):
            after.replace_input_with(0, before.outputs[0])
        length = ir.node("Shape", [of_prompt], {"start": _LENGTH, "end": _LENGTH + 1})
        # A copy: what is written next lies where this is read.
        rest = ir.node("Slice", [past, length.outputs[0], end, axis])
        for node in (*chain, length, rest):
            node.outputs[0].name = f"{name}.{kind}.{node.op_type.lower()}"
        (present,) = _named_as([old], name)
        whole_again = ir.node(
            "Concat",
            [chain[-1].outputs[0], rest.outputs[0]],
            {"axis": _LENGTH},
            outputs=[present],
        )
        nodes += [*chain, length, rest, whole_again]
        outputs.append(present)
    return _branch(nodes, outputs, name=f"layer_{layer}_prompt")


def _named_as(values: Sequence[ir.Value], prefix: str) -> list[ir.Value]:
    """Others of the same kinds and shapes: names in branches are not those outside."""
    return [
        ir.Value(name=f"{prefix}.{value.name}", shape=value.shape, type=value.type)
        for value in values
    ]


def _branch(nodes: list[ir.Node], outputs: Sequence[ir.Value], *, name: str) -> ir.Graph:
    return ir.Graph([], outputs, nodes=nodes, name=name)


def _constant(graph: ir.Graph, name: str, numbers: npt.NDArray[np.generic]) -> ir.Value:
    """An initializer of the outer graph, which branches see; made once."""
    if name not in graph.initializers:
        tensor = ir.tensor(numbers, name=name)
        kind = ir.TensorType(tensor.dtype)
        graph.initializers.add(
            ir.Value(name=name, const_value=tensor, shape=ir.Shape(numbers.shape), type=kind)
        )
    return graph.initializers[name]
