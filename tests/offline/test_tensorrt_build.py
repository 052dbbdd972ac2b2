# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl build`: the tiny checkpoint, compiled by TensorRT-RTX for cards that are not here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnx
import pytest

from qwen3vl_ros.errors import EngineError, MissingDependency
from qwen3vl_ros.offline.recipes import Recipe, TokenRange, load_recipe
from qwen3vl_ros.offline.tensorrt_build import build_plans, memory_needed
from qwen3vl_ros.runtime.atomic_directory import replaced_directory
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import (
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    read_manifest,
    verify_engine_dir,
    write_manifest,
)
from qwen3vl_ros.runtime.tensorrt_library import tensorrt_library

ROOT = Path(__file__).resolve().parents[2]
FUSED = load_recipe("rtx-ada")
ORIN = load_recipe("orin-nx")

Graphs = Callable[[Recipe], Path]
Said = list[tuple[str, str]]
Built = Callable[[Recipe], tuple[Path, Said]]


def quiet(what: str, doing: str) -> None:
    """Hears what is being done, and says nothing."""


@pytest.fixture(scope="module")
def built(tiny_graphs: Graphs, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The engine of a recipe, built once, and what the build said of itself."""
    root = tmp_path_factory.mktemp("engines")
    builds: dict[Path, Said] = {}

    def built(recipe: Recipe) -> tuple[Path, Said]:
        names = (recipe.operators.value, recipe.precision, recipe.gpu_architecture)
        directory = root / "-".join(names)
        if directory not in builds:
            said: Said = []
            build_plans(tiny_graphs(recipe), directory, recipe, lambda *words: said.append(words))
            builds[directory] = said
        return directory, builds[directory]

    return built


@pytest.mark.parametrize("architecture", ["sm_86", "sm_89", "sm_120"])
@pytest.mark.parametrize("precision", ["int4", "float16"])
def test_the_tiny_checkpoint_compiles_for_cards_that_are_not_here(built, precision, architecture):
    recipe = dataclasses.replace(FUSED, precision=precision, gpu_architecture=architecture)
    directory, _ = built(recipe)
    manifest = verify_engine_dir(directory, flavour="tensorrt-rtx")
    assert (manifest.precision, manifest.gpu_architecture) == (precision, architecture)
    assert all((directory / plan).stat().st_size > 100_000 for plan in manifest.profiles)


def test_what_orins_build_is_on_the_list_of_10_3_and_compiles(tiny_graphs, tmp_path):
    """On Orins it was not yet tried, so at least one TensorRT has read it."""
    directory = tiny_graphs(ORIN)  # held against the list while it is exported
    opsets = {
        name: onnx.load(directory / name, load_external_data=False).opset_import[0].version
        for name in ("vision.onnx", "decoder.onnx")
    }
    assert opsets == {"vision.onnx": 20, "decoder.onnx": 21}  # four bits need one more
    here = dataclasses.replace(
        ORIN, flavour="tensorrt-rtx", tensorrt="1.7", gpu_architecture="sm_86"
    )
    build_plans(directory, tmp_path / "engine", here, quiet)


def test_eight_bits_compile_of_either_operators(tiny_graphs, built, tmp_path):
    directory, _ = built(dataclasses.replace(FUSED, precision="int8"))
    assert verify_engine_dir(directory, flavour="tensorrt-rtx").precision == "int8"
    plain = dataclasses.replace(ORIN, precision="int8")
    here = dataclasses.replace(
        plain, flavour="tensorrt-rtx", tensorrt="1.7", gpu_architecture="sm_86"
    )
    manifest = build_plans(tiny_graphs(plain), tmp_path / "engine", here, quiet)
    assert manifest.precision == "int8"


def test_an_engine_says_what_it_takes_and_what_made_it(tiny_graphs, built):
    directory, _ = built(FUSED)
    manifest, source = read_manifest(directory), read_manifest(tiny_graphs(FUSED))
    assert manifest.flavour == "tensorrt-rtx"
    assert manifest.driver is None  # no machine with a driver took part
    assert manifest.tools == {
        **source.tools,
        "tensorrt-rtx": tensorrt_library("tensorrt-rtx").__version__,
    }
    assert manifest.weights_sha256 == source.weights_sha256
    assert (manifest.cache_length, manifest.max_visual_tokens) == (4096, 75)
    assert {plan: len(profiles) for plan, profiles in manifest.profiles.items()} == {
        "vision.plan": 1,
        "decoder.plan": 2,
        "lm_head.plan": 1,
    }
    prefill, decode = manifest.profiles["decoder.plan"]
    assert prefill["token_embeds"].max == (1, 4096, 256)
    assert decode["token_embeds"].min == decode["token_embeds"].max == (1, 32, 256)
    assert decode["past_key_0"].max == (1, 2, 4096, 64)
    assert set(manifest.files) >= {"vision.plan", "embed_tokens.npy", "tokenizer.json"}
    assert not any(name.endswith(".data") for name in manifest.files)


def test_a_build_says_what_it_works_on_and_what_it_does(built):
    _, said = built(FUSED)
    assert list(dict.fromkeys(what for what, _ in said)) == [
        "graphs",
        "vision.plan",
        "decoder.plan",
        "lm_head.plan",
        "engine",
    ]
    assert any(doing.startswith("building engine") for _, doing in said)


def test_an_engine_for_another_machine_is_not_loaded_here(built):
    directory, _ = built(FUSED)
    with pytest.raises(MissingDependency, match="cuda-python"):
        load_engines(directory)


def test_a_build_that_fails_leaves_the_engine_before_it(tiny_graphs, tmp_path):
    engine = tmp_path / "engine"
    with replaced_directory(engine, marker=MANIFEST_FILE) as partial:
        (partial / MANIFEST_FILE).write_text("the old one")
    wrong = dataclasses.replace(FUSED, gpu_architecture="sm_87")
    with pytest.raises(EngineError, match="is for sm_87, and TensorRT-RTX") as refusal:
        build_plans(tiny_graphs(FUSED), engine, wrong, quiet)
    assert refusal.value.field == "gpu_architecture"
    assert (engine / MANIFEST_FILE).read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param({"precision": "float16"}, "precision", id="precision"),
        pytest.param({"vision_precision": "float32"}, "vision_precision", id="tower"),
        pytest.param({"cache_length": 2048}, "cache_length", id="cache"),
        # Their preprocessing would make pictures of up to 75 tokens, which the plan refuses.
        pytest.param(
            {"image_tokens": TokenRange(min=1, opt=40, max=40)}, "max_visual_tokens", id="pictures"
        ),
    ],
)
def test_graphs_of_another_recipe_are_refused(tiny_graphs, tmp_path, changed, field):
    with pytest.raises(EngineError, match="export them again with qwen3vl build") as refusal:
        build_plans(
            tiny_graphs(FUSED), tmp_path / "e", dataclasses.replace(FUSED, **changed), quiet
        )
    assert refusal.value.field == field


def test_an_operator_that_the_parser_does_not_know_is_named_with_the_graph(tiny_graphs, tmp_path):
    source, changed = tiny_graphs(FUSED), tmp_path / "graphs"
    changed.mkdir()
    for file in source.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    # The first graph that is read: nothing has to be compiled before it.
    tower = onnx.load(changed / "vision.onnx", load_external_data=False)
    product = next(node for node in tower.graph.node if node.op_type == "MatMul")
    product.op_type = "Hardmost"
    onnx.save(tower, changed / "vision.onnx")
    facts = read_manifest(source)
    write_manifest(
        changed,
        **{
            name: getattr(facts, name)
            for name in (
                "flavour",
                "precision",
                "vision_precision",
                "model_type",
                "weights_sha256",
                "cache_length",
                "max_visual_tokens",
                "tools",
            )
        },
    )
    with pytest.raises(EngineError, match=r"does not read vision\.onnx: .*Hardmost"):
        build_plans(changed, tmp_path / "engine", FUSED, quiet)


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with TensorRT of some version, on a GPU of some architecture."""

    def install(*, version: str = "10.3.0.30", architecture: str = "sm_87") -> None:
        trt = ModuleType("tensorrt")
        vars(trt)["__version__"] = version
        engine = ModuleType("qwen3vl_ros.runtime.tensorrt_engine")
        vars(engine)["this_machine"] = lambda _: SimpleNamespace(gpu_architecture=architecture)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, engine.__name__, engine)

    return install


