# SPDX-License-Identifier: Apache-2.0
"""Which file of a checkpoint holds each tensor: one of safetensors, or shards with an index.

Knows names and files, no model: whether the tensors are the right ones is `checkpoint.py`'s.
Pickled weights are refused unopened, by suffix and by content: unpickling runs whatever the file
says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
MOST_FAULTS = 50  # named in one message; the wrong config of a large model has thousands

_LENGTH_BYTES = 8  # of the header's length, at the start of a safetensors file
_LFS_POINTER = b"version h"  # ttps://git-lfs..., the first line of a file that was not fetched


def tensor_files(directory: Path) -> dict[str, Path]:
    """The safetensors file that holds each tensor of a checkpoint, by tensor name.

    Raises:
        CheckpointError: no safetensors, an index that disagrees with its shards, or a pickle.
    """
    single, index = directory / WEIGHTS_FILE, directory / INDEX_FILE
    if single.exists():
        with opened(single) as weights:
            return dict.fromkeys(weights.keys(), single)
    if index.exists():
        return _sharded_files(directory, index)
    others = sorted(file for file in directory.glob("*") if file.is_file())
    for file in others:
        refuse_pickle(file)
    if any(file.suffix == ".gguf" for file in others):
        raise CheckpointError(
            f"the weights are GGUF, llama.cpp's format, expected {WEIGHTS_FILE} or {INDEX_FILE}; "
            f"download the checkpoint that they were made from: {directory}"
        )
    raise CheckpointError(
        f"no weights: expected {WEIGHTS_FILE} or {INDEX_FILE}; download the checkpoint whole, "
        f"in {directory}"
    )


def refuse_pickle(file: Path) -> None:
    """Nothing, unless the file's name is one that pickles have.

    Raises:
        CheckpointError: it is.
    """
    if file.suffix in PICKLE_SUFFIXES:
        raise _pickled(file, reason=f"its suffix is '{file.suffix}'")


def some_of(faults: Sequence[str]) -> str:
    """Faults in a row, not more than somebody will read.

    >>> some_of(["a is missing", "b is missing"])
    'a is missing; b is missing'
    """
    rest = len(faults) - MOST_FAULTS
    return "; ".join([*faults[:MOST_FAULTS], *([f"and {rest} more"] if rest > 0 else [])])


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A safetensors file, its content checked before it is opened.

    Raises:
        CheckpointError: missing, cut short, a pickle inside, or no safetensors at all.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(_LENGTH_BYTES + 1)
    except OSError as error:
        raise CheckpointError(
            f"cannot read weights: {error}; download the checkpoint whole"
        ) from error
    # Eight bytes of header length, then JSON. Only a file that does not start so can be a pickle:
    # a header of 640 bytes starts with the very bytes of pickle protocol 2.
    if start[_LENGTH_BYTES:] != b"{":
        if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] <= b"\x05"):
            raise _pickled(file, reason="it is a pickle inside, whatever its name")
        if start == _LFS_POINTER:
            raise CheckpointError(
                f"a Git LFS pointer where weights are expected; run 'git lfs pull' there: {file}"
            )
        raise CheckpointError(f"not a safetensors file, download it again: {file}")
    try:
        with safe_open(file, framework="pt", device="cpu") as weights:
            yield weights
    except SafetensorError as error:
        what = _cut_short(file) or str(error)
        raise CheckpointError(f"damaged weights ({what}); download the file again: {file}") from (
            error
        )


def _sharded_files(directory: Path, index: Path) -> dict[str, Path]:
    promised = _weight_map(index)
    shards = sorted(set(promised.values()))
    for shard in shards:
        refuse_pickle(directory / shard)
        if Path(shard).name != shard:
            raise CheckpointError(
                f"the index names a shard outside the checkpoint, '{shard}'; expected file names "
                f"without a directory: {index}"
            )
    absent = [shard for shard in shards if not (directory / shard).is_file()]
    if absent:
        raise CheckpointError(
            f"{len(absent)} of {len(shards)} shards of the weights are missing ({some_of(absent)}"
            f"); download them into {directory}"
        )
    last = {shard.partition("-of-")[2] for shard in shards} - {""}  # "00004.safetensors"
    strays = [
        file.name
        for file in sorted(directory.glob("*-of-*.safetensors"))
        if file.name not in shards and file.name.partition("-of-")[2] in last
    ]
    if strays:
        raise CheckpointError(
            f"the index does not name all shards that are there ({some_of(strays)}); download the "
            f"checkpoint whole: {index}"
        )
    held: dict[str, list[str]] = {}
    for shard in shards:
        with opened(directory / shard) as weights:
            for name in weights.keys():  # noqa: SIM118 (no mapping: only keys() is there)
                held.setdefault(name, []).append(shard)
    # Index and shards that disagree are of two downloads, or of one that was interrupted.
    faults = [f"{n} lies in {' and in '.join(s)}" for n, s in held.items() if len(s) > 1]
    faults += [f"{name} is not in the index" for name in held.keys() - promised.keys()]
    for name, shard in promised.items():
        if name not in held:
            faults.append(f"{name} is in no shard, the index says {shard}")
        elif shard not in held[name]:
            faults.append(f"{name} lies in {held[name][0]}, the index says {shard}")
    if faults:
        raise CheckpointError(
            f"the index and its shards disagree, differences ({len(faults)}): "
            f"{some_of(sorted(faults))}. Download the checkpoint whole: {index}"
        )
    return {name: directory / shards[0] for name, shards in held.items()}


def _weight_map(index: Path) -> dict[str, str]:
    """File names by tensor name, as the index says."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        times = Counter(name for name, _ in pairs)
        if several := sorted(name for name in times if times[name] > 1):
            raise ValueError(f"named more than once: {some_of(several)}")
        return dict(pairs)

    try:
        text = index.read_text(encoding="utf-8")
        weight_map = json.loads(text, object_pairs_hook=once)["weight_map"]
        return {str(name): str(shard) for name, shard in weight_map.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"cannot read the index of shards ({type(error).__name__}: {error}); expected a "
            f"JSON object with a weight_map, download it again: {index}"
        ) from error


def _cut_short(file: Path) -> str | None:
    """How many bytes of a file that starts like safetensors are there, if not all are."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        try:
            header = json.loads(stream.read(min(length, size)))
            end = max(tensor["data_offsets"][1] for tensor in header.values() if "dtype" in tensor)
        except (ValueError, KeyError, TypeError, AttributeError):
            end = 0
    whole = _LENGTH_BYTES + length + end
    return f"cut short: {size} bytes of {whole}" if size < whole else None


def _pickled(file: Path, *, reason: str) -> CheckpointError:
    return CheckpointError(
        f"pickled weights are not loaded ({reason}), because unpickling can run any program; "
        f"convert them to safetensors: {file}"
    )
