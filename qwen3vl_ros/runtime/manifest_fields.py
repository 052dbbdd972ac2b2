# SPDX-License-Identifier: Apache-2.0
"""The fields of an engine's manifest, each read from JSON by one function that knows its limits.

Knows no files and no hashes: `manifest.py` holds these fields against a directory, `machine.py`
against a machine.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of the directory: `sha256` in hex, `size_bytes`."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRange:
    """The shapes that a plan takes for one input: smallest, the one it is tuned for, largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


# By plan file, its optimization profiles in TensorRT's order, each by input.
Profiles: TypeAlias = Mapping[str, tuple[Mapping[str, ShapeRange], ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Where an engine came from, what it can hold, and what it runs on.

    Attributes:
        format_version: of this file; another one is refused.
        flavour: what the graphs are for, a key of `manifest.GRAPH_FILES`.
        precision: of the decoder's weights, for example "float32" or "int4".
        vision_precision: of the tower; None where the exporter did not say.
        model_id: the checkpoint's name, for example "Qwen/Qwen3-VL-2B-Instruct"; "" when its
            config gives none.
        model_type: of the checkpoint's config, for example "qwen3_vl".
        config_sha256: of the `config.json` the graphs were traced from.
        weights_sha256: of the source weights, file names and contents.
        cache_length: tokens of prompt and answer together that the cache holds.
        max_visual_tokens: image tokens of the largest picture that preprocessing makes.
        profiles: shapes of a plan's inputs; empty for graphs that are not compiled.
        tools: versions of what made the engine, by package name.
        gpu_architecture: a plan's, for example "sm_87"; None for what is not compiled for a GPU.
        driver: NVIDIA driver of the machine that built a plan; None where there was none.
        files: every file but the manifest itself, by name relative to the directory.
    """

    format_version: int
    flavour: str
    precision: str
    vision_precision: str | None
    model_id: str
    model_type: str
    config_sha256: str
    weights_sha256: str
    cache_length: int
    max_visual_tokens: int
    profiles: Profiles
    tools: Mapping[str, str]
    gpu_architecture: str | None
    driver: str | None
    files: Mapping[str, FileEntry]


def manifest_from_dict(values: Mapping[str, Any]) -> Manifest:
    """A manifest as JSON gives it.

    Raises:
        EngineError: with the field that is missing, unknown, or not what it must be.
    """
    for name in _READERS:
        if name not in values:
            raise EngineError(f"manifest.json has no {name}", field=name)
    if unknown := values.keys() - _READERS.keys():
        raise EngineError(
            f"manifest.json has unknown fields {sorted(unknown)}", field=min(unknown)
        )
    return Manifest(**{name: read(name, values[name]) for name, read in _READERS.items()})


def _check(is_right: bool, field: str, value: object, expected: str) -> None:
    if not is_right:
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
        raise EngineError(f"manifest.json has {field} = {shown}, expected {expected}", field=field)


def _integer(minimum: int) -> Callable[[str, object], int]:
    def read(field: str, value: object) -> int:
        # JSON's true is an int in Python.
        right = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        _check(right, field, value, f"an integer of at least {minimum}")
        assert isinstance(value, int)
        return value

    return read


def _text(pattern: str, expected: str) -> Callable[[str, object], str]:
    def read(field: str, value: object) -> str:
        right = isinstance(value, str) and re.fullmatch(pattern, value) is not None
        _check(right, field, value, expected)
        assert isinstance(value, str)
        return value

    return read


def _optional(read: Callable[[str, object], str]) -> Callable[[str, object], str | None]:
    return lambda field, value: None if value is None else read(field, value)


def _object(field: str, value: object, expected: str = "a JSON object") -> Mapping[str, object]:
    _check(isinstance(value, dict), field, value, expected)
    assert isinstance(value, dict)
    return value


# Words go into the command that a refusal prints, so they hold nothing a shell would act on.
_word = _text(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "a word of letters, digits, '_', '.' and '-'")
_name = _text(r"[^\x00-\x1f\x7f]*", "a name in printable characters, or ''")
_sha256 = _text(r"[0-9a-f]{64}", "64 hexadecimal digits")
_architecture = _text(r"sm_[0-9]{2,3}[a-z]?", "null or an architecture such as 'sm_87'")
_driver = _text(r"[0-9]+(\.[0-9]+)*", "null or a version such as '540.4.0'")
_positive = _integer(1)


def _tools(field: str, value: object) -> Mapping[str, str]:
    return {
        name: _name(f"{field}.{name}", version) for name, version in _object(field, value).items()
    }


def _files(field: str, value: object) -> Mapping[str, FileEntry]:
    files = {}
    for name, entry in _object(field, value).items():
        parts = _object(f"{field}.{name}", entry, "an object with sha256 and size_bytes")
        _check(
            parts.keys() == {"sha256", "size_bytes"},
            f"{field}.{name}",
            entry,
            "its sha256 and size_bytes",
        )
        files[name] = FileEntry(
            sha256=_sha256(f"{field}.{name}", parts["sha256"]),
            size_bytes=_integer(0)(f"{field}.{name}", parts["size_bytes"]),
        )
    return files


def _profiles(field: str, value: object) -> Profiles:
    return {
        plan: tuple(
            {
                name: _shape_range(f"{field}.{plan}.{name}", shapes)
                for name, shapes in _object(f"{field}.{plan}", profile).items()
            }
            for profile in _list(f"{field}.{plan}", profiles)
        )
        for plan, profiles in _object(field, value).items()
    }


def _shape_range(field: str, value: object) -> ShapeRange:
    parts = _object(field, value)
    _check(parts.keys() == {"min", "opt", "max"}, field, value, "its min, opt and max")
    shapes = {name: _shape(field, shape) for name, shape in parts.items()}
    low, best, high = shapes["min"], shapes["opt"], shapes["max"]
    rising = len(low) == len(best) == len(high) and all(
        a <= b <= c for a, b, c in zip(low, best, high, strict=True)
    )
    _check(rising, field, value, "min <= opt <= max along every axis")
    return ShapeRange(min=low, opt=best, max=high)


def _shape(field: str, value: object) -> tuple[int, ...]:
    return tuple(_integer(0)(field, axis) for axis in _list(field, value))


def _list(field: str, value: object) -> list[object]:
    _check(isinstance(value, list | tuple), field, value, "a JSON array")
    assert isinstance(value, list | tuple)
    return list(value)


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "format_version": _positive,
    "flavour": _word,
    "precision": _word,
    "vision_precision": _optional(_word),
    "model_id": _name,
    "model_type": _word,
    "config_sha256": _sha256,
    "weights_sha256": _sha256,
    "cache_length": _positive,
    "max_visual_tokens": _positive,
    "profiles": _profiles,
    "tools": _tools,
    "gpu_architecture": _optional(_architecture),
    "driver": _optional(_driver),
    "files": _files,
}
assert tuple(_READERS) == tuple(field.name for field in dataclasses.fields(Manifest))
