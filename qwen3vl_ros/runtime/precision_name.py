# SPDX-License-Identifier: Apache-2.0
"""The parts of a precision's name, as `--precision` takes it and a manifest holds it.

Knows how names are spelled and what of the cache they say; what else each part means, and which
parts go together, `offline/precisions.py` knows, which no robot needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

_FORM = re.compile(
    r"(?P<weights>.*?)(?P<calibrated>-calibrated)?(?P<cache>-cache8)?(?P<tower>-tower(8|16|32))?",
    re.DOTALL,
)
_HALF = ("float16", "int4-a16")  # computed so


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionName:
    """A name in its parts; as a string, whole again.

    >>> name = precision_name("int4-128-calibrated-cache8-tower16")
    >>> name.weights, name.is_calibrated, name.has_int8_cache, name.tower
    ('int4-128', True, True, 'tower16')
    >>> str(name), str(precision_name("float32"))
    ('int4-128-calibrated-cache8-tower16', 'float32')

    Attributes:
        weights: of the decoder, for example "int4-128".
        is_calibrated: whether they were rounded for what rendered scenes bring about.
        has_int8_cache: whether keys and values are held in int8.
        tower: "tower8", "tower16" or "tower32" where the tower is otherwise than usual, else "".
    """

    weights: str
    is_calibrated: bool = False
    has_int8_cache: bool = False
    tower: str = ""

    def __str__(self) -> str:
        calibrated = "-calibrated" * self.is_calibrated
        return f"{self.weights}{calibrated}{'-cache8' * self.has_int8_cache}{self._tower_suffix}"

    @property
    def cache_dtype(self) -> np.dtype[Any]:
        """Of keys and values in an engine for ONNX Runtime.

        >>> precision_name("int4-cache8").cache_dtype, precision_name("int4-a16").cache_dtype
        (dtype('int8'), dtype('float16'))
        """
        if self.has_int8_cache:
            return np.dtype(np.int8)
        return np.dtype(np.float16 if self.weights in _HALF else np.float32)

    @property
    def _tower_suffix(self) -> str:
        return f"-{self.tower}" if self.tower else ""


def precision_name(name: str) -> PrecisionName:
    """The parts of a name; of one that nobody knows, all is `weights`."""
    found = _FORM.fullmatch(name)
    assert found is not None, "the form fits any text"
    return PrecisionName(
        weights=found["weights"],
        is_calibrated=found["calibrated"] is not None,
        has_int8_cache=found["cache"] is not None,
        tower=(found["tower"] or "").removeprefix("-"),
    )
