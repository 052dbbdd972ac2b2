# SPDX-License-Identifier: Apache-2.0
"""The fields of a `config.json`, read one by one and refused by name.

Knows kinds of values, not what they mean: that is `model_config.py`. A field that is null counts
as absent, as it does upstream.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class ConfigFields:
    """A JSON object; each reader gives one field, or names it in the error.

    Attributes:
        name: where in the file the object stands, "" for the file itself.
        values: the object as parsed.
    """

    name: str
    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise ConfigError(f"{self.name or 'config.json'} is not a JSON object")

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def section(self, key: str) -> ConfigFields:
        return ConfigFields(self._full(key), self._value(key))

    def text(self, key: str, *, default: str | None = None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def count(self, key: str, *, default: int | None = None, least: int = 1) -> int:
        value = self._value(key, default)
        if not _is_count(value, least):
            raise self._wrong(key, value, f"an integer of at least {least}")
        return int(value)

    def number(self, key: str, *, default: float | None = None) -> float:
        value = self._value(key, default)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not (good and 0 < value < math.inf):
            raise self._wrong(key, value, "a number above 0")
        return float(value)

    def counts(self, key: str, *, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self._value(key, default)
        if not (isinstance(value, list | tuple) and all(_is_count(item, 0) for item in value)):
            raise self._wrong(key, value, "a list of integers")
        return tuple(value)

    def expect(self, key: str, *expected: object) -> None:
        """Absent, or one of the values that this project's model computes with."""
        value = self.values.get(key)
        if value is not None and value not in expected:
            wanted = " or ".join(json.dumps(one) for one in expected)
            raise self._wrong(key, value, f"{wanted}, as every released Qwen3-VL has it")

    def _value(self, key: str, default: object = None) -> Any:
        value = self.values.get(key)
        value = default if value is None else value
        if value is None:
            raise ConfigError(f"config.json has no {self._full(key)}; is the checkpoint whole?")
        return value

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _wrong(self, key: str, value: object, expected: str) -> ConfigError:
        return ConfigError(
            f"config.json says {self._full(key)} is {json.dumps(value, default=str)}, expected "
            f"{expected}; give it a Qwen3-VL checkpoint as it was released or trained"
        )


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
