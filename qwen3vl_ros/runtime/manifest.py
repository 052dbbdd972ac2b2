# SPDX-License-Identifier: Apache-2.0
"""What an engine directory is: `manifest.json` beside the graphs, checked before anything loads.

Knows files and hashes, no runtime. An engine directory is whole and self-contained: graphs,
embedding table, tokenizer, configs. Only files the manifest names are ever read, and none of them
may lie outside the directory. What the fields are: `manifest_fields.py`; who may own the files:
`trusted_path.py`; how a directory is written whole: `atomic_directory.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..errors import EngineError
from .flavours import GRAPH_FILES as GRAPH_FILES
from .flavours import LOADED_FLAVOURS, check_flavour
from .machine import ONNX_RUNTIME, onnxruntime_version
from .manifest_fields import FileEntry as FileEntry
from .manifest_fields import Manifest as Manifest
from .manifest_fields import ShapeRange as ShapeRange
from .manifest_fields import manifest_from_dict
from .rebuild import rebuild_advice
from .trusted_path import check_spelled_out, check_trusted

FORMAT_VERSION = 2
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000

EMBEDDING_FILE = "embed_tokens.npy"
CHECKPOINT_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an engine directory, its form checked and nothing else.

    Raises:
        EngineError: no directory, no manifest, or a field is missing or of the wrong kind.
    """
    check_spelled_out(directory)
    file = directory / MANIFEST_FILE
    try:
        if not directory.is_dir():
            raise EngineError(_no_directory(directory))
        if not file.is_file():
            below = sorted(found.parent.name for found in directory.glob(f"*/{MANIFEST_FILE}"))
            if below:
                raise EngineError(
                    f"{directory} has no {MANIFEST_FILE}, expected an engine directory; it holds "
                    f"engines in {', '.join(below)}: name one of them"
                )
            raise EngineError(
                f"the engine directory has no {MANIFEST_FILE}, so nothing says what its graphs "
                f"are; {rebuild_advice(directory)}; looked at {directory}"
            )
        if not file.resolve().is_relative_to(directory.resolve()):
            raise EngineError(
                f"{MANIFEST_FILE} is a link that leads out of the engine directory, to "
                f"{file.resolve()}; expected a file inside {directory}: "
                f"{rebuild_advice(directory)}"
            )
        if file.stat().st_size > MAX_MANIFEST_BYTES:
            raise EngineError(
                f"{MANIFEST_FILE} is {file.stat().st_size} bytes long, expected at most "
                f"{MAX_MANIFEST_BYTES}; {rebuild_advice(directory)}"
            )
        values = json.loads(file.read_text(encoding="utf-8"))
    # JSON that is nested a thousand times ends in a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"cannot read {file}: {error}; {rebuild_advice(directory)}") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise EngineError(
            f"{MANIFEST_FILE} has format_version {version!r}, expected {FORMAT_VERSION}; "
            f"{rebuild_advice(directory)}",
            field="format_version",
        )
    try:
        manifest = manifest_from_dict(values)
        check_flavour(manifest)
    except EngineError as error:
        raise EngineError(f"{error}; {rebuild_advice(directory)}", field=error.field) from error
    return manifest


