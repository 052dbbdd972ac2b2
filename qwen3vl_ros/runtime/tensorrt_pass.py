# SPDX-License-Identifier: Apache-2.0
"""Passes through one optimization profile of a plan. NOT YET RUN ON HARDWARE.

Knows a context, its buffers and shapes; knows no decoder. A profile whose shapes are all fixed is
recorded once as a CUDA graph and replayed: that is why every profile has buffers of its own, whose
addresses never change once they are recorded. Profiles share the memory that TensorRT works in,
because one pass runs at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .device_memory import CapturedWork, DeviceBuffer, Stream
from .engine import TensorSpec
from .tensorrt_library import faults_of

_LOG = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A deserialised plan and what its profiles share; the memory is on the GPU.

    Attributes:
        trt: the module that deserialised it.
        engine: TensorRT's.
        name: of its file.
        inputs, outputs: what is fed and returned.
        stream: all of its work, in order.
        workspace: that TensorRT works in.
        resident: addresses of what stays from pass to pass, by the names of inputs and outputs.
        appended: outputs that are rows to be put behind those of a resident input.
    """

    trt: ModuleType
    engine: Any
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stream: Stream
    workspace: DeviceBuffer
    resident: Mapping[str, int]
    appended: tuple[str, ...]


class ProfilePass:
    """One profile of a plan. Owns a context, buffers and a CUDA graph (mutable)."""

    def __init__(self, plan: Plan, index: int) -> None:
        self._plan, engine, trt = plan, plan.engine, plan.trt
        ranges = {
            spec.name: engine.get_tensor_profile_shape(spec.name, index) for spec in plan.inputs
        }
        self.least: Shapes = {name: tuple(shapes[0]) for name, shapes in ranges.items()}
        self.most: Shapes = {name: tuple(shapes[2]) for name, shapes in ranges.items()}
        self.is_fixed = self.least == self.most
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = engine.create_execution_context(strategy)
        if self._context is None:
            raise EngineError(
                f"{plan.name}: TensorRT {trt.__version__} gave no context: {faults_of(trt)}"
            )
        self._context.set_device_memory(plan.workspace.address, engine.device_memory_size_v2)
        if not self._context.set_optimization_profile_async(index, plan.stream.handle):
            raise EngineError(f"{plan.name} has no profile {index}: {faults_of(trt)}")
        plan.stream.wait()
        for name, address in plan.resident.items():
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                shape = tuple(engine.get_tensor_profile_shape(name, index)[2])
                self._context.set_input_shape(name, shape)
            self._context.set_tensor_address(name, address)
        names = [spec.name for spec in (*plan.inputs, *plan.outputs)] + [*plan.appended]
        self._buffers = {name: DeviceBuffer() for name in names}
        self._is_bound = False
        self._recorded: CapturedWork | None = None
        self._can_record = self.is_fixed

    def fits(self, shapes: Shapes) -> bool:
        """Whether it takes inputs of these shapes."""
        return all(
            len(shape) == len(self.most[name])
            and all(
                low <= length <= high
                for low, length, high in zip(self.least[name], shape, self.most[name], strict=True)
            )
            for name, shape in shapes.items()
        )

    def address(self, name: str) -> int:
        """Where an output lies until the next pass."""
        return self._buffers[name].address

    def run(self, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """One pass over contiguous arrays that fit; results are there when the stream is done.

        Raises:
            EngineError: TensorRT or CUDA failed.
        """
        if not self._is_bound:
            self._bind({name: array.shape for name, array in arrays.items()})
            self._is_bound = self.is_fixed
        stream = self._plan.stream
        for name, array in arrays.items():
            stream.copy_in(self.address(name), array)
        if self._recorded is not None:
            self._recorded.launch()
        else:
            self._enqueue()
        results = {
            spec.name: np.empty(self._shape(spec.name), spec.dtype) for spec in self._plan.outputs
        }
        for name, array in results.items():
            stream.copy_out(array, self.address(name))
        return results

    def record(self) -> None:
        """Record the pass that was run as a CUDA graph, where shapes are fixed and it is not yet.

        A context can be recorded after it has run once with its shapes (TensorRT's documentation,
        "CUDA Graphs"). Where that fails passes go on without, and it is said once.
        """
        if not self._can_record:
            return
        self._can_record = False
        try:
            self._recorded = CapturedWork(self._plan.stream, self._enqueue)
        except EngineError as error:
            _LOG.warning("%s runs without a CUDA graph, slower: %s", self._plan.name, error)

    def _bind(self, shapes: Shapes) -> None:
        for spec in self._plan.inputs:
            shape = shapes[spec.name]
            if not self._context.set_input_shape(spec.name, shape):
                raise EngineError(
                    f"{self._plan.name} refuses {spec.name} with shape {shape}: "
                    f"{faults_of(self._plan.trt)}"
                )
            self._reserve(spec.name, shape, spec.dtype.itemsize)
        for spec in self._plan.outputs:
            self._reserve(spec.name, self._shape(spec.name), spec.dtype.itemsize)
        for name in self._plan.appended:
            itemsize = self._plan.engine.get_tensor_dtype(name).itemsize
            self._reserve(name, self._shape(name), itemsize)

    def _reserve(self, name: str, shape: Iterable[int], itemsize: int) -> None:
        address = self._buffers[name].reserve(int(np.prod([*shape])) * itemsize)
        self._context.set_tensor_address(name, address)

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(name))

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._plan.stream.handle):
            trt = self._plan.trt
            raise EngineError(
                f"{self._plan.name} failed in TensorRT {trt.__version__}: {faults_of(trt)}"
            )
