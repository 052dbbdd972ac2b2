# SPDX-License-Identifier: Apache-2.0
"""Runs one TensorRT or TensorRT-RTX plan. NOT YET RUN ON HARDWARE.

Holds a plan's buffers and chooses a profile for every pass, nothing else; contract, manifest and
cache bookkeeping are above and shared with ONNX Runtime. A decoder's pass is filled up to the
decode window where it can be (`decode_window.py`).

Resident tensors (`engine.py`) have one buffer each. Of the fused operators, past and present are
both given its address; of the plain ones, present is the rows of a pass, which are copied behind
those of earlier passes. Written against TensorRT 10.3 to 11.4 and cuda-python 12.6 to 13; what no
development machine could show is that it works.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .decode_window import ROWS, Arrays, filled_up, is_decoder_pass, rows_of, wanted_rows
from .device_memory import DeviceBuffer, Rows, Stream, gpu_architecture
from .engine import PAST, PRESENT, Running, TensorSpec, check_feeds, is_resident
from .machine import Machine, driver_version
from .tensorrt_library import faults_of, logger_of, tensorrt_library
from .tensorrt_pass import Plan, ProfilePass

_ROW_AXIS = 2  # of a cache's buffer: (B, kv_heads, S, head_dim)


class TensorRTEngine:
    """An `Engine`. Owns device memory (mutable)."""

    def __init__(self, plan: Path, *, flavour: str = "tensorrt") -> None:
        """Load a plan.

        Args:
            plan: a serialised engine, already checked against its manifest: deserialising runs
                whatever it holds.
            flavour: whose plan it is, "tensorrt" or "tensorrt-rtx".

        Raises:
            EngineError: the plan is for another TensorRT or GPU.
            MissingDependency: that TensorRT is not installed.
        """
        self._flavour = flavour
        self._trt = tensorrt_library(flavour)
        self._engine = self._deserialised(plan)
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        fed = [name for name in names if not is_resident(name)]
        buffers = {name: self._zeros(name) for name in names if name.startswith(PAST)}
        in_place, appended = self._presents(names)
        self._plan = Plan(
            trt=self._trt,
            engine=self._engine,
            name=plan.name,
            inputs=tuple(self._spec(name) for name in fed if self._is_input(name)),
            outputs=tuple(self._spec(name) for name in fed if not self._is_input(name)),
            stream=Stream(),
            workspace=DeviceBuffer(self._engine.device_memory_size_v2),
            resident={name: buffers[_past_of(name)].address for name in (*buffers, *in_place)},
            appended=tuple(appended),
        )
        self._buffers = buffers
        # Fixed shapes first: a pass that fits them is filled up and replayed.
        profiles = range(self._engine.num_optimization_profiles)
        passes = [ProfilePass(self._plan, index) for index in profiles]
        self._passes = sorted(passes, key=lambda each: not each.is_fixed)

    @property
    def running(self) -> Running:
        """See `Engine`."""
        name = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}[self._flavour]
        return Running(runtime=f"{name} {self._trt.__version__}", on=("the GPU",))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self._plan.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """See `Engine`."""
        return self._plan.outputs

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """See `Engine`."""
        check_feeds(self._plan.name, self._plan.inputs, feeds)
        for each in self._passes:
            fitting = self._fitting(each, feeds)
            if fitting is None:
                continue
            arrays = {name: np.ascontiguousarray(array) for name, array in fitting.items()}
            results = each.run(arrays)
            if self._plan.appended:
                self._append(each, feeds, rows_of(fitting))
            self._plan.stream.wait()
            each.record()
            return wanted_rows(results, feeds) if is_decoder_pass(feeds) else results
        raise EngineError(self._outside(feeds))

    def _fitting(self, each: ProfilePass, feeds: Arrays) -> Arrays | None:
        """The inputs as a profile takes them; None where it cannot."""
        fitting: Arrays | None = feeds
        if each.is_fixed and is_decoder_pass(feeds):
            window = each.most[ROWS][1]
            fitting = filled_up(feeds, window=window, cache_rows=self._cache_rows())
        if fitting is None:
            return None
        return fitting if each.fits({name: a.shape for name, a in fitting.items()}) else None

    def _append(self, each: ProfilePass, feeds: Arrays, rows_in_pass: int) -> None:
        """Put the rows of this pass behind those in the cache."""
        start, rows = int(feeds["cached_tokens"].max()), rows_of(feeds)
        for name in self._plan.appended:
            past = _past_of(name)
            B, heads, cache_rows, width = self._resident_shape(past)
            row_bytes = width * self._engine.get_tensor_dtype(past).itemsize
            if start + rows > cache_rows:
                raise EngineError(
                    f"{self._plan.name} was fed {rows} rows after {start}, and its cache has "
                    f"{cache_rows}; ask for less, or build with a larger cache_length"
                )
            self._plan.stream.copy_rows(
                Rows(
                    address=self._buffers[past].address + start * row_bytes,
                    pitch_bytes=cache_rows * row_bytes,
                ),
                Rows(address=each.address(name), pitch_bytes=rows_in_pass * row_bytes),
                width_bytes=rows * row_bytes,
                count=B * heads,
            )

    def _deserialised(self, plan: Path) -> Any:
        runtime = self._trt.Runtime(logger_of(self._trt))
        # Mapped: what is read can be dropped again, on a Jetson the GPU wants that memory.
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            engine = runtime.deserialize_cuda_engine(view)
        if engine is None:
            raise EngineError(
                f"TensorRT {self._trt.__version__} cannot load {plan.name}: "
                f"{faults_of(self._trt)}; a plan runs on the TensorRT version and GPU it was "
                f"built for: build it on this machine: {plan}"
            )
        self._runtime = runtime  # engines need theirs alive
        return engine

    def _is_input(self, name: str) -> bool:
        mode = self._engine.get_tensor_mode(name)
        return bool(mode == self._trt.TensorIOMode.INPUT)

    def _presents(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Outputs that are a resident buffer, and those that are rows to be put into one."""
        in_place: list[str] = []
        appended: list[str] = []
        for name in names:
            if name.startswith(PRESENT):
                is_whole = self._engine.get_tensor_shape(name)[_ROW_AXIS] >= 0
                (in_place if is_whole else appended).append(name)
        return in_place, appended

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorSpec(
            name=name,
            dtype=np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name))),
            # A plan forgets the names of its axes.
            shape=tuple(axis if axis >= 0 else f"axis{i}" for i, axis in enumerate(shape)),
        )

    def _resident_shape(self, name: str) -> tuple[int, ...]:
        """Of a cache's buffer: profiles fix it, however many sequences they take at most."""
        return tuple(self._engine.get_tensor_profile_shape(name, 0)[2])

    def _cache_rows(self) -> int:
        return self._resident_shape(next(iter(self._buffers)))[_ROW_AXIS]

    def _zeros(self, name: str) -> DeviceBuffer:
        # Sized by the plan's own kind: NumPy has no bfloat16.
        itemsize = self._engine.get_tensor_dtype(name).itemsize
        buffer = DeviceBuffer(int(np.prod(self._resident_shape(name))) * itemsize)
        buffer.clear()
        return buffer

    def _outside(self, feeds: Arrays) -> str:
        """What of a pass is outside of every profile."""
        widest = self._passes[-1]
        faults = [
            f"{name} {array.shape}, takes {widest.least[name]} to {widest.most[name]}"
            for name, array in feeds.items()
            if not widest.fits({name: array.shape})
        ]
        return (
            f"{self._plan.name} was fed {'; '.join(faults)}; ask for less, or build it with a "
            "recipe of more image_tokens, a larger cache_length or a larger decode_window"
        )


def _past_of(name: str) -> str:
    return PAST + name.removeprefix(PRESENT).removeprefix(PAST)


def this_machine(flavour: str = "tensorrt") -> Machine:
    """What plans are held against before any is read; the GPU is the one CUDA uses now."""
    return Machine(
        tensorrt_version=str(tensorrt_library(flavour).__version__),
        gpu_architecture=gpu_architecture(),
        driver=driver_version(),
    )
