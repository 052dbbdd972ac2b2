# SPDX-License-Identifier: Apache-2.0
"""Runs one ONNX graph on ONNX Runtime.

Knows sessions and buffers, not what the graph computes, nor which provider suits it
(`providers.py`). Resident tensors (`engine.py`) are allocated once, on the device of the first
provider, and bound as past and present at the same time, so that a pass appends to the cache where
it lies.

Run on the CPU so far; the GPU providers are asked for in the documented way and were not yet run
on hardware.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingDependency
from .engine import PAST, PRESENT, Running, TensorSpec, check_feeds, is_resident
from .providers import CPU, DEVICES, INSTALLED_BY, PLUGINS, chosen_providers

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

_NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
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
        spinning: bool = False,
        providers: Sequence[str] | None = None,
        allow_fallback: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            graph: an `.onnx` file, its external data beside it.
            lengths: of the named axes of resident tensors, which are allocated here.
            threads: for one pass; 0 lets ONNX Runtime take every core.
            spinning: let threads that wait keep their cores busy: a little faster alone, and it
                starves a robot's other nodes.
            providers: see `chosen_providers`.
            allow_fallback: run without a provider that does not start, rather than not at all.

        Raises:
            EngineError: a provider is not installed or does not start, or the graph cannot be
                loaded.
        """
        chosen = chosen_providers(providers, installed_providers())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.log_severity_level = 4  # what it would print on stderr is raised, once
        self._session, started = _session(graph, options, chosen, allow_fallback=allow_fallback)
        self._running = Running(
            runtime=f"ONNX Runtime {ort.__version__}",
            on=started,
            threads=threads,
            spinning=spinning,
            missing=tuple(name for name in chosen if name not in started),
        )
        self._name = graph.name
        inputs = tuple(map(_spec, self._session.get_inputs()))
        outputs = tuple(map(_spec, self._session.get_outputs()))
        self._inputs = tuple(spec for spec in inputs if not is_resident(spec.name))
        self._outputs = tuple(spec for spec in outputs if not is_resident(spec.name))
        self._kept = tuple(spec for spec in inputs if is_resident(spec.name))
        self._resident = {
            spec.name: _zeros(spec, lengths or {}, DEVICES.get(started[0], "cpu"))
            for spec in self._kept
        }

    @property
    def running(self) -> Running:
        """See `Engine`."""
        return self._running

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self._outputs

    @property
    def resident(self) -> tuple[TensorSpec, ...]:
        """The resident tensors, by the names they have as inputs."""
        return self._kept

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


def runs_on_host(providers: Sequence[str] | None) -> bool:
    """Whether an engine on these providers (see `chosen_providers`) lies in the host's memory."""
    first = chosen_providers(providers, installed_providers())[0]
    return first not in DEVICES and first not in PLUGINS


def _session(
    graph: Path, options: Any, chosen: tuple[str, ...], *, allow_fallback: bool
) -> tuple[Any, tuple[str, ...]]:
    """A session, and the providers that it really has.

    ONNX Runtime raises for some providers that do not start, and for others goes on without them
    and says nothing; its Python layer then tries again without any.
    """
    try:
        session = _opened(graph, options, chosen)
    except _RUNTIME_ERRORS as error:
        if chosen == (CPU,):
            raise EngineError(
                f"ONNX Runtime {ort.__version__} cannot load {graph.name}: {error}; export the "
                f"engine again, or install the version its manifest names: {graph}"
            ) from error
        if not allow_fallback:
            raise _not_started(chosen, str(error)) from error
        return _session(graph, options, (CPU,), allow_fallback=False)
    started = tuple(session.get_providers())
    missing = tuple(name for name in chosen if name not in started)
    if missing and not allow_fallback:
        raise _not_started(missing, f"the session has {', '.join(started)} only")
    return session, started


def _opened(graph: Path, options: Any, providers: tuple[str, ...]) -> Any:
    if not PLUGINS.keys() & set(providers):
        return ort.InferenceSession(graph, options, providers=list(providers), enable_fallback=0)
    for name in providers:
        _register(name)
    devices = [
        device for name in providers for device in ort.get_ep_devices() if device.ep_name == name
    ]
    options.add_provider_for_devices(devices, {})
    return ort.InferenceSession(graph, options, enable_fallback=0)


def installed_providers() -> list[str]:
    """Of this ONNX Runtime, and plugins beside it."""
    plugins = [name for name, module in PLUGINS.items() if find_spec(module)]
    return list(dict.fromkeys([*ort.get_available_providers(), *plugins]))


def _register(provider: str) -> None:
    """Make a plugin known to ONNX Runtime, if it is one and is not known yet."""
    if provider in PLUGINS and provider not in {device.ep_name for device in ort.get_ep_devices()}:
        plugin = importlib.import_module(PLUGINS[provider])
        ort.register_execution_provider_library(provider, plugin.get_library_path())


def _not_started(providers: tuple[str, ...], reason: str) -> EngineError:
    needs = "".join(f" (it needs {INSTALLED_BY[p]})" for p in providers if p in INSTALLED_BY)
    return EngineError(
        f"{' and '.join(providers)} did not start{needs}: {reason}; is the driver there, and do "
        "its libraries fit? Else ask for the provider cpu, or allow falling back"
    )


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
    # Written, not only asked for: memory that is short shall be missed now, not in an answer. And
    # pages that nobody wrote to are one and the same, which a bench would find in the processor.
    return ort.OrtValue.ortvalue_from_numpy(np.full(shape, 0, spec.dtype), device, 0)
