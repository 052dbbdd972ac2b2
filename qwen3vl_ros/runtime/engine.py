# SPDX-License-Identifier: Apache-2.0
"""The one seam below the model: named tensors in, named tensors out.

Knows no runtime; `onnxruntime_engine.py` and `tensorrt_engine.py` are its two implementations.

Resident tensors: an input `past_<name>` and an output `present_<name>` are one buffer that the
engine holds from pass to pass (the key-value cache, written in place). They are neither fed nor
returned, and they start as zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import EngineError

PAST, PRESENT = "past_", "present_"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        name: as in the graph contract.
        dtype: of the numpy array.
        shape: a number, or the name of an axis whose length varies.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """Where the passes of a loaded graph run.

    >>> print(Running(runtime="ONNX Runtime 1.32.0", on=("CPUExecutionProvider",), threads=2))
    ONNX Runtime 1.32.0 on CPUExecutionProvider, 2 threads, not spinning
    >>> print(Running(runtime="TensorRT 10.3.0", on=("the GPU",)))
    TensorRT 10.3.0 on the GPU

    Attributes:
        runtime: its name and version.
        on: what it runs on, in order: a graph's nodes go to the first that can compute them.
        threads: on the CPU, of one pass; 0 is one a core, None where there are none.
        spinning: whether threads that wait keep their cores busy.
        missing: what was asked for and did not start, where that was allowed.
    """

    runtime: str
    on: tuple[str, ...]
    threads: int | None = None
    spinning: bool = False
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.runtime} on {', '.join(self.on)}"
        if self.threads is None:
            return where
        threads = f"{self.threads} threads" if self.threads else "a thread for each core"
        return f"{where}, {threads}, {'spinning' if self.spinning else 'not spinning'}"


class Engine(Protocol):
    """A loaded graph. One thread at a time."""

    @property
    def running(self) -> Running:
        """Where its passes run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` must be fed; resident tensors are not among them."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` returns; resident tensors are not among them."""

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """One pass.

        Raises:
            EngineError: the feeds are not the inputs, or the runtime failed.
        """


def is_resident(name: str) -> bool:
    """Whether a tensor of a graph stays in the engine."""
    return name.startswith((PAST, PRESENT))


def check_feeds(graph: str, inputs: Iterable[TensorSpec], feeds: Mapping[str, Any]) -> None:
    """Raise unless `feeds` are the inputs, by name, dtype and rank.

    Lengths of axes are left to the runtime, which knows what belongs together.
    """
    expected = {spec.name: spec for spec in inputs}
    if feeds.keys() != expected.keys():
        raise EngineError(
            f"{graph} was fed {sorted(feeds)}, expected {sorted(expected)}; the engine is of "
            "another contract: export it again"
        )
    for name, array in feeds.items():
        spec = expected[name]
        if array.dtype != spec.dtype or array.ndim != len(spec.shape):
            raise EngineError(
                f"{graph} was fed {name} as {array.dtype} {array.shape}, expected {spec.dtype} "
                f"({', '.join(map(str, spec.shape))}); the engine is of another contract: export "
                "it again"
            )
