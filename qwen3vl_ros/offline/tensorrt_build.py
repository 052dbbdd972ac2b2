# SPDX-License-Identifier: Apache-2.0
"""A directory of graphs becomes a directory of TensorRT plans.

Knows TensorRT's builder and the files of both directories; knows no checkpoint and needs no torch,
so that a robot builds from graphs that were exported elsewhere. Networks are strongly typed: every
number is as wide as the graph says. TensorRT-RTX compiles for a GPU that need not be there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import EngineError
from ..image.preprocess import load_preprocess_config
from ..runtime.atomic_directory import replaced_directory
from ..runtime.engine_memory import check_memory
from ..runtime.machine import driver_version
from ..runtime.manifest import (
    GRAPH_FILES,
    MANIFEST_FILE,
    Manifest,
    verify_engine_dir,
    write_manifest,
)
from ..runtime.tensorrt_library import faults_of, logger_of, tensorrt_library
from .recipes import Recipe
from .tensorrt_choices import release_from_version
from .tensorrt_profiles import Lengths, Profile, lengths_of, profiles_of

GRAPHS_FLAVOUR = "tensorrt-onnx"
# Peak memory of a build, beside what Python takes: so many times the weights of the largest graph,
# of which four-bit ones are unpacked to a byte each. Measured of TensorRT-RTX 1.7 on the true 2B
# shape (docs/bench/tensorrt_2b.json: 4.3 to 5.0 GB of int4, 8.5 to 9.1 GB of float16). Of TensorRT
# on a device it is assumed to be alike, and was not yet measured.
MEMORY_PER_WEIGHT_BYTE = 3.0
MEMORY_OF_A_BUILDER = 500_000_000

Report = Callable[[str, str], None]  # what is built, and what is being done to it


def build_plans(graph_dir: Path, engine_dir: Path, recipe: Recipe, report: Report) -> Manifest:
    """Build the plans of a recipe; what was in `engine_dir` is replaced in one step.

    Args:
        graph_dir: graphs of flavour "tensorrt-onnx" (`tensorrt_export.py`).
        engine_dir: place of the engine; new, empty, or an engine.
        recipe: for which device.
        report: hears what is being done; called from TensorRT's threads too.

    Raises:
        EngineError: graphs that are not the recipe's, another device or version than the recipe's,
            too little memory, or a graph that TensorRT does not build.
        MissingDependency: the recipe's TensorRT is not installed.
    """
    trt = tensorrt_library(recipe.flavour)
    _check_version(trt, recipe)
    if recipe.flavour == "tensorrt":
        _check_device(recipe)
    report("graphs", "checking")
    graphs = verify_engine_dir(graph_dir, flavour=GRAPHS_FLAVOUR)
    _check_graphs(graphs, recipe)
    needed = memory_needed(graphs)
    check_memory(
        needed,
        f"about {needed / 1e9:.1f} GB",
        of="building these plans",
        advice="add swap, or take a recipe of a smaller precision",
    )
    lengths = lengths_of(recipe, load_preprocess_config(graph_dir))
    names = zip(GRAPH_FILES[GRAPHS_FLAVOUR], GRAPH_FILES[recipe.flavour], strict=True)
    profiles: dict[str, tuple[Profile, ...]] = {}
    with replaced_directory(engine_dir, marker=MANIFEST_FILE) as partial:
        for graph, plan in names:
            say = _saying(report, plan)
            profiles[plan] = _build(
                trt, graph_dir / graph, partial / plan, recipe, lengths=lengths, say=say
            )
        report("engine", "copying tokenizer, configs and embedding table")
        for name in graphs.files:
            if not name.startswith(GRAPH_FILES[GRAPHS_FLAVOUR]):
                shutil.copyfile(graph_dir / name, partial / name)
        return write_manifest(
            partial,
            flavour=recipe.flavour,
            precision=graphs.precision,
            vision_precision=graphs.vision_precision,
            model_id=graphs.model_id,
            model_type=graphs.model_type,
            weights_sha256=graphs.weights_sha256,
            cache_length=graphs.cache_length,
            max_visual_tokens=lengths.image_tokens.max,
            profiles=profiles,
            tools={**graphs.tools, recipe.flavour: str(trt.__version__)},
            gpu_architecture=recipe.gpu_architecture,
            driver=driver_version(),
        )


def memory_needed(graphs: Manifest) -> int:
    """Bytes that building the largest of the plans takes at its peak, about."""
    unpacked = 2 if graphs.precision.startswith("int4") else 1
    sizes = (
        sum(entry.size_bytes for name, entry in graphs.files.items() if name.startswith(graph))
        * (1 if graph.startswith("vision") else unpacked)
        for graph in GRAPH_FILES[GRAPHS_FLAVOUR]
    )
    return MEMORY_OF_A_BUILDER + int(max(sizes) * MEMORY_PER_WEIGHT_BYTE)


def _build(
    trt: ModuleType,
    graph: Path,
    plan: Path,
    recipe: Recipe,
    *,
    lengths: Lengths,
    say: Callable[[str], None],
) -> tuple[Profile, ...]:
    """Write one plan; its profiles."""
    log = logger_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    say("reading the graph")
    if not parser.parse_from_file(str(graph)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        faults = [f"{error.node_operator()}, {error.desc()}" for error in errors]
        raise EngineError(
            f"TensorRT {trt.__version__} does not read {graph.name}: {' | '.join(faults)}; export "
            f"the plain operator set for this version, or install a newer one: {graph}"
        )
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    profiles = profiles_of(graph.stem, shapes, lengths)
    config = builder.create_builder_config()
    for profile in profiles:
        config.add_optimization_profile(_tensorrt_profile(builder, profile))
    if recipe.flavour == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(_compute_capability(trt, recipe), 0)
    config.progress_monitor = _monitor(trt, say)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise EngineError(
            f"TensorRT {trt.__version__} cannot build {plan.name} for {recipe.gpu_architecture}: "
            f"{faults_of(trt)}"
        )
    say("writing")
    with plan.open("wb") as file:
        file.write(memoryview(serialised))
    return profiles


def _tensorrt_profile(builder: Any, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    for name, shapes in profile.items():
        made.set_shape(name, shapes.min, shapes.opt, shapes.max)
    return made


def _compute_capability(trt: ModuleType, recipe: Recipe) -> Any:
    name = recipe.gpu_architecture.replace("sm_", "SM")
    capability = getattr(trt.ComputeCapability, name, None)
    if capability is None:
        known = [each for each in dir(trt.ComputeCapability) if each.startswith("SM")]
        raise EngineError(
            f"recipe '{recipe.name}' is for {recipe.gpu_architecture}, and TensorRT-RTX "
            f"{trt.__version__} compiles for {', '.join(known)}; change gpu_architecture",
            field="gpu_architecture",
        )
    return capability


def _monitor(trt: ModuleType, say: Callable[[str], None]) -> Any:
    """Passes the outermost phase of a build on; the inner ones change too fast to be read."""

    monitor: Any = trt.IProgressMonitor

    class Monitor(monitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: Mapping[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps = {**self.steps, name: steps}
            say(name.lower())

        def step_complete(self, name: str, step: int) -> bool:
            say(f"{name.lower()}, {step + 1} of {self.steps.get(name, step + 1)}")
            return True  # go on

        def phase_finish(self, name: str) -> None:
            pass

    return Monitor()


def _saying(report: Report, plan: str) -> Callable[[str], None]:
    return lambda phase: report(plan, phase)


def _check_version(trt: ModuleType, recipe: Recipe) -> None:
    wanted, got = (release_from_version(each) for each in (recipe.tensorrt, str(trt.__version__)))
    if got < wanted:
        raise EngineError(
            f"recipe '{recipe.name}' needs {recipe.flavour} {recipe.tensorrt} or newer, this "
            f"machine has {trt.__version__}; update it, or take a recipe with the plain operators",
            field=f"tools.{recipe.flavour}",
        )


def _check_device(recipe: Recipe) -> None:
    # Needs CUDA, which a machine that compiles ahead of time has not.
    from ..runtime.tensorrt_engine import this_machine

    here = this_machine(recipe.flavour).gpu_architecture
    if here != recipe.gpu_architecture:
        raise EngineError(
            f"recipe '{recipe.name}' is for {recipe.gpu_architecture}, this machine has {here}, "
            "and TensorRT builds for the GPU it runs on only; take this machine's recipe",
            field="gpu_architecture",
        )


def _check_graphs(graphs: Manifest, recipe: Recipe) -> None:
    for field, got in (
        ("precision", graphs.precision),
        ("vision_precision", graphs.vision_precision),
        ("cache_length", graphs.cache_length),
    ):
        if (expected := getattr(recipe, field)) != got:
            raise EngineError(
                f"the graphs have {field} {got}, recipe '{recipe.name}' has {expected}; export "
                "them again with qwen3vl build --recipe ... --graphs-only",
                field=field,
            )
    # Fewer are the checkpoint's own limit.
    if graphs.max_visual_tokens > recipe.image_tokens.max:
        raise EngineError(
            f"the graphs have max_visual_tokens {graphs.max_visual_tokens}, recipe "
            f"'{recipe.name}' has {recipe.image_tokens.max} at most; export them again with "
            "qwen3vl build --recipe ... --graphs-only",
            field="max_visual_tokens",
        )
