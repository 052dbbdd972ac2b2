# SPDX-License-Identifier: Apache-2.0
"""JSON from outside, read field by field; what is of the wrong kind is refused by its place.

Knows no protocol. Text that is not Unicode (lone surrogates), numbers that are not JSON (NaN) and
nesting without end are refused before anything looks at them (`scene/tools.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..scene.tools import json_from_text
from .refusals import Refusal


@dataclass(frozen=True, slots=True)
class Field:
    """A JSON value and where it stands.

    Attributes:
        value: as `json.loads` gives it; None also where there is no such field.
        place: for messages, as "messages[0].content"; empty for the whole.
    """

    value: object
    place: str = ""

    @property
    def is_absent(self) -> bool:
        """Whether it is missing or null."""
        return self.value is None

    def get(self, name: str) -> Field:
        """A field of this object.

        Raises:
            Refusal: this is no object.
        """
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return Field(self.value.get(name), f"{self.place}.{name}" if self.place else name)

    def items(self) -> Sequence[Field]:
        """What this list holds.

        Raises:
            Refusal: this is no list.
        """
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Field(item, f"{self.place}[{i}]") for i, item in enumerate(self.value)]

    def text(self) -> str:
        """This string.

        Raises:
            Refusal: it is none.
        """
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        return self.value

    def whole_number(self, *, least: int) -> int:
        """This number.

        Raises:
            Refusal: it is none, not whole or too small.
        """
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < least:
            raise self.wrong(f"a whole number, at least {least}")
        return self.value

    def flag(self) -> bool:
        """Whether this is true; False where it is absent.

        Raises:
            Refusal: it is neither true nor false.
        """
        if self.value is not None and not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return bool(self.value)

    def wrong(self, expected: str) -> Refusal:
        """What to say when it is something else than it should be."""
        return Refusal(
            f"{self._named} is {_described(self.value)}, expected {expected}",
            param=self.place or None,
        )

    def refused(self, reason: str) -> Refusal:
        """What to say when it cannot be had."""
        return Refusal(f"{self._named} {reason}", param=self.place or None)

    @property
    def _named(self) -> str:
        return f"'{self.place}'" if self.place else "the request"


def field_from_json(body: bytes) -> Field:
    """A request's body.

    Raises:
        Refusal: it is no JSON object.
    """
    try:
        value = json_from_text(body)
    except ValueError as error:
        raise Refusal(
            f"the request's body is not JSON that can be read ({error}), expected a JSON object "
            "in UTF-8"
        ) from error
    if not isinstance(value, dict):
        raise Field(value).wrong("a JSON object")
    return Field(value)


def _described(value: object) -> str:
    if value is None:
        return "missing or null"
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)[:32]
    if isinstance(value, str):
        return f"the string {value[:32]!r}" + (" ..." if len(value) > 32 else "")
    return "a list" if isinstance(value, list) else "an object"
