# SPDX-License-Identifier: Apache-2.0
"""Memory on a GPU, a stream of work, CUDA's status as errors. NOT YET RUN ON HARDWARE.

Knows CUDA's runtime, no TensorRT. Everything is freed when its Python object goes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from ..errors import EngineError, MissingDependency

try:
    from cuda.bindings import runtime as cudart
except ModuleNotFoundError as error:
    raise MissingDependency(
        "cuda-python",
        needed_for="running TensorRT plans",
        install="pip install -e '.[tensorrt]' (or '.[rtx]' for plans of TensorRT-RTX)",
    ) from error


def checked(result: tuple[Any, ...]) -> Any:
    """What a CUDA call returned beside its status.

    Raises:
        EngineError: the status is not success.
    """
    status, *values = result
    if status != cudart.cudaError_t.cudaSuccess:
        raise EngineError(
            f"CUDA reports {cudart.cudaError_t(status).name}; is the GPU there, with memory free?"
        )
    return values[0] if values else None


class DeviceBuffer:
    """Memory on the GPU that only ever grows. Mutable; owned by one engine."""

    def __init__(self, size_bytes: int = 0) -> None:
        self.address = 0
        self._capacity = 0
        self._free: Callable[[], object] | None = None
        self.reserve(size_bytes)

    def reserve(self, size_bytes: int) -> int:
        """Its address, with room for at least `size_bytes`; what it held is lost if it grows."""
        if size_bytes > self._capacity:
            if self._free is not None:
                self._free()
            # Should there be too little memory, nothing may count on what was freed.
            self.address, self._capacity = 0, 0
            self.address = int(checked(cudart.cudaMalloc(size_bytes)))
            self._capacity = size_bytes
            self._free = weakref.finalize(self, cudart.cudaFree, self.address)
        return self.address

    def clear(self) -> None:
        """Make it all zeros."""
        if self._capacity:
            checked(cudart.cudaMemset(self.address, 0, self._capacity))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows of equal length that lie `pitch_bytes` apart, from `address` on."""

    address: int
    pitch_bytes: int


class Stream:
    """Work that the GPU does in order. One thread."""

    def __init__(self) -> None:
        self.handle = checked(cudart.cudaStreamCreate())
        weakref.finalize(self, cudart.cudaStreamDestroy, self.handle)

    def copy_in(self, address: int, array: npt.NDArray[Any]) -> None:
        """To the GPU; the array must live until `wait`."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        source = array.ctypes.data
        checked(cudart.cudaMemcpyAsync(address, source, array.nbytes, kind, self.handle))

    def copy_out(self, array: npt.NDArray[Any], address: int) -> None:
        """From the GPU; there when `wait` returns."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        target = array.ctypes.data
        checked(cudart.cudaMemcpyAsync(target, address, array.nbytes, kind, self.handle))

    def copy_rows(self, target: Rows, source: Rows, *, width_bytes: int, count: int) -> None:
        """The beginning of each of `count` rows, on the GPU."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        at, from_ = (target.address, target.pitch_bytes), (source.address, source.pitch_bytes)
        checked(cudart.cudaMemcpy2DAsync(*at, *from_, width_bytes, count, kind, self.handle))

    def wait(self) -> None:
        """Until everything asked for is done."""
        checked(cudart.cudaStreamSynchronize(self.handle))


class CapturedWork:
    """Work of a stream, recorded once and then launched as one (a CUDA graph)."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        """Record what `work` asks of the stream, without doing it.

        Raises:
            EngineError: it cannot be recorded; the stream is as it was.
        """
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture(stream.handle, mode))
        try:
            work()
        finally:
            # Ends the capture however the work ended.
            graph = checked(cudart.cudaStreamEndCapture(stream.handle))
        self._stream = stream
        self._launchable = checked(cudart.cudaGraphInstantiate(graph, 0))
        checked(cudart.cudaGraphDestroy(graph))
        weakref.finalize(self, cudart.cudaGraphExecDestroy, self._launchable)

    def launch(self) -> None:
        """Ask the stream for it."""
        checked(cudart.cudaGraphLaunch(self._launchable, self._stream.handle))


def free_device_bytes() -> int:
    """Memory of the GPU that CUDA uses now which nobody has taken.

    Raises:
        EngineError: there is no GPU.
    """
    return int(checked(cudart.cudaMemGetInfo()))  # the total comes second


def gpu_architecture() -> str:
    """Of the GPU that CUDA uses now, for example "sm_87"."""
    attributes = cudart.cudaDeviceAttr
    device = checked(cudart.cudaGetDevice())
    major, minor = (
        checked(cudart.cudaDeviceGetAttribute(attribute, device))
        for attribute in (
            attributes.cudaDevAttrComputeCapabilityMajor,
            attributes.cudaDevAttrComputeCapabilityMinor,
        )
    )
    return f"sm_{major}{minor}"
