# SPDX-License-Identifier: Apache-2.0
"""What an engine directory is: `manifest.json` beside the graphs, checked before anything loads.

Knows files and hashes, no runtime. An engine directory is whole and self-contained: graphs,
embedding table, tokenizer, configs. Only files the manifest names are ever read, and none of them
may lie outside the directory. How a directory is written whole: `atomic_directory.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import EngineError

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000

# What a runtime opens, by flavour; tokenizer and configs are common to both.
GRAPH_FILES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("vision.onnx", "decoder.onnx", "lm_head.onnx"),
    "tensorrt": ("vision.plan", "decoder.plan", "lm_head.plan"),
}
EMBEDDING_FILE = "embed_tokens.npy"
CHECKPOINT_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of the directory: `sha256` in hex, `size_bytes`."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Where an engine came from and what it can hold.

    Attributes:
        format_version: of this file; another one is refused.
        flavour: the runtime the graphs are for, a key of `GRAPH_FILES`.
        precision: of the decoder's weights, "float32" or "int4".
        model_type: of the checkpoint's config, for example "qwen3_vl".
        config_sha256: of the `config.json` the graphs were traced from.
        weights_sha256: of the source weights, file names and contents.
        cache_length: tokens of prompt and answer together that the cache holds.
        max_visual_tokens: image tokens of the largest picture that preprocessing makes.
        tools: versions of what made the engine, by package name.
        files: every file but the manifest itself, by name relative to the directory.
    """

    format_version: int
    flavour: str
    precision: str
    model_type: str
    config_sha256: str
    weights_sha256: str
    cache_length: int
    max_visual_tokens: int
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry]


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an engine directory, its form checked and nothing else.

    Raises:
        EngineError: no directory, no manifest, or a field is missing or of the wrong kind.
    """
    if not directory.is_dir():
        raise EngineError(f"no engine directory; {_rebuild(directory)}; looked at {directory}")
    file = directory / MANIFEST_FILE
    if not file.is_file():
        raise EngineError(
            f"the engine directory has no {MANIFEST_FILE}, so nothing says what its graphs are; "
            f"{_rebuild(directory)}; looked at {directory}"
        )
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise EngineError(
            f"{MANIFEST_FILE} is {file.stat().st_size} bytes long, expected at most "
            f"{MAX_MANIFEST_BYTES}; {_rebuild(directory)}"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read {file}: {error}; {_rebuild(directory)}") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise EngineError(
            f"{MANIFEST_FILE} has format_version {version!r}, expected {FORMAT_VERSION}; "
            f"{_rebuild(directory)}",
            field="format_version",
        )
    return _manifest_from_dict(values, directory)


def verify_engine_dir(directory: Path, *, flavour: str | None = None) -> Manifest:
    """The manifest of an engine directory whose files are exactly what it says.

    Args:
        directory: an engine directory.
        flavour: what the caller can run; None for any.

    Raises:
        EngineError: with the manifest field that differs; says how to rebuild.
    """
    manifest = read_manifest(directory)
    known = GRAPH_FILES if flavour is None else {flavour: GRAPH_FILES[flavour]}
    if manifest.flavour not in known:
        raise EngineError(
            f"the engine is of flavour '{manifest.flavour}', expected {' or '.join(known)}; "
            f"{_rebuild(directory, manifest)}",
            field="flavour",
        )
    for name in (*GRAPH_FILES[manifest.flavour], EMBEDDING_FILE, *CHECKPOINT_FILES):
        if name not in manifest.files:
            raise EngineError(
                f"{MANIFEST_FILE} does not list {name}, which a '{manifest.flavour}' engine "
                f"needs; {_rebuild(directory, manifest)}",
                field="files",
            )
    if manifest.files["config.json"].sha256 != manifest.config_sha256:
        raise EngineError(
            f"the engine was traced from a config.json with sha256 {manifest.config_sha256[:12]}, "
            f"its own has {manifest.files['config.json'].sha256[:12]}; "
            f"{_rebuild(directory, manifest)}",
            field="config_sha256",
        )
    for name, entry in manifest.files.items():
        _verify_file(directory, name, entry, manifest)
    return manifest


def _verify_file(directory: Path, name: str, entry: FileEntry, manifest: Manifest) -> None:
    file = directory / name
    field = f"files.{name}"
    # Both the name and what it leads to must stay inside: "../x" and a link to /etc do not.
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    if not inside or not file.resolve().is_relative_to(directory.resolve()):
        raise EngineError(
            f"{MANIFEST_FILE} names '{name}', which leads out of the engine directory; expected "
            f"files inside {directory}: {_rebuild(directory, manifest)}",
            field=field,
        )
    if not file.is_file():
        raise EngineError(
            f"the engine's {name} is missing; {_rebuild(directory, manifest)}", field=field
        )
    got_bytes = file.stat().st_size
    if got_bytes != entry.size_bytes:
        raise EngineError(
            f"the engine's {name} is {got_bytes} bytes long, expected {entry.size_bytes}: it is "
            f"truncated or of another export; {_rebuild(directory, manifest)}",
            field=field,
        )
    got = sha256_of_file(file)
    if got != entry.sha256:
        raise EngineError(
            f"the engine's {name} has sha256 {got[:12]}, expected {entry.sha256[:12]}: it is "
            f"damaged or was changed; {_rebuild(directory, manifest)}",
            field=field,
        )


def write_manifest(
    directory: Path,
    *,
    flavour: str,
    precision: str,
    model_type: str,
    weights_sha256: str,
    cache_length: int,
    max_visual_tokens: int,
    tools: Mapping[str, str],
) -> Manifest:
    """Hash every file of `directory` into its `manifest.json`; the last file to be written."""
    files = {
        path.relative_to(directory).as_posix(): FileEntry(
            sha256=sha256_of_file(path), size_bytes=path.stat().st_size
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        flavour=flavour,
        precision=precision,
        model_type=model_type,
        config_sha256=files["config.json"].sha256,
        weights_sha256=weights_sha256,
        cache_length=cache_length,
        max_visual_tokens=max_visual_tokens,
        tools=dict(tools),
        files=files,
    )
    text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    (directory / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return manifest


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _rebuild(directory: Path, manifest: Manifest | None = None) -> str:
    precision = f" --precision {manifest.precision}" if manifest else ""
    return (
        "build it again with: qwen3vl export --checkpoint <checkpoint> --output "
        f"{directory.parent}{precision}"
    )


def _manifest_from_dict(values: Mapping[str, Any], directory: Path) -> Manifest:
    kinds = {"int": int, "str": str, "Mapping[str, str]": dict, "Mapping[str, FileEntry]": dict}
    for field in dataclasses.fields(Manifest):
        value, kind = values.get(field.name), kinds[str(field.type)]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise EngineError(
                f"{MANIFEST_FILE} has {field.name} = {value!r}, expected a JSON "
                f"{ {int: 'integer', str: 'string', dict: 'object'}[kind] }; "
                f"{_rebuild(directory)}",
                field=field.name,
            )
    if unknown := values.keys() - {field.name for field in dataclasses.fields(Manifest)}:
        raise EngineError(
            f"{MANIFEST_FILE} has unknown fields {sorted(unknown)}; {_rebuild(directory)}",
            field=min(unknown),
        )
    files = {}
    for name, entry in values["files"].items():
        try:
            files[name] = FileEntry(
                sha256=str(entry["sha256"]), size_bytes=int(entry["size_bytes"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{MANIFEST_FILE} lists {name} without its sha256 and size_bytes; "
                f"{_rebuild(directory)}",
                field=f"files.{name}",
            ) from error
    return Manifest(**{**values, "files": files})