def test_an_older_tensorrt_than_a_recipe_needs_is_refused(orin, tmp_path):
    orin(version="8.6.1.6")
    with pytest.raises(EngineError, match=r"needs tensorrt 10\.3 or newer.*has 8\.6\.1") as fault:
        build_plans(tmp_path, tmp_path / "engine", load_recipe("orin-nano"), quiet)
    assert fault.value.field == "tools.tensorrt"


def test_tensorrt_builds_for_the_gpu_it_runs_on_only(orin, tmp_path):
    orin(version="10.13.3.9", architecture="sm_87")
    with pytest.raises(EngineError, match=r"for sm_110, this machine has sm_87") as refusal:
        build_plans(tmp_path, tmp_path / "engine", load_recipe("thor"), quiet)
    assert refusal.value.field == "gpu_architecture"


def test_without_the_recipes_tensorrt_it_is_said_what_to_install(tmp_path):
    with pytest.raises(MissingDependency, match="comes with JetPack"):
        build_plans(tmp_path, tmp_path / "engine", load_recipe("orin-nx"), quiet)


def graphs_of(precision: str, **gigabytes: float) -> Manifest:
    """A manifest of graphs whose weights have these sizes."""
    sizes = {f"{graph}.onnx.data": int(size * 1e9) for graph, size in gigabytes.items()}
    files = {name: FileEntry(sha256="0" * 64, size_bytes=size) for name, size in sizes.items()}
    tiny = read_manifest(ROOT / "engines" / "tiny" / "onnxruntime-int4")
    return dataclasses.replace(tiny, precision=precision, files=files)


@pytest.mark.parametrize(
    ("manifest", "measured_gb"),
    [
        # docs/bench/tensorrt_2b.json
        pytest.param(graphs_of("int4", vision=0.81, decoder=0.79, lm_head=0.18), 4.96, id="int4"),
        pytest.param(graphs_of("float16", vision=0.81, decoder=2.82), 9.08, id="float16"),
    ],
)
def test_what_a_build_needs_is_what_builds_of_2b_took(manifest, measured_gb):
    assert memory_needed(manifest) / 1e9 == pytest.approx(measured_gb, rel=0.1)
