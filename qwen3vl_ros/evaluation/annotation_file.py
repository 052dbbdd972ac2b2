# SPDX-License-Identifier: Apache-2.0
"""Annotation files, read entry by entry; what is not as it should be is refused by its place.

Knows JSON, JSON lines, and the pickles of RefCOCO, of which it reads plain values only: a pickle
that names anything to call is refused before it is called.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError

_HASHED_AT_ONCE = 1 << 22
_SHOWN = 60  # characters of a wrong value


@dataclass(frozen=True, slots=True)
class Entry:
    """A JSON object of an annotation file; each reader gives one field, or names it in the error.

    Attributes:
        values: the object as parsed.
        place: where it stands, as "annotations[3]"; empty for the whole file.
        file: it was read from.
    """

    values: Mapping[str, object]
    place: str
    file: Path

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def whole(self, name: str) -> int:
        """A whole number."""
        value = self.values.get(name)
        # Exports through pandas write 7.0 for 7.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        return value

    def number(self, name: str, *, default: float | None = None) -> float:
        """A finite number."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not _is_number(value):
            raise self.wrong(name, "a finite number")
        assert isinstance(value, int | float)
        return float(value)

    def text(self, name: str) -> str:
        """A string that is not empty."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "a string that is not empty")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false; also 1 or 0, and -1 (not known) as `default`."""
        value = self.values.get(name)
        if value is None or value == -1:
            return default
        if value not in (True, False):
            raise self.wrong(name, "true or false")
        return bool(value)

    def numbers(self, name: str, *shape: int, finite: bool = True) -> npt.NDArray[np.float64]:
        """Numbers of a shape, float64; finite ones, unless the caller takes others."""
        wanted = f"{' x '.join(map(str, shape))} {'finite ' if finite else ''}numbers"
        try:
            array = np.array(self.values.get(name), np.float64)
        except (TypeError, ValueError) as error:
            raise self.wrong(name, wanted) from error
        if array.shape != shape or (finite and not np.isfinite(array).all()):
            raise self.wrong(name, wanted)
        return array

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where there is none."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(
            isinstance(item, int) and not isinstance(item, bool) for item in value
        ):
            raise self.wrong(name, "a list of whole numbers")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of strings")
        return tuple(value)

    def entries(self, name: str) -> Sequence[Entry]:
        """A list of objects."""
        return entries_of(self.values.get(name), f"{self._prefix}{name}", self.file)

    def wrong(self, name: str, expected: str) -> DatasetError:
        """What to say when a field is something else than it should be."""
        value = self.values.get(name)
        told = "missing" if value is None else f"{value!r}"
        told = told if len(told) <= _SHOWN else f"{told[: _SHOWN - 3]}..."
        return DatasetError(
            f"{self._prefix}{name} is {told}, expected {expected}; get the annotations anew, or "
            f"mend or leave out this entry: {self.file}"
        )

    @property
    def _prefix(self) -> str:
        return f"{self.place}." if self.place else ""


def entries_of(value: object, place: str, file: Path) -> Sequence[Entry]:
    """What a list of objects holds.

    Raises:
        DatasetError: it is none.
    """
    if not isinstance(value, list):
        raise DatasetError(
            f"'{place}' is {'missing' if value is None else type(value).__name__}, expected a "
            f"list of objects; is this the right kind of file? {file}"
        )
    for i, item in enumerate(value):
        if not isinstance(item, dict):
            raise DatasetError(
                f"{place}[{i}] is {item!r:.60}, expected an object; get the annotations anew: "
                f"{file}"
            )
    return [Entry(item, f"{place}[{i}]", file) for i, item in enumerate(value)]


def json_file(file: Path) -> Entry:
    """The object that a JSON file holds.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    value = _parsed(file, json.loads)
    if not isinstance(value, dict):
        raise DatasetError(
            f"the annotations are a JSON {type(value).__name__}, expected an object with "
            f"'images' and 'annotations'; is this the right kind of file? {file}"
        )
    return Entry(value, "", file)


def json_lines(file: Path) -> Sequence[Entry]:
    """The objects that a file of JSON lines holds."""
    lines = _parsed(file, lambda text: [json.loads(x) for x in text.splitlines() if x.strip()])
    return entries_of(lines, "line", file)


def json_list(file: Path) -> Sequence[Entry]:
    """The objects of a JSON file that is one list."""
    return entries_of(_parsed(file, json.loads), "refs", file)


def pickled_list(file: Path) -> Sequence[Entry]:
    """The objects of a pickle that is one list of plain values."""
    try:
        with file.open("rb") as stream:
            # RefCOCO's were written by Python 2; their strings are Latin-1.
            value = _PlainUnpickler(stream, encoding="latin1").load()
    except OSError as error:
        raise _no_file(file, error) from error
    # A damaged pickle may fail in any of these ways.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        MemoryError,
    ) as error:
        raise DatasetError(
            f"the pickle cannot be read ({error or type(error).__name__}), expected RefCOCO's "
            f"list of references, plain values only; get the file anew: {file}"
        ) from error
    return entries_of(value, "refs", file)


def file_sha256(file: Path) -> str:
    """Of its contents, in hex."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_HASHED_AT_ONCE):
                digest.update(block)
    except OSError as error:
        raise _no_file(file, error) from error
    return digest.hexdigest()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and plain values name nothing")


def _parsed(file: Path, parse: object) -> object:
    assert callable(parse)
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _no_file(file, error) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"the annotations are not JSON that can be read ({error}), expected UTF-8 text; is "
            f"the download whole? {file}"
        ) from error


def _no_file(file: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"cannot read the annotations ({error.strerror}), expected a file; docs/evaluation.md "
        f"says where each is from: {file}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