def verify_engine_dir(directory: Path, *, flavour: str | None = None) -> Manifest:
    """The manifest of an engine directory whose files are exactly what it says.

    Args:
        directory: an engine directory.
        flavour: what the caller can use, a key of `GRAPH_FILES`; None for any that is loaded.

    Raises:
        EngineError: with the manifest field that differs, or the file that others can change;
            says what to do.
    """
    manifest = read_manifest(directory)
    advice = rebuild_advice(directory, manifest)
    known = LOADED_FLAVOURS if flavour is None else (flavour,)
    if manifest.flavour not in known:
        raise EngineError(
            f"the engine is of flavour '{manifest.flavour}', expected {' or '.join(known)}; "
            f"{advice}",
            field="flavour",
        )
    for name in (*GRAPH_FILES[manifest.flavour], EMBEDDING_FILE, *CHECKPOINT_FILES):
        if name not in manifest.files:
            raise EngineError(
                f"{MANIFEST_FILE} does not list {name}, which a '{manifest.flavour}' engine "
                f"needs; {advice}",
                field="files",
            )
    if manifest.files["config.json"].sha256 != manifest.config_sha256:
        raise EngineError(
            f"the engine was traced from a config.json with sha256 {manifest.config_sha256[:12]}, "
            f"its own has {manifest.files['config.json'].sha256[:12]}; {advice}",
            field="config_sha256",
        )
    try:
        for name in manifest.files:
            _check_place(directory, name, advice)
        check_trusted(directory, (MANIFEST_FILE, *manifest.files))
        for name, entry in manifest.files.items():
            _check_content(directory, name, entry, advice)
    except OSError as error:
        raise EngineError(
            f"cannot read the engine's {error.filename or directory}: {error.strerror}; give this "
            f"user the right to read it, or {advice}"
        ) from error
    _check_model(directory, manifest, advice)
    return manifest


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
    vision_precision: str | None = None,
    model_id: str | None = None,
    profiles: Mapping[str, Sequence[Mapping[str, ShapeRange]]] | None = None,
    gpu_architecture: str | None = None,
    driver: str | None = None,
) -> Manifest:
    """Hash every file of `directory` into its `manifest.json`; the last file to be written.

    Args:
        directory: holds everything of the engine but the manifest.
        flavour, precision, model_type, weights_sha256, cache_length, max_visual_tokens,
            vision_precision, gpu_architecture, driver: see `Manifest`.
        tools: see `Manifest`; a plan's has the runtime that built it (`PLAN_RUNTIMES`). The
            version of ONNX Runtime is added for its flavour.
        model_id: None takes the name that the checkpoint's config gives itself, if any.
        profiles: a plan's; names each of its graphs, with an empty list where no axis varies.

    Raises:
        EngineError: a field is not what the loader would accept.
    """
    files = {
        path.relative_to(directory).as_posix(): FileEntry(
            sha256=sha256_of_file(path), size_bytes=path.stat().st_size
        )
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / MANIFEST_FILE
    }
    running = onnxruntime_version() if flavour == "onnxruntime" else None
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        flavour=flavour,
        precision=precision,
        vision_precision=vision_precision,
        model_id=_own_name(_config(directory)) if model_id is None else model_id,
        model_type=model_type,
        config_sha256=files["config.json"].sha256,
        weights_sha256=weights_sha256,
        cache_length=cache_length,
        max_visual_tokens=max_visual_tokens,
        profiles={plan: tuple(each) for plan, each in (profiles or {}).items()},
        tools={**({ONNX_RUNTIME: running} if running else {}), **tools},
        gpu_architecture=gpu_architecture,
        driver=driver,
        files=files,
    )
    text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    # What is written will be read: a builder's mistake ends the build, not a robot's start.
    manifest = manifest_from_dict(json.loads(text))
    check_flavour(manifest)
    (directory / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return manifest


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _no_directory(directory: Path) -> str:
    aside = directory.parent / f".{directory.name}.old"
    if (aside / MANIFEST_FILE).is_file():
        return (
            f"no engine directory; a build that was killed left the engine before it whole, under "
            f"another name: mv {aside} {directory}; or {rebuild_advice(directory)}"
        )
    if not directory.exists():
        return (
            f"no engine directory, expected one that holds a {MANIFEST_FILE}; there is no "
            f"{directory}: is the path right? Else {rebuild_advice(directory)}"
        )
    return f"no engine directory; {rebuild_advice(directory)}; looked at {directory}"


def _check_place(directory: Path, name: str, advice: str) -> None:
    """Both a name and what it leads to must stay inside: "../x" and a link to /etc do not."""
    path, file = PurePosixPath(name), directory / name
    inside = "\0" not in name and not path.is_absolute() and ".." not in path.parts
    if inside and not file.is_file():
        raise EngineError(f"the engine's {name} is missing; {advice}", field=f"files.{name}")
    if not inside or not file.resolve().is_relative_to(directory.resolve()):
        raise EngineError(
            f"{MANIFEST_FILE} names {name!r}, which leads out of the engine directory; expected "
            f"files inside {directory}: {advice}",
            field=f"files.{name}",
        )


def _check_content(directory: Path, name: str, entry: FileEntry, advice: str) -> None:
    got_bytes = (directory / name).stat().st_size
    if got_bytes != entry.size_bytes:
        raise EngineError(
            f"the engine's {name} is {got_bytes} bytes long, expected {entry.size_bytes}: it is "
            f"truncated or of another export; {advice}",
            field=f"files.{name}",
        )
    got = sha256_of_file(directory / name)
    if got != entry.sha256:
        raise EngineError(
            f"the engine's {name} has sha256 {got[:12]}, expected {entry.sha256[:12]}: it is "
            f"damaged or was changed; {advice}",
            field=f"files.{name}",
        )


def _check_model(directory: Path, manifest: Manifest, advice: str) -> None:
    """Raise unless the manifest speaks of the model that the config beside it describes."""
    config = _config(directory)
    own_name, own_type = _own_name(config), config.get("model_type")
    for field, said, own in (
        ("model_type", manifest.model_type, own_type),
        # A config that gives no name contradicts none.
        ("model_id", manifest.model_id, own_name or manifest.model_id),
    ):
        if said != own:
            raise EngineError(
                f"{MANIFEST_FILE} has {field} '{said}', and the config.json beside it '{own}'; "
                f"{advice}",
                field=field,
            )


def _config(directory: Path) -> Mapping[str, object]:
    try:
        values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"cannot read {directory / 'config.json'}: {error}") from error
    if not isinstance(values, dict):
        raise EngineError(f"{directory / 'config.json'} holds no JSON object")
    return values


def _own_name(config: Mapping[str, object]) -> str:
    """The name a checkpoint's config gives itself; "" for none, or for a place on some disk."""
    name = config.get("_name_or_path")
    return name if isinstance(name, str) and not name.startswith(("/", ".", "~")) else ""
