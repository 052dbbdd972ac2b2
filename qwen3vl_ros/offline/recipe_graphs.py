# SPDX-License-Identifier: Apache-2.0
"""The graphs that a recipe's plans are built from: exported, or found as they should be.

Knows checkpoints, graphs and the list of operators; knows no TensorRT.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from ..errors import EngineError
from ..model_config import load_model_config
from ..runtime.manifest import GRAPH_FILES, Manifest, sha256_of_file, verify_engine_dir
from .checkpoint import checked_files
from .engine_files import tool_versions, weights_sha256
from .family import RELEASED
from .recipes import Recipe
from .streamed_tensor import Progress
from .tensorrt_choices import OperatorSet
from .tensorrt_export import FLAVOUR, export_for_tensorrt, room_for_graphs
from .tensorrt_operators import check_operators, operators_read_by


def graphs_for_recipe(
    checkpoint_dir: Path, graph_dir: Path, recipe: Recipe, progress: Progress | None = None
) -> bool:
    """Export a checkpoint's graphs as a recipe wants them, unless they are there.

    Args:
        checkpoint_dir: Hugging Face-style directory.
        graph_dir: place of the graphs; replaced where it holds others.
        recipe: decides operators, numbers and lengths.
        progress: called with a file's name, bytes written and bytes in all.

    Returns:
        Whether they had to be exported.

    Raises:
        CheckpointError, ConfigError, EngineError: see `export_for_tensorrt`.
        ConfigError: the recipe's TensorRT does not read an operator; names it.
    """
    is_there = _are_as_wanted(checkpoint_dir, graph_dir, recipe)
    if not is_there:
        export_for_tensorrt(checkpoint_dir, graph_dir, recipe.choices, progress=progress)
    for name in GRAPH_FILES[FLAVOUR]:
        check_operators(ir.load(graph_dir / name), name=name, release=recipe.release)
    return not is_there


def is_of_size(checkpoint_dir: Path, recipe: Recipe) -> bool:
    """Whether a checkpoint has the shape that a recipe's numbers were chosen for."""
    released = RELEASED.get(recipe.model_size)
    return released is not None and load_model_config(checkpoint_dir).text == released.text


def _are_as_wanted(checkpoint_dir: Path, graph_dir: Path, recipe: Recipe) -> bool:
    if not graph_dir.is_dir():
        return False
    try:
        graphs = verify_engine_dir(graph_dir, flavour=FLAVOUR)
    except EngineError:
        return False  # the exporter says so, if it is somebody else's directory
    room = room_for_graphs(checkpoint_dir, recipe.choices)
    facts = (
        (graphs.precision, recipe.precision),
        (graphs.vision_precision, recipe.vision_precision),
        (graphs.cache_length, room.cache_length),
        (graphs.max_visual_tokens, room.max_visual_tokens),
        (graphs.tools, tool_versions()),
        (graphs.config_sha256, sha256_of_file(checkpoint_dir / "config.json")),
        (_operators_of(graph_dir, graphs), recipe.operators),
    )
    if any(got != wanted for got, wanted in facts):
        return False
    files = checked_files(checkpoint_dir, load_model_config(checkpoint_dir))
    return graphs.weights_sha256 == weights_sha256(files)


def _operators_of(graph_dir: Path, graphs: Manifest) -> OperatorSet:
    used = {
        node.op_type
        for name in GRAPH_FILES[graphs.flavour]
        for node in ir.load(graph_dir / name).graph
    }
    return OperatorSet.PLAIN if used <= operators_read_by((10, 3)) else OperatorSet.FUSED
