# SPDX-License-Identifier: Apache-2.0
"""An engine directory is what its manifest says, or it is refused by the field that differs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    read_manifest,
    verify_engine_dir,
    write_manifest,
)

SCHEMA = Path(__file__).resolve().parents[2] / "engines" / "manifest.schema.json"
ONNX_FILES = (*GRAPH_FILES["onnxruntime"], "decoder.onnx.data", EMBEDDING_FILE, *CHECKPOINT_FILES)


@pytest.fixture
def engine_dir(tmp_path: Path) -> Path:
    """All the files of an engine, with no engine in them: nothing here is loaded."""
    directory = tmp_path / "engine"
    directory.mkdir()
    for name in ONNX_FILES:
        (directory / name).write_bytes(name.encode() * 3)
    write_manifest(
        directory,
        flavour="onnxruntime",
        precision="int4",
        model_type="qwen3_vl",
        weights_sha256="0" * 64,
        cache_length=1024,
        max_visual_tokens=75,
        tools={"torch": "2.13.0"},
    )
    return directory


def change(directory: Path, **fields: Any) -> None:
    """Write other values into a manifest; None takes the field out."""
    file = directory / MANIFEST_FILE
    values = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def test_a_whole_engine_directory_is_accepted(engine_dir):
    manifest = verify_engine_dir(engine_dir, flavour="onnxruntime")
    assert manifest == read_manifest(engine_dir)
    assert (manifest.precision, manifest.cache_length) == ("int4", 1024)
    assert set(manifest.files) == set(ONNX_FILES)


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
    (directory / "config.json").write_text("{}")
    fields = dataclasses.asdict(read_manifest(directory))
    kept = {k: v for k, v in fields.items() if k not in ("format_version", "files")}
    config_sha256 = kept.pop("config_sha256")
    write_manifest(directory, **kept)
    change(directory, config_sha256=config_sha256)


def link_outside(directory: Path, name: str) -> None:
    outside = directory.parent / name
    (directory / name).rename(outside)
    (directory / name).symlink_to(outside)


def name_outside(directory: Path, name: str) -> None:
    shutil.copy(directory / "decoder.onnx", directory.parent / "decoder.onnx")
    change(directory, files=files_with(directory, name, entry(directory, "decoder.onnx")))


REFUSALS = [
    pytest.param(
        lambda d: change(d, format_version=FORMAT_VERSION + 1), "format_version", id="newer-format"
    ),
    pytest.param(lambda d: change(d, format_version=None), "format_version", id="no-format"),
    pytest.param(lambda d: change(d, flavour="tensorrt"), "flavour", id="other-flavour"),
    pytest.param(lambda d: change(d, flavour="coreml"), "flavour", id="unknown-flavour"),
    pytest.param(swap_config, "config_sha256", id="other-config"),
    pytest.param(lambda d: change(d, precision=None), "precision", id="field-missing"),
    pytest.param(lambda d: change(d, cache_length="1024"), "cache_length", id="field-of-a-kind"),
    pytest.param(lambda d: change(d, cache_length=True), "cache_length", id="true-is-no-number"),
    pytest.param(lambda d: change(d, colour="red"), "colour", id="unknown-field"),
    pytest.param(lambda d: change(d, files={}), "files", id="file-unlisted"),
    pytest.param(
        lambda d: change(d, files=files_with(d, "decoder.onnx", {"sha256": "0"})),
        "files.decoder.onnx",
        id="entry-without-size",
    ),
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
]


@pytest.mark.parametrize(("tamper", "field"), REFUSALS)
def test_an_engine_that_differs_is_refused_by_field(engine_dir, tamper, field):
    tamper(engine_dir)
    with pytest.raises(EngineError, match="qwen3vl export") as refusal:
        verify_engine_dir(engine_dir, flavour="onnxruntime")
    assert refusal.value.field == field


def a_file(directory: Path) -> Path:
    shutil.rmtree(directory)
    directory.write_text("not a directory")
    return directory


def without_manifest(directory: Path) -> Path:
    (directory / MANIFEST_FILE).unlink()
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
        pytest.param(with_manifest(" " * 1_000_001), "bytes long", id="huge"),
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


def test_a_link_that_stays_inside_is_followed(engine_dir):
    (engine_dir / "tokenizer.json").rename(engine_dir / "shared.json")
    (engine_dir / "tokenizer.json").symlink_to("shared.json")
    assert verify_engine_dir(engine_dir).files["tokenizer.json"]


def test_files_the_manifest_does_not_name_are_nobodys_business(engine_dir):
    (engine_dir / "notes.txt").write_text("measured on a Tuesday")
    verify_engine_dir(engine_dir)


def test_the_published_schema_and_the_manifest_are_one(engine_dir):
    schema = json.loads(SCHEMA.read_text())
    kinds = {"int": "integer", "str": "string"}
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
