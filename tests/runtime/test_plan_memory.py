# SPDX-License-Identifier: Apache-2.0
"""What an engine of plans needs of a GPU is what it asks CUDA for, but for TensorRT's own part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.recipes import load_recipe, recipe_names
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_profiles import profiles_of
from qwen3vl_ros.runtime.engine_memory import memory_needed
from qwen3vl_ros.runtime.manifest import FileEntry, Manifest, read_manifest
from qwen3vl_ros.runtime.plan_memory import plan_memory_needed
from tests.conftest import CACHE_LENGTH
from tests.runtime.conftest import LENGTHS, WINDOW, Graph
from tests.runtime.fake_tensorrt import WORKSPACE_BYTES

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "onnxruntime-int4"
NAMES = ("vision", "decoder", "lm_head")
FLAVOURS = {OperatorSet.FUSED: "tensorrt-rtx", OperatorSet.PLAIN: "tensorrt"}


def manifest_of(graph: Graph, operators: OperatorSet, **changed: object) -> Manifest:
    """Of plans of the random checkpoint's graphs, a million bytes each."""
    shapes = {
        f"{name}.plan": {
            value.name: tuple(axis if isinstance(axis, int) else -1 for axis in value.shape)
            for value in ir.load(graph(name, operators)).graph.inputs
        }
        for name in NAMES
    }
    made = dataclasses.replace(
        read_manifest(TINY),
        flavour=FLAVOURS[operators],
        precision="float16",
        vision_precision="float16",
        cache_length=CACHE_LENGTH,
        max_visual_tokens=LENGTHS.image_tokens.max,
        profiles={
            plan: profiles_of(plan.removesuffix(".plan"), inputs, LENGTHS)
            for plan, inputs in shapes.items()
        },
        files={plan: FileEntry(sha256="0" * 64, size_bytes=10**6) for plan in shapes},
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("operators", [pytest.param(o, id=o.value) for o in OperatorSet])
def test_cache_and_buffers_are_what_the_engine_asks_cuda_for(load, graph, cuda, config, operators):
    """After the longest pass of every profile, of all three plans."""
    engines = [load(name, operators) for name in NAMES]
    for name, engine in zip(NAMES, engines, strict=True):
        for profile in manifest_of(graph, operators).profiles[f"{name}.plan"]:
            feeds = {
                spec.name: np.zeros(profile[spec.name].max, spec.dtype) for spec in engine.inputs
            }
            if name == "decoder":
                feeds["visual_rows"] -= 1
            engine.run(feeds)
    need = plan_memory_needed(manifest_of(graph, operators), config)
    asked = sum(memory.nbytes for memory in cuda.allocated.values())
    assert need.cache + need.buffers == asked - len(NAMES) * WORKSPACE_BYTES


def test_a_cache_is_its_keys_and_values(graph, config: ModelConfig):
    need = plan_memory_needed(manifest_of(graph, OperatorSet.FUSED), config)
    assert need.cache == 3 * 2 * 2 * CACHE_LENGTH * 32 * 2  # layers, k and v, heads, rows, width
    wide = manifest_of(graph, OperatorSet.FUSED, precision="float32")
    assert plan_memory_needed(wide, config).cache == 2 * need.cache


def test_weights_are_the_plans_and_work_is_the_cpus_in_half_as_wide_numbers(graph, config):
    manifest = manifest_of(graph, OperatorSet.FUSED)
    need = plan_memory_needed(manifest, config)
    assert need.weights == 3 * 10**6
    assert need.work == memory_needed(manifest, config).passes // 2
    assert need.total == need.weights + need.cache + need.buffers + need.work


def test_who_cannot_write_in_place_needs_room_for_what_it_gives_out(graph, config):
    """The rows of a prompt as long as the cache, and those of the window."""
    plain, fused = (
        plan_memory_needed(manifest_of(graph, operators), config)
        for operators in (OperatorSet.PLAIN, OperatorSet.FUSED)
    )
    assert plain.cache == fused.cache
    more = plain.cache * (CACHE_LENGTH + WINDOW) // CACHE_LENGTH
    assert plain.buffers - fused.buffers == more


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipes_flavour_tells_its_operators(name):
    """Manifests do not name operators, so an estimate goes by the flavour."""
    recipe = load_recipe(name)
    assert recipe.flavour == FLAVOURS[recipe.operators]


def test_an_estimate_says_that_it_is_one(graph, config):
    said = str(plan_memory_needed(manifest_of(graph, OperatorSet.FUSED), config))
    assert said.startswith("about 0.0")
    assert said.endswith("an estimate, not yet run on hardware)")
