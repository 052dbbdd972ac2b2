# SPDX-License-Identifier: Apache-2.0
"""TensorRT's runtime as far as we call it, computing real graphs with ONNX Runtime.

A "plan" is a JSON file that names an ONNX graph and its profiles. Inputs are read from, and
outputs written to, the addresses that a context was given, when its stream gets to it; shapes
outside of the chosen profile, missing addresses and memory are refused as TensorRT refuses them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

from tests.runtime.fake_cuda import FakeCuda, Stream

WORKSPACE_BYTES = 4096
NUMPY_KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}

Profiles = Sequence[Mapping[str, Sequence[Sequence[int]]]]


class TensorIOMode(Enum):
    INPUT = "input"
    OUTPUT = "output"


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    USER_MANAGED = 2


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class DataType:
    """A kind of number, which knows its size as TensorRT's does."""

    def __init__(self, kind: type[np.generic]) -> None:
        self.kind, self.itemsize = kind, np.dtype(kind).itemsize


class FakeTensorRT(ModuleType):
    """Stands in for `tensorrt`; what it computes on is the memory of `cuda`."""

    TensorIOMode, ILogger = TensorIOMode, ILogger
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy

    def __init__(self, cuda: FakeCuda, *, version: str = "10.3.0.30") -> None:
        super().__init__("tensorrt")
        self.cuda, self.__version__ = cuda, version

    def Runtime(self, logger: ILogger) -> Runtime:
        return Runtime(self, logger)

    @staticmethod
    def nptype(dtype: DataType) -> type[np.generic]:
        return dtype.kind


def write_plan(file: Path, graph: Path, profiles: Profiles, *, version: str = "10.3.0.30") -> Path:
    """A "plan" of an ONNX graph; a profile gives [min, opt, max] of every input."""
    plan = {"version": version, "graph": str(graph), "profiles": profiles}
    file.write_text(json.dumps(plan))
    return file


class Runtime:
    def __init__(self, trt: FakeTensorRT, logger: ILogger) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, plan: Any) -> Engine | None:
        values = json.loads(bytes(plan))
        if values["version"] != self.trt.__version__:
            self.logger.log(ILogger.ERROR, f"plan of version {values['version']}")
            return None
        return Engine(self, values)


class Engine:
    def __init__(self, runtime: Runtime, plan: Mapping[str, Any]) -> None:
        self.runtime, self.trt = runtime, runtime.trt
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # it says that it copies the cache, which is meant
        self.session = ort.InferenceSession(plan["graph"], options)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.values = {value.name: value for value in (*inputs, *outputs)}
        self.input_names = {value.name for value in inputs}
        self.profiles: Profiles = plan["profiles"]
        self.num_io_tensors, self.num_optimization_profiles = len(self.values), len(self.profiles)
        self.device_memory_size_v2 = WORKSPACE_BYTES

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.input_names else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else -1 for axis in self.values[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(NUMPY_KINDS[self.values[name].type])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.profiles[index][name]]

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> Context:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.cuda = engine, engine.trt.cuda
        self.profile: int | None = None
        self.workspace: tuple[int, int] | None = None
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.has_run_with_these = False

    def set_device_memory(self, address: int, size: int) -> None:
        self.workspace = (address, size)

    def set_optimization_profile_async(self, index: int, stream: Stream) -> bool:
        assert stream in self.cuda.streams
        self.profile = index
        return index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert self.profile is not None, "no profile chosen"
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        fits = len(shape) == len(low) and all(
            a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
        )
        if not fits:
            self._fault(f"{name} {tuple(shape)} is outside of profile {self.profile}")
            return False
        if self.shapes.get(name) != tuple(shape):
            self.shapes[name], self.has_run_with_these = tuple(shape), False
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert name in self.engine.values, name
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        lengths = {}
        for given, shape in self.shapes.items():
            for axis, length in zip(self.engine.values[given].shape, shape, strict=True):
                # "B", or of the tower's patches "4*image_tokens".
                factor, _, length_name = str(axis).rpartition("*")
                lengths[length_name] = length // int(factor or 1)
        return tuple(
            axis if isinstance(axis, int) else lengths[axis]
            for axis in self.engine.values[name].shape
        )

    def execute_async_v3(self, stream: Stream) -> bool:
        if stream.recording is not None and not self.has_run_with_these:
            stream.is_broken = True
            self._fault("shapes were changed, and a context must run once before it is captured")
            return False
        missing = self.engine.input_names - self.shapes.keys()
        missing |= self.engine.values.keys() - self.addresses.keys()
        if missing or self.workspace is None:
            self._fault(f"not everything was given: {sorted(missing)}, {self.workspace}")
            return False
        self.cuda.bytes_at(*self.workspace)
        addresses, shapes = dict(self.addresses), dict(self.shapes)
        stream.ask(lambda: self._compute(addresses, shapes))
        self.has_run_with_these = True
        return True

    def _compute(
        self, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        feeds = {
            name: self._array(name, addresses[name], shapes[name]).copy()
            for name in self.engine.input_names
        }
        names = [name for name in self.engine.values if name not in self.engine.input_names]
        results = self.engine.session.run(names, feeds)
        for name, result in zip(names, results, strict=True):
            self._array(name, addresses[name], result.shape)[...] = result

    def _array(self, name: str, address: int, shape: tuple[int, ...]) -> np.ndarray:
        dtype = self.engine.get_tensor_dtype(name)
        size = int(np.prod(shape)) * dtype.itemsize
        return self.cuda.bytes_at(address, size).view(dtype.kind).reshape(shape)

    def _fault(self, message: str) -> None:
        self.engine.runtime.logger.log(ILogger.ERROR, message)
