# SPDX-License-Identifier: Apache-2.0
"""Runs one ONNX graph on ONNX Runtime.

Knows sessions and buffers, not what the graph computes. Resident tensors (`engine.py`) are
allocated once, on the device of the first provider, and bound as past and present at the same
time, so that a pass appends to the cache where it lies.

Run on the CPU so far; the GPU providers are asked for in the documented way and were not yet run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingDependency
from .engine import PAST, PRESENT, TensorSpec, check_feeds, is_resident

try:
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        EPFail,
        Fail,
        InvalidArgument,
        InvalidGraph,
        InvalidProtobuf,
        NoSuchFile,
        NotImplemented,
        RuntimeException,
    )
except ModuleNotFoundError as error:
    raise MissingDependency(
        "onnxruntime",
        needed_for="running ONNX engines",
        install="make setup (or pip install -r requirements/runtime.txt)",
    ) from error

_LOG = logging.getLogger(__name__)

# The first of these that is installed comes first; the CPU takes what it cannot.
PREFERRED_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_DEVICES = {"CUDAExecutionProvider": "cuda"}

_NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
# ONNX Runtime's errors share no base class of their own, and bound runs raise Python's.
_RUNTIME_ERRORS = (
    RuntimeError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)


class OnnxRuntimeEngine:
    """An `Engine`. Owns its session and its resident buffers (mutable)."""

    def __init__(
        self,
        graph: Path,
        *,
        lengths: Mapping[str, int] | None = None,
        threads: int = 0,
        providers: Sequence[str] | None = None,
    ) -> None:
        """Load a graph.

        Args:
            graph: an `.onnx` file, its external data beside it.
            lengths: of the named axes of resident tensors, which are allocated here.
            threads: for one pass; 0 lets ONNX Runtime take every core. Waiting threads sleep:
                spinning ones starve a robot's other nodes.
            providers: ONNX Runtime's names, in order; None takes what is installed of
                `PREFERRED_PROVIDERS`.

        Raises:
            EngineError: a provider is not installed, or the graph cannot be loaded.
        """
        chosen = _installed(providers)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what it would print on stderr is raised, once
        try:
            self._session = ort.InferenceSession(graph, options, providers=chosen)
        except _RUNTIME_ERRORS as error:
            raise EngineError(
                f"ONNX Runtime {ort.__version__} cannot load {graph.name}: {error}; export the "
                f"engine again, or install the version its manifest names: {graph}"
            ) from error
        _LOG.info(
            "%s on %s, %s threads, ONNX Runtime %s",
            graph.name,
            ", ".join(self._session.get_providers()),
            threads or "all",
            ort.__version__,
        )
        self._name = graph.name
        inputs = tuple(map(_spec, self._session.get_inputs()))
        outputs = tuple(map(_spec, self._session.get_outputs()))
        self._inputs = tuple(spec for spec in inputs if not is_resident(spec.name))
        self._outputs = tuple(spec for spec in outputs if not is_resident(spec.name))
        device = _DEVICES.get(chosen[0], "cpu")
        self._resident = {
            spec.name: _zeros(spec, lengths or {}, device)
            for spec in inputs
            if is_resident(spec.name)
        }

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self._outputs

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """See `Engine`."""
        check_feeds(self._name, self._inputs, feeds)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for spec in self._outputs:
            binding.bind_output(spec.name, "cpu")
        for name, buffer in self._resident.items():
            binding.bind_ortvalue_input(name, buffer)
            binding.bind_ortvalue_output(PRESENT + name.removeprefix(PAST), buffer)
        try:
            self._session.run_with_iobinding(binding)
        except _RUNTIME_ERRORS as error:
            raise EngineError(
                f"{self._name} failed in ONNX Runtime: {error}; is memory short? Else export the "
                "engine again"
            ) from error
        values = binding.get_outputs()
        return {
            spec.name: value.numpy()
            for spec, value in zip(self._outputs, values[: len(self._outputs)], strict=True)
        }


def _installed(providers: Sequence[str] | None) -> list[str]:
    available = ort.get_available_providers()
    if providers is None:
        return [name for name in PREFERRED_PROVIDERS if name in available]
    missing = [name for name in providers if name not in available]
    if missing or not providers:
        raise EngineError(
            f"execution providers {missing or 'of an empty list'} are not in this ONNX Runtime, "
            f"expected some of {available}; install onnxruntime-gpu for a GPU, or ask for others"
        )
    return list(providers)


def _spec(value: Any) -> TensorSpec:
    dtype = _NUMPY_TYPES.get(value.type)
    if dtype is None:
        raise EngineError(
            f"{value.name} is of type {value.type}, expected one of {', '.join(_NUMPY_TYPES)}; "
            "the engine is of another contract: export it again"
        )
    return TensorSpec(name=value.name, dtype=np.dtype(dtype), shape=tuple(value.shape))


def _zeros(spec: TensorSpec, lengths: Mapping[str, int], device: str) -> Any:
    unknown = [axis for axis in spec.shape if not isinstance(axis, int) and axis not in lengths]
    if unknown:
        raise EngineError(
            f"{spec.name} has axes {unknown} of no known length, expected only "
            f"{', '.join(lengths)}; the engine is of another contract: export it again"
        )
    shape = [axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape]
    return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, spec.dtype), device, 0)
