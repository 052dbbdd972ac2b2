# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl build`: a checkpoint becomes TensorRT plans, by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..model_config import load_model_config
from ..offline.recipes import Recipe, load_recipe
from ..offline.tensorrt_build import build_plans, memory_needed
from ..runtime.free_memory import memory_line
from ..runtime.manifest import read_manifest
from ..runtime.plan_memory import plan_memory_needed
from .command import CHECKPOINT, Commands, add_command, workshop
from .elapsed import elapsed_line
from .progress_bar import Effort, progress_bar


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "build", build)
    parser.add_argument(
        "--recipe",
        required=True,
        metavar="NAME",
        help="of engines/recipes (orin-nano, rtx-ada, ...), or the path of a .json file",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="Hugging Face directory"
    )
    source.add_argument(
        "--graphs",
        type=Path,
        help="directory of graphs exported elsewhere; a robot needs no torch then",
    )
    parser.add_argument(
        "--output", type=Path, default=CHECKPOINT.parent, help="parent of graphs and engine"
    )
    parser.add_argument(
        "--graphs-only",
        action="store_true",
        help="write the graphs, to be built on the device itself",
    )


def build(options: argparse.Namespace) -> int:
    """Export a checkpoint's graphs as a recipe wants them, and build TensorRT plans of them."""
    recipe = load_recipe(options.recipe)
    graphs = options.graphs or _exported(options.checkpoint, options.output, recipe)
    if options.graphs_only:
        return 0
    print(memory_line(memory_needed(read_manifest(graphs))), flush=True)
    engine, effort = options.output / recipe.name, Effort()
    with elapsed_line() as report:
        manifest = build_plans(graphs, engine, recipe, report)
    size = sum(file.stat().st_size for file in engine.iterdir())
    print(f"{recipe.name}: {engine}, {size / 1e6:.1f} MB, {effort}")
    print(f"on the GPU it needs {plan_memory_needed(manifest, load_model_config(engine))}")
    return 0


def _exported(checkpoint: Path, output: Path, recipe: Recipe) -> Path:
    """The recipe's graphs, in a directory of their own beside the engine."""
    with workshop("build"):
        from ..offline.recipe_graphs import graphs_for_recipe, is_of_size

    if not is_of_size(checkpoint, recipe):
        print(
            f"note: recipe '{recipe.name}' has numbers chosen for {recipe.model_size}, and this "
            "checkpoint is of another shape"
        )
    graphs = output / f"{recipe.name}-graphs"

    def say_why(fault: str) -> None:
        print(f"graphs: {graphs} is there and will be exported again, {fault}", flush=True)

    effort = Effort()
    with progress_bar() as progress:
        is_new = graphs_for_recipe(checkpoint, graphs, recipe, progress, on_outdated=say_why)
    size = sum(file.stat().st_size for file in graphs.iterdir())
    done = f"{size / 1e6:.1f} MB, {effort}" if is_new else "there already"
    print(f"graphs: {graphs}, {done}")
    return graphs
