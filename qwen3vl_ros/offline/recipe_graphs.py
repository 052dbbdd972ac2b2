# SPDX-License-Identifier: Apache-2.0
"""The graphs that a recipe's plans are built from: exported, or found as they should be.

Knows checkpoints, graphs and the list of operators; knows no TensorRT. Graphs are found as they
should be where exporting them now would give the same: same checkpoint, same recipe, same
exporter. What differs is said, since an export that was not expected takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from ..errors import EngineError
from ..image.preprocess import FILE_NAME as PREPROCESSOR_FILE
from ..image.preprocess import load_preprocess_config
from ..model.golden import GOLDEN_FILE
from ..model_config import load_model_config
from ..runtime.manifest import (
    CHECKPOINT_FILES,
    GRAPH_FILES,
    Manifest,
    sha256_of_file,
    verify_engine_dir,
)
from .checkpoint import checked_files
from .engine_files import OPTIONAL_FILES, weights_sha256
from .family import RELEASED
from .recipes import Recipe
from .streamed_tensor import Progress
from .tensorrt_choices import OperatorSet
from .tensorrt_export import FLAVOUR, export_for_tensorrt, graph_tools, room_for_graphs
from .tensorrt_operators import check_operators, operators_read_by


def graphs_for_recipe(
    checkpoint_dir: Path,
    graph_dir: Path,
    recipe: Recipe,
    progress: Progress | None = None,
    *,
    on_outdated: Callable[[str], None] | None = None,
) -> bool:
    """Export a checkpoint's graphs as a recipe wants them, unless they are there.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        graph_dir: place of the graphs; replaced where it holds others.
        recipe: decides operators, numbers and lengths.
        progress: called with a file's name, bytes written and bytes in all.
        on_outdated: called before graphs that are there are replaced, with what differs.

    Returns:
        Whether they had to be exported.

    Raises:
        CheckpointError, ConfigError, EngineError: see `export_for_tensorrt`.
        ConfigError: the recipe's TensorRT does not read an operator; names it.
    """
    fault = (
        "not there" if not graph_dir.is_dir() else what_differs(checkpoint_dir, graph_dir, recipe)
    )
    if fault is not None:
        if on_outdated is not None and graph_dir.is_dir():
            on_outdated(fault)
        export_for_tensorrt(checkpoint_dir, graph_dir, recipe.choices, progress=progress)
    for name in GRAPH_FILES[FLAVOUR]:
        check_operators(ir.load(graph_dir / name), name=name, release=recipe.release)
    return fault is not None


def is_of_size(checkpoint_dir: Path, recipe: Recipe) -> bool:
    """Whether a checkpoint has the shape that a recipe's numbers were chosen for."""
    released = RELEASED.get(recipe.model_size)
    return released is not None and load_model_config(checkpoint_dir).text == released.text


def what_differs(checkpoint_dir: Path, graph_dir: Path, recipe: Recipe) -> str | None:
    """In words, the first reason why exporting now would give other graphs; None for none.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        graph_dir: of graphs that are there.
        recipe: decides operators, numbers and lengths.
    """
    try:
        graphs = verify_engine_dir(graph_dir, flavour=FLAVOUR)
    except EngineError as error:
        if not error.field:
            return "it cannot be read as graphs"
        return f"{error.field} is not what its manifest says"
    room = room_for_graphs(checkpoint_dir, recipe.choices)
    wanted: dict[str, tuple[object, object]] = {
        "precision": (graphs.precision, recipe.precision),
        "vision_precision": (graphs.vision_precision, recipe.vision_precision),
        "cache_length": (graphs.cache_length, room.cache_length),
        "max_visual_tokens": (graphs.max_visual_tokens, room.max_visual_tokens),
    }
    tools = graph_tools()
    for name in sorted(tools.keys() | graphs.tools.keys()):
        wanted[f"tools.{name}"] = graphs.tools.get(name, "none"), tools.get(name, "none")
    for name in (*CHECKPOINT_FILES, *OPTIONAL_FILES):
        if name != PREPROCESSOR_FILE:
            wanted[name] = _hash_there(graphs, name), _hash_here(checkpoint_dir / name)
    for field, (got, expected) in wanted.items():
        if got != expected:
            return f"{field} was {got}, is {expected}"
    own = load_preprocess_config(checkpoint_dir)
    # Limited to the recipe's pictures, which max_visual_tokens tells.
    theirs = replace(load_preprocess_config(graph_dir), max_pixels=own.max_pixels)
    if theirs != own:
        return f"{PREPROCESSOR_FILE} is another one"
    if GOLDEN_FILE not in graphs.files:
        return "it came without golden outputs"
    operators = _operators_of(graph_dir, graphs)
    if operators is not recipe.operators:
        return f"operators was {operators.value}, is {recipe.operators.value}"
    # Last, because it reads all weights.
    weights = weights_sha256(checked_files(checkpoint_dir, load_model_config(checkpoint_dir)))
    if graphs.weights_sha256 != weights:
        return f"weights_sha256 was {graphs.weights_sha256[:12]}, is {weights[:12]}"
    return None


def _hash_there(graphs: Manifest, name: str) -> str:
    return graphs.files[name].sha256[:12] if name in graphs.files else "none"


def _hash_here(file: Path) -> str:
    return sha256_of_file(file)[:12] if file.is_file() else "none"


def _operators_of(graph_dir: Path, graphs: Manifest) -> OperatorSet:
    used = {
        node.op_type
        for name in GRAPH_FILES[graphs.flavour]
        for node in ir.load(graph_dir / name).graph
    }
    return OperatorSet.PLAIN if used <= operators_read_by((10, 3)) else OperatorSet.FUSED
