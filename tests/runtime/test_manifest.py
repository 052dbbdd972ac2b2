# SPDX-License-Identifier: Apache-2.0
"""An engine directory is what its manifest says, or it is refused by the field that differs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.manifest import (
    CHECKPOINT_FILES,
    EMBEDDING_FILE,
    FORMAT_VERSION,
    GRAPH_FILES,
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    ShapeRange,
    read_manifest,
    verify_engine_dir,
    write_manifest,
)

SCHEMA = Path(__file__).resolve().parents[2] / "engines" / "manifest.schema.json"
ONNX_FILES = (*GRAPH_FILES["onnxruntime"], "decoder.onnx.data", EMBEDDING_FILE, *CHECKPOINT_FILES)


# A name that a checkpoint's config may give itself.
CONFIG = {"model_type": "qwen3_vl", "_name_or_path": "Qwen/Qwen3-VL-2B-Instruct"}
FIELDS: dict[str, Any] = {
    "flavour": "onnxruntime",
    "precision": "int4",
    "vision_precision": "float16",
    "model_type": "qwen3_vl",
    "weights_sha256": "0" * 64,
    "cache_length": 1024,
    "max_visual_tokens": 75,
    "tools": {"torch": "2.13.0"},
}
PLAN_FIELDS: dict[str, Any] = FIELDS | {
    "flavour": "tensorrt",
    "profiles": {
        "vision.plan": [],
        "decoder.plan": [
            {
                "token_embeds": ShapeRange(min=(1, 1, 64), opt=(1, 320, 64), max=(1, 768, 64)),
                "cached_tokens": ShapeRange(min=(1,), opt=(1,), max=(1,)),
            },
            {"token_embeds": ShapeRange(min=(1, 1, 64), opt=(1, 1, 64), max=(1, 8, 64))},
        ],
        "lm_head.plan": [],
    },
    "tools": {"torch": "2.13.0", "tensorrt": "10.13.0.35"},
    "gpu_architecture": "sm_87",
    "driver": "540.4.0",
}


def write_files(directory: Path, graphs: tuple[str, ...], config: dict[str, Any]) -> Path:
    """All the files of an engine, with no engine in them: nothing here is loaded."""
    directory.mkdir()
    for name in (*graphs, EMBEDDING_FILE, *CHECKPOINT_FILES):
        (directory / name).write_bytes(name.encode() * 3)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def engine_dir(tmp_path: Path) -> Path:
    graphs = (*GRAPH_FILES["onnxruntime"], "decoder.onnx.data")
    directory = write_files(tmp_path / "engine", graphs, CONFIG)
    write_manifest(directory, **FIELDS)
    return directory


@pytest.fixture
def plan_dir(tmp_path: Path) -> Path:
    directory = write_files(tmp_path / "plans", GRAPH_FILES["tensorrt"], CONFIG)
    write_manifest(directory, **PLAN_FIELDS)
    return directory


def change(directory: Path, **fields: Any) -> None:
    """Write other values into a manifest; `...` takes the field out."""
    file = directory / MANIFEST_FILE
    values = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def test_a_whole_engine_directory_is_accepted(engine_dir):
    manifest = verify_engine_dir(engine_dir, flavour="onnxruntime")
    assert manifest == read_manifest(engine_dir)
    assert (manifest.precision, manifest.vision_precision) == ("int4", "float16")
    assert (manifest.cache_length, manifest.max_visual_tokens) == (1024, 75)
    assert set(manifest.files) == set(ONNX_FILES)


def test_a_directory_of_plans_comes_back_with_the_shapes_and_the_machine_it_was_built_for(
    plan_dir,
):
    manifest = verify_engine_dir(plan_dir)
    assert manifest.profiles == {k: tuple(v) for k, v in PLAN_FIELDS["profiles"].items()}
    assert (manifest.gpu_architecture, manifest.driver) == ("sm_87", "540.4.0")
    assert manifest.tools["tensorrt"] == "10.13.0.35"


@pytest.mark.parametrize(
    ("name", "model_id"),
    [
        pytest.param(
            {"_name_or_path": "Qwen/Qwen3-VL-2B-Instruct"}, "Qwen/Qwen3-VL-2B-Instruct", id="hub"
        ),
        pytest.param({}, "", id="none"),
        pytest.param({"_name_or_path": ""}, "", id="empty"),
        pytest.param({"_name_or_path": "/home/alice/checkpoint"}, "", id="somebodys-disk"),
        pytest.param({"_name_or_path": ["Qwen"]}, "", id="no-text"),
    ],
)
def test_a_model_has_the_name_its_checkpoint_gives_itself_or_none(tmp_path, name, model_id):
    config = {"model_type": "qwen3_vl"} | name
    directory = write_files(tmp_path / "engine", GRAPH_FILES["onnxruntime"], config)
    assert write_manifest(directory, **FIELDS).model_id == model_id
    assert verify_engine_dir(directory).model_id == model_id


def test_the_onnx_runtime_an_engine_was_exported_beside_is_recorded(engine_dir):
    assert read_manifest(engine_dir).tools == {
        "onnxruntime": onnxruntime.__version__,
        "torch": "2.13.0",
    }


def entry(directory: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((directory / MANIFEST_FILE).read_text())["files"][name])


def files_with(directory: Path, name: str, value: Any) -> dict[str, Any]:
    return json.loads((directory / MANIFEST_FILE).read_text())["files"] | {name: value}


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def swap_config(directory: Path) -> None:
    """The file and its entry agree; only the hash of what was traced does not."""
    config_sha256 = read_manifest(directory).config_sha256
    (directory / "config.json").write_text(json.dumps(CONFIG | {"rope_theta": 1.0}))
    write_manifest(directory, **FIELDS)
    change(directory, config_sha256=config_sha256)


def link_outside(directory: Path, name: str) -> None:
    outside = directory.parent / name
    (directory / name).rename(outside)
    (directory / name).symlink_to(outside)


def name_outside(directory: Path, name: str) -> None:
    shutil.copy(directory / "decoder.onnx", directory.parent / "decoder.onnx")
    change(directory, files=files_with(directory, name, entry(directory, "decoder.onnx")))


DIFFERENCES = [
    pytest.param(
        lambda d: change(d, format_version=FORMAT_VERSION + 1), "format_version", id="newer-format"
    ),
    pytest.param(
        lambda d: change(d, format_version=FORMAT_VERSION - 1), "format_version", id="older-format"
    ),
    pytest.param(lambda d: change(d, flavour="tensorrt-onnx"), "flavour", id="graphs-for-plans"),
    pytest.param(lambda d: change(d, flavour="tensorrt"), "profiles", id="graphs-called-plans"),
    pytest.param(lambda d: change(d, flavour="coreml"), "flavour", id="unknown-flavour"),
    pytest.param(swap_config, "config_sha256", id="other-config"),
    pytest.param(lambda d: change(d, model_type="qwen3_vl_moe"), "model_type", id="other-type"),
    pytest.param(lambda d: change(d, model_id="Qwen/Qwen3-VL-4B"), "model_id", id="other-model"),
    pytest.param(lambda d: change(d, files={}), "files", id="file-unlisted"),
    pytest.param(lambda d: (d / "vision.onnx").unlink(), "files.vision.onnx", id="file-missing"),
    pytest.param(
        lambda d: flip_a_byte(d / "decoder.onnx.data"),
        "files.decoder.onnx.data",
        id="byte-flipped",
    ),
    pytest.param(
        lambda d: (d / "lm_head.onnx").write_bytes(b"lm"), "files.lm_head.onnx", id="truncated"
    ),
    pytest.param(lambda d: flip_a_byte(d / "config.json"), "files.config.json", id="config-byte"),
    pytest.param(
        lambda d: link_outside(d, "tokenizer.json"), "files.tokenizer.json", id="link-outside"
    ),
    pytest.param(
        lambda d: name_outside(d, "../decoder.onnx"), "files.../decoder.onnx", id="name-outside"
    ),
    pytest.param(
        lambda d: name_outside(d, str(d / "decoder.onnx")),
        "files./engine/decoder.onnx",
        id="name-from-the-root",
    ),
]


@pytest.mark.parametrize(("tamper", "field"), DIFFERENCES)
def test_an_engine_that_differs_is_refused_by_field(engine_dir, tamper, field):
    tamper(engine_dir)
    with pytest.raises(EngineError, match=r"qwen3vl (export|build)") as refusal:
        verify_engine_dir(engine_dir, flavour="onnxruntime")
    assert refusal.value.field.replace(str(engine_dir.parent), "") == field


def test_plans_that_differ_are_refused_with_the_command_that_builds_plans(plan_dir):
    flip_a_byte(plan_dir / "decoder.plan")
    with pytest.raises(EngineError, match="qwen3vl build --recipe") as refusal:
        verify_engine_dir(plan_dir)
    assert refusal.value.field == "files.decoder.plan"


def test_graphs_to_build_plans_from_are_a_directory_like_another_that_only_a_builder_reads(
    tmp_path,
):
    directory = write_files(tmp_path / "graphs", GRAPH_FILES["tensorrt-onnx"], CONFIG)
    write_manifest(directory, **FIELDS | {"flavour": "tensorrt-onnx"})
    assert verify_engine_dir(directory, flavour="tensorrt-onnx").tools == FIELDS["tools"]
    with pytest.raises(EngineError, match="expected onnxruntime or tensorrt") as refusal:
        verify_engine_dir(directory)
    assert refusal.value.field == "flavour"
    assert "qwen3vl build --recipe <recipe>" in str(refusal.value)
    assert "--graphs-only" in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "wrong", "field"),
    [
        pytest.param(FIELDS, {"flavour": "coreml"}, "flavour", id="flavour"),
        pytest.param(FIELDS, {"gpu_architecture": "sm_87"}, "gpu_architecture", id="no-gpu"),
        pytest.param(FIELDS, {"driver": "540.4.0"}, "driver", id="no-driver"),
        pytest.param(FIELDS, {"profiles": {"decoder.onnx": []}}, "profiles", id="no-profiles"),
        pytest.param(FIELDS, {"weights_sha256": "abc"}, "weights_sha256", id="no-hash"),
        pytest.param(FIELDS, {"cache_length": 0}, "cache_length", id="no-cache"),
        pytest.param(PLAN_FIELDS, {"gpu_architecture": None}, "gpu_architecture", id="which-gpu"),
        pytest.param(PLAN_FIELDS, {"profiles": None}, "profiles", id="which-shapes"),
        pytest.param(PLAN_FIELDS, {"tools": {"torch": "2.13.0"}}, "tools", id="which-tensorrt"),
        pytest.param(
            PLAN_FIELDS, {"flavour": "tensorrt-rtx"}, "tools", id="built-by-the-other-tensorrt"
        ),
    ],
)
def test_a_builder_cannot_write_what_the_loader_would_refuse(tmp_path, fields, wrong, field):
    directory = write_files(tmp_path / "engine", ("vision.onnx",), CONFIG)
    with pytest.raises(EngineError) as refusal:
        write_manifest(directory, **fields | wrong)
    assert refusal.value.field == field
    assert not (directory / MANIFEST_FILE).exists()


def a_file(directory: Path) -> Path:
    shutil.rmtree(directory)
    directory.write_text("not a directory")
    return directory


def without_manifest(directory: Path) -> Path:
    (directory / MANIFEST_FILE).unlink()
    return directory


def manifest_outside(directory: Path) -> Path:
    link_outside(directory, MANIFEST_FILE)
    return directory


def with_manifest(text: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        (directory / MANIFEST_FILE).write_text(text)
        return directory

    return write


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda d: d.parent / "other", "no engine directory", id="missing"),
        pytest.param(a_file, "no engine directory", id="a-file"),
        pytest.param(without_manifest, "has no manifest.json", id="no-manifest"),
        pytest.param(with_manifest("{"), "cannot read", id="not-json"),
        pytest.param(with_manifest("[]"), "format_version None", id="not-an-object"),
        pytest.param(with_manifest("[" * 100_000), "cannot read", id="nested"),
        pytest.param(with_manifest(" " * 1_000_001), "bytes long", id="huge"),
        pytest.param(manifest_outside, "leads out of the engine directory", id="link-outside"),
    ],
)
def test_what_is_no_engine_directory_is_refused_with_the_command_that_makes_one(
    engine_dir, prepare, message
):
    directory = prepare(engine_dir)
    with pytest.raises(EngineError, match=message) as refusal:
        verify_engine_dir(directory)
    assert f"qwen3vl export --checkpoint <checkpoint> --output {directory.parent}" in str(
        refusal.value
    )


def test_whoever_names_the_parent_of_engines_is_told_their_names(tmp_path):
    for name in ("onnxruntime-int4", "onnxruntime-float32"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    names = "onnxruntime-float32, onnxruntime-int4"
    with pytest.raises(EngineError, match=f"engines in {names}: name"):
        verify_engine_dir(tmp_path)


def test_a_link_that_stays_inside_is_followed(engine_dir):
    (engine_dir / "tokenizer.json").rename(engine_dir / "shared.json")
    (engine_dir / "tokenizer.json").symlink_to("shared.json")
    assert verify_engine_dir(engine_dir).files["tokenizer.json"]


def test_files_the_manifest_does_not_name_are_nobodys_business(engine_dir):
    (engine_dir / "notes.txt").write_text("measured on a Tuesday")
    verify_engine_dir(engine_dir)


def test_the_published_schema_and_the_manifest_are_one(engine_dir):
    schema = json.loads(SCHEMA.read_text())
    kinds = {"int": "integer", "str": "string", "str | None": ["string", "null"]}
    for cls, section in (
        (Manifest, schema),
        (FileEntry, schema["properties"]["files"]["additionalProperties"]),
    ):
        fields = {f.name: kinds.get(str(f.type), "object") for f in dataclasses.fields(cls)}
        assert {k: v["type"] for k, v in section["properties"].items()} == fields
        assert sorted(section["required"]) == sorted(fields)
        assert section["additionalProperties"] is False
    assert schema["properties"]["format_version"]["const"] == FORMAT_VERSION
    assert schema["properties"]["flavour"]["enum"] == list(GRAPH_FILES)
    written = json.loads((engine_dir / MANIFEST_FILE).read_text())
    assert list(written) == list(schema["properties"])
