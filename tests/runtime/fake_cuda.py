# SPDX-License-Identifier: Apache-2.0
"""CUDA's runtime as far as we call it, over host memory, as strict as a GPU and as late.

Work is queued on a stream and done when somebody waits for it, so whoever reads results before
that, or lets go of an array, gets rubbish here too. Every address that work touches must lie in
memory that is allocated at that moment. While a stream is captured nothing is done, and nothing
may be allocated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum, IntEnum
from types import ModuleType
from typing import Any

import numpy as np

SENTINEL = 0xA5  # what fresh memory holds: nobody may count on zeros

Work = Callable[[], None]


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(Enum):
    cudaStreamCaptureModeThreadLocal = 1


class cudaDeviceAttr(Enum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class Stream:
    """Work that waits, or that is being recorded."""

    def __init__(self) -> None:
        self.queue: list[Work] = []
        self.recording: list[Work] | None = None
        self.is_broken = False

    def ask(self, work: Work) -> None:
        (self.queue if self.recording is None else self.recording).append(work)


class FakeCuda(ModuleType):
    """Stands in for `cuda.bindings.runtime`; of an Orin unless told otherwise."""

    def __init__(self, *, capability: tuple[int, int] = (8, 7), memory_bytes: int = 10**9) -> None:
        super().__init__("cuda.bindings.runtime")
        self.capability, self.free_bytes = capability, memory_bytes
        self.allocated: dict[int, np.ndarray] = {}
        self.streams: list[Stream] = []
        self.launches = 0
        self.has_device = True
        self.refuses_capture = False
        self.cudaError_t, self.cudaMemcpyKind = cudaError_t, cudaMemcpyKind
        self.cudaStreamCaptureMode, self.cudaDeviceAttr = cudaStreamCaptureMode, cudaDeviceAttr

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """A view of allocated memory."""
        for start, memory in self.allocated.items():
            if start <= address and address + size <= start + memory.nbytes:
                return memory[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not within allocated memory")

    # What we call, by CUDA's names.
    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if any(stream.recording is not None for stream in self.streams):
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        if size > self.free_bytes:
            return cudaError_t.cudaErrorMemoryAllocation, None
        memory = np.full(size, SENTINEL, np.uint8)
        self.allocated[memory.ctypes.data] = memory
        self.free_bytes -= size
        return cudaError_t.cudaSuccess, memory.ctypes.data

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        if not self.has_device:
            return cudaError_t.cudaErrorNoDevice, None, None
        total = self.free_bytes + sum(memory.nbytes for memory in self.allocated.values())
        return cudaError_t.cudaSuccess, self.free_bytes, total

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self.free_bytes += self.allocated.pop(address).nbytes
        return (cudaError_t.cudaSuccess,)

    def cudaMemset(self, address: int, value: int, size: int) -> tuple[Any, ...]:
        self.bytes_at(address, size)[:] = value
        return (cudaError_t.cudaSuccess,)

    def cudaMemcpyAsync(
        self, to: int, from_: int, size: int, kind: cudaMemcpyKind, stream: Stream
    ) -> tuple[Any, ...]:
        def work() -> None:
            if kind is not cudaMemcpyKind.cudaMemcpyDeviceToHost:
                self.bytes_at(to, size)
            if kind is not cudaMemcpyKind.cudaMemcpyHostToDevice:
                self.bytes_at(from_, size)
            ctypes.memmove(to, from_, size)

        stream.ask(work)
        return (cudaError_t.cudaSuccess,)

    def cudaMemcpy2DAsync(
        self,
        to: int,
        to_pitch: int,
        from_: int,
        from_pitch: int,
        width: int,
        height: int,
        kind: cudaMemcpyKind,
        stream: Stream,
    ) -> tuple[Any, ...]:
        if width > to_pitch or width > from_pitch:
            return (cudaError_t.cudaErrorInvalidValue,)
        for row in range(height):
            self.cudaMemcpyAsync(
                to + row * to_pitch, from_ + row * from_pitch, width, kind, stream
            )
        return (cudaError_t.cudaSuccess,)

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        self.streams.append(Stream())
        return cudaError_t.cudaSuccess, self.streams[-1]

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        self.streams.remove(stream)
        return (cudaError_t.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        assert stream.recording is None, "waited for a stream that is being captured"
        while stream.queue:
            stream.queue.pop(0)()
        return (cudaError_t.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> tuple[Any, ...]:
        assert isinstance(mode, cudaStreamCaptureMode)
        stream.recording, stream.is_broken = [], self.refuses_capture
        return (cudaError_t.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        recorded, stream.recording = stream.recording, None
        if stream.is_broken:
            return cudaError_t.cudaErrorStreamCaptureInvalidated, None
        return cudaError_t.cudaSuccess, recorded

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[Any, ...]:
        assert flags == 0
        return cudaError_t.cudaSuccess, tuple(graph)

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[Any, ...]:
        graph.clear()
        return (cudaError_t.cudaSuccess,)

    def cudaGraphExecDestroy(self, launchable: tuple[Work, ...]) -> tuple[Any, ...]:
        return (cudaError_t.cudaSuccess,)

    def cudaGraphLaunch(self, launchable: tuple[Work, ...], stream: Stream) -> tuple[Any, ...]:
        self.launches += 1
        for work in launchable:
            stream.ask(work)
        return (cudaError_t.cudaSuccess,)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, 0

    def cudaDeviceGetAttribute(self, attribute: cudaDeviceAttr, device: int) -> tuple[Any, ...]:
        which = attribute is cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor
        return cudaError_t.cudaSuccess, self.capability[which]
