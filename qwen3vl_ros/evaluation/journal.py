# SPDX-License-Identifier: Apache-2.0
"""Answers on disk, a line each as they come: an interrupted evaluation goes on where it stopped.

The first line says which model was asked about which data. A journal of another model or other
data is refused, never mixed. A last line that was cut off while it was written is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import DatasetError
from .given import Given, given_as_json, given_from_json

FORMAT_VERSION = 1

Identity = Mapping[str, Mapping[str, str]]


class Journal:
    """The answers so far; appended to. Mutable; owned by one evaluation."""

    def __init__(self, file: Path, given: dict[str, Given]) -> None:
        self._file = file
        self._given = given

    @classmethod
    def open(cls, file: Path, identity: Identity) -> Journal:
        """Go on with a journal, or begin one.

        Args:
            file: of JSON lines; made where it is not there.
            identity: of the model and of the data, each as words by their names.

        Raises:
            DatasetError: it is of another model or other data, or no journal.
        """
        header = {"format_version": FORMAT_VERSION, **identity}
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.stat().st_size == 0:
            _append(file, header)
            return cls(file, {})
        lines = _whole_lines(file)
        _check_header(next(lines, {}), header, file)
        try:
            given = [given_from_json(line) for line in lines]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _no_journal(file, f"{type(error).__name__}: {error}") from error
        return cls(file, {answer.case_id: answer for answer in given})

    @property
    def given(self) -> Mapping[str, Given]:
        """Every answer by its case."""
        return self._given

    def add(self, given: Given) -> None:
        """Keep one more answer, on disk before this returns."""
        _append(self._file, given_as_json(given))
        self._given[given.case_id] = given


def _append(file: Path, values: Mapping[str, object]) -> None:
    line = json.dumps(values, allow_nan=False, ensure_ascii=False)
    # A model's words may hold half a surrogate pair, which is no UTF-8.
    data = (line + "\n").encode("utf-8", "replace")
    with file.open("ab") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _whole_lines(file: Path) -> Iterator[Mapping[str, object]]:
    data = file.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with file.open("rb+") as stream:
            stream.truncate(whole)
    for line in data[:whole].splitlines():
        try:
            values = json.loads(line)
        except ValueError as error:
            raise _no_journal(file, str(error)) from error
        if not isinstance(values, dict):
            raise _no_journal(file, "a line is no JSON object")
        yield values


def _check_header(found: Mapping[str, object], wanted: Mapping[str, object], file: Path) -> None:
    if "format_version" not in found:
        raise _no_journal(file, "the first line does not say what was asked")
    for part, values in wanted.items():
        there = found.get(part)
        if there == values:
            continue
        told, asked = f"{there}", f"{values}"
        if isinstance(values, Mapping) and isinstance(there, Mapping):
            differing = sorted(
                name for name in {*values, *there} if values.get(name) != there.get(name)
            )
            told = ", ".join(f"{name} '{there.get(name, '')}'" for name in differing)
            asked = ", ".join(f"{name} '{values.get(name, '')}'" for name in differing)
        raise DatasetError(
            f"the answers kept from an earlier run are of another {part}: {told}, expected "
            f"{asked}; begin anew with --restart, or give another --output: {file}"
        )


def _no_journal(file: Path, why: str) -> DatasetError:
    return DatasetError(
        f"the answers kept from an earlier run cannot be read ({why}), expected JSON lines as "
        f"qwen3vl evaluate writes them; begin anew with --restart, or give another --output: "
        f"{file}"
    )
