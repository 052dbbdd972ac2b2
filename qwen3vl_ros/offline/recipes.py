# SPDX-License-Identifier: Apache-2.0
"""A recipe: for which device, and how, TensorRT plans are built; a small JSON file each.

Knows files under `engines/recipes/` and what their fields can be; knows no TensorRT and no torch.
A recipe is found by its name there, or by a path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..runtime.flavours import PLAN_RUNTIMES
from ..runtime.loading import TINY_ENGINE, tiny_engine_directory
from .tensorrt_choices import (
    PRECISIONS,
    RTX_READS_AS,
    TOWER_PRECISIONS,
    GraphChoices,
    OperatorSet,
    Release,
    release_from_version,
)

SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRange:
    """Image tokens: fewest, those the plan is tuned for, most."""

    min: int
    opt: int
    max: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How plans are built for one device.

    Attributes:
        name: the file's, without its suffix; the engine directory gets it too.
        target: the device, in words.
        model_size: of the checkpoint that the numbers are chosen for, for example "2B".
        flavour: "tensorrt" is built on the device itself, "tensorrt-rtx" on any machine.
        tensorrt: oldest version of that runtime that reads the graphs, for example "10.3".
        operators: that graphs are made of.
        precision: of decoder and head.
        vision_precision: of the tower.
        image_tokens: of one picture, or of two frames of a clip, which may take a single token in
            a long one; larger pictures are scaled down.
        cache_length: tokens of prompt and answer together.
        decode_window: rows of every pass after the prompt's; fewer are filled up.
        gpu_architecture: for example "sm_87".
    """

    name: str
    target: str
    model_size: str
    flavour: str
    tensorrt: str
    operators: OperatorSet
    precision: str
    vision_precision: str
    image_tokens: TokenRange
    cache_length: int
    decode_window: int
    gpu_architecture: str

    @property
    def choices(self) -> GraphChoices:
        """The graphs that plans are built from."""
        return GraphChoices(
            operators=self.operators,
            precision=self.precision,
            vision_precision=self.vision_precision,
            cache_length=self.cache_length,
            max_visual_tokens=self.image_tokens.max,
        )

    @property
    def release(self) -> Release:
        """Of TensorRT, as the list of operators counts."""
        if self.flavour == "tensorrt-rtx":
            return RTX_READS_AS
        return release_from_version(self.tensorrt)


def recipes_directory() -> Path:
    """Where the recipes of this package lie, beside its engines."""
    engines = tiny_engine_directory().parents[len(TINY_ENGINE.parts) - 2]
    return engines / "recipes"


def recipe_names() -> tuple[str, ...]:
    """Of the recipes of this package."""
    return tuple(sorted(path.stem for path in recipes_directory().glob(f"*{SUFFIX}")))


def load_recipe(name_or_path: str) -> Recipe:
    """The recipe of a name, or in a file.

    Args:
        name_or_path: "orin-nano", or the path of a file that ends in .json.

    Raises:
        ConfigError: there is none, or a field is missing, unknown, or not what it must be.
    """
    is_path = name_or_path.endswith(SUFFIX)
    file = Path(name_or_path) if is_path else recipes_directory() / f"{name_or_path}{SUFFIX}"
    if not is_path and name_or_path not in recipe_names():
        raise ConfigError(
            f"recipe is '{name_or_path}', expected one of {', '.join(recipe_names())}, or the "
            f"path of a file that ends in {SUFFIX}"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the recipe {file}: {error}") from error
    return recipe_from_dict(values, name=file.stem)


def recipe_from_dict(values: object, *, name: str) -> Recipe:
    """A recipe as JSON gives it.

    Raises:
        ConfigError: with the field, what it is and what was expected.
    """
    recipe = f"recipe '{name}'"
    _check(_is_word(name), recipe, "name", name, "letters, digits, '_', '.' and '-'")
    if not isinstance(values, dict):
        raise ConfigError(f"{recipe} is {_shown(values)}, expected a JSON object")
    known = [field.name for field in fields(Recipe) if field.name != "name"]
    for field in known:
        _check(field in values, recipe, field, "missing", _READERS[field][1])
    for field in values:
        _check(field in known, recipe, field, values[field], f"only {', '.join(known)}")
    read: dict[str, Any] = {}
    for field, (is_right, expected, value_of) in _READERS.items():
        _check(is_right(values[field]), recipe, field, values[field], expected)
        read[field] = value_of(values[field])
    made = Recipe(name=name, **read)
    longest = made.image_tokens.max + made.decode_window
    _check(
        made.cache_length > longest,
        recipe,
        "cache_length",
        made.cache_length,
        f"more than image_tokens.max and decode_window together, {longest}",
    )
    return made


def _check(is_right: bool, recipe: str, field: str, value: object, expected: str) -> None:
    if not is_right:
        raise ConfigError(f"{recipe} has {field} = {_shown(value)}, expected {expected}")


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."


def _is_word(value: object) -> bool:
    # It becomes the name of a directory, and part of a command that a refusal prints.
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value))


def _is_one_of(*known: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in known


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


def _is_count(value: object) -> bool:
    # JSON's true is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_token_range(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"min", "opt", "max"}
        and all(map(_is_count, value.values()))
        and value["min"] <= value["opt"] <= value["max"]
    )


_OPERATOR_SETS = [operators.value for operators in OperatorSet]
# Of each field: whether a value is right, what is expected in words, what it becomes.
_READERS: Mapping[str, tuple[Callable[[object], bool], str, Callable[[Any], object]]] = {
    "target": (_matches(r"[^\x00-\x1f\x7f]+"), "the device in words", str),
    "model_size": (_is_word, "a size such as '2B'", str),
    "flavour": (_is_one_of(*PLAN_RUNTIMES), f"one of {', '.join(PLAN_RUNTIMES)}", str),
    "tensorrt": (_matches(r"\d+\.\d+"), "a version such as '10.3'", str),
    "operators": (_is_one_of(*_OPERATOR_SETS), f"one of {', '.join(_OPERATOR_SETS)}", OperatorSet),
    "precision": (_is_one_of(*PRECISIONS), f"one of {', '.join(PRECISIONS)}", str),
    "vision_precision": (
        _is_one_of(*TOWER_PRECISIONS),
        f"one of {', '.join(TOWER_PRECISIONS)}",
        str,
    ),
    "image_tokens": (
        _is_token_range,
        "counts min <= opt <= max",
        lambda value: TokenRange(**value),
    ),
    "cache_length": (_is_count, "a count of at least 1", int),
    "decode_window": (_is_count, "a count of at least 1", int),
    "gpu_architecture": (_matches(r"sm_\d+"), "an architecture such as 'sm_87'", str),
}
assert ["name", *_READERS] == [field.name for field in fields(Recipe)]
