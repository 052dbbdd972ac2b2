# SPDX-License-Identifier: Apache-2.0
"""Runs one TensorRT plan. NOT YET RUN ON HARDWARE.

Holds device buffers and a stream, nothing else; contract, manifest and cache bookkeeping are above
and shared with ONNX Runtime. Resident tensors (`engine.py`) have one buffer whose address is given
as past and as present. Written against TensorRT 10.13 and cuda-python 12.6; what no development
machine could show is that it works.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingDependency
from .engine import PAST, PRESENT, Running, TensorSpec, check_feeds, is_resident
from .machine import Machine, driver_version

try:
    import tensorrt as trt
except ModuleNotFoundError as error:
    raise MissingDependency(
        "tensorrt",
        needed_for="running TensorRT plans",
        install="pip install -e '.[tensorrt]' (on a Jetson it comes with JetPack)",
    ) from error
try:
    from cuda.bindings import runtime as cudart
except ModuleNotFoundError as error:
    raise MissingDependency(
        "cuda-python", needed_for="running TensorRT plans", install="pip install -e '.[tensorrt]'"
    ) from error


class _DeviceBuffer:
    """Memory on the GPU that only ever grows. Mutable; owned by one engine."""

    def __init__(self) -> None:
        self.address = 0
        self._capacity = 0

    def reserve(self, size_bytes: int) -> int:
        """Its address, with room for at least `size_bytes`."""
        if size_bytes > self._capacity:
            self.free()
            self.address = _checked(cudart.cudaMalloc(size_bytes))
            self._capacity = size_bytes
        return self.address

    def free(self) -> None:
        if self._capacity:
            _checked(cudart.cudaFree(self.address))
            self._capacity = 0


class TensorRTEngine:
    """An `Engine`. Owns its context, stream and device buffers (mutable)."""

    def __init__(self, plan: Path, *, lengths: Mapping[str, int] | None = None) -> None:
        """Load a plan.

        Args:
            plan: a serialised engine, already checked against its manifest: deserialising runs
                whatever it holds.
            lengths: of the named axes of resident tensors.

        Raises:
            EngineError: the plan is for another TensorRT or GPU.
        """
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"TensorRT {trt.__version__} cannot load {plan.name}; a plan runs on the TensorRT "
                f"version and GPU it was built for: build it on this machine: {plan}"
            )
        self._name = plan.name
        self._context = self._engine.create_execution_context()
        self._stream = _checked(cudart.cudaStreamCreate())
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._mode(name) == trt.TensorIOMode.INPUT]
        self._inputs = tuple(self._spec(name) for name in inputs if not is_resident(name))
        self._outputs = tuple(
            self._spec(name) for name in names if name not in inputs and not is_resident(name)
        )
        self._buffers = {spec.name: _DeviceBuffer() for spec in (*self._inputs, *self._outputs)}
        for name in inputs:
            if is_resident(name):
                self._bind_resident(self._spec(name), lengths or {})

    @property
    def running(self) -> Running:
        """See `Engine`."""
        return Running(runtime=f"TensorRT {trt.__version__}", on=("the GPU",))

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
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        for name, array in arrays.items():
            if not self._context.set_input_shape(name, array.shape):
                raise EngineError(
                    f"{self._name} was fed {name} with shape {array.shape}, which is outside the "
                    "plan's profile; build it with a wider one"
                )
            address = self._buffers[name].reserve(array.nbytes)
            self._context.set_tensor_address(name, address)
            _checked(
                cudart.cudaMemcpyAsync(
                    address,
                    array.ctypes.data,
                    array.nbytes,
                    cudart.cudaMemcpyKind.cudaMemcpyHostToDevice,
                    self._stream,
                )
            )
        results = {
            spec.name: np.empty(tuple(self._context.get_tensor_shape(spec.name)), spec.dtype)
            for spec in self._outputs
        }
        for name, array in results.items():
            self._context.set_tensor_address(name, self._buffers[name].reserve(array.nbytes))
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"{self._name} failed in TensorRT {trt.__version__}; see its log")
        for name, array in results.items():
            _checked(
                cudart.cudaMemcpyAsync(
                    array.ctypes.data,
                    self._buffers[name].address,
                    array.nbytes,
                    cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost,
                    self._stream,
                )
            )
        _checked(cudart.cudaStreamSynchronize(self._stream))
        return results

    def _mode(self, name: str) -> Any:
        return self._engine.get_tensor_mode(name)

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorSpec(
            name=name,
            dtype=np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))),
            # A plan forgets the names of its axes; only the cache's are needed, by their place.
            shape=tuple(axis if axis >= 0 else f"axis{i}" for i, axis in enumerate(shape)),
        )

    def _bind_resident(self, spec: TensorSpec, lengths: Mapping[str, int]) -> None:
        by_place = {"axis0": lengths["B"], "axis2": lengths["cache_length"]}
        shape = [axis if isinstance(axis, int) else by_place[axis] for axis in spec.shape]
        size_bytes = int(np.prod(shape)) * spec.dtype.itemsize
        buffer = self._buffers[spec.name] = _DeviceBuffer()
        address = buffer.reserve(size_bytes)
        _checked(cudart.cudaMemset(address, 0, size_bytes))
        self._context.set_input_shape(spec.name, shape)
        self._context.set_tensor_address(spec.name, address)
        self._context.set_tensor_address(PRESENT + spec.name.removeprefix(PAST), address)


def this_machine() -> Machine:
    """What plans are held against before any is read; the GPU is the one CUDA uses now."""
    attributes = cudart.cudaDeviceAttr
    device = _checked(cudart.cudaGetDevice())
    major, minor = (
        _checked(cudart.cudaDeviceGetAttribute(attribute, device))
        for attribute in (
            attributes.cudaDevAttrComputeCapabilityMajor,
            attributes.cudaDevAttrComputeCapabilityMinor,
        )
    )
    return Machine(
        tensorrt_version=str(trt.__version__),
        gpu_architecture=f"sm_{major}{minor}",
        driver=driver_version(),
    )


def _checked(result: tuple[Any, ...]) -> Any:
    """What a CUDA call returned beside its status."""
    status, *values = result
    if status != cudart.cudaError_t.cudaSuccess:
        raise EngineError(
            f"CUDA reports {cudart.cudaError_t(status).name}; is the GPU there, with memory free?"
        )
    return values[0] if values else None
