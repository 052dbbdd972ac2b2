# SPDX-License-Identifier: Apache-2.0
"""The tensors of a checkpoint, read one at a time and when they are written.

Knows safetensors and four-bit rounding; knows no graph. A checkpoint need not fit into memory:
what a graph holds until it is saved are promises (`lazy_tensor`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from safetensors import safe_open

from .quantization import Int4Weight, int4_from_float

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWeights:
    """A checkpoint's tensors. `files`: where each lies, by name."""

    files: dict[str, Path]

    def array(self, name: str) -> Float32:
        with safe_open(self.files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        array: Float32 = tensor.float().numpy()
        return array

    @functools.lru_cache(maxsize=1)  # noqa: B019 (one weight; packed and scales ask in turn)
    def int4(self, name: str) -> Int4Weight:
        return int4_from_float(self.array(name))

    def expert_rows(self, name: str, *, in_features: int) -> Iterator[Float32]:
        """Each expert's matrix (out, in), one after the other, of a tensor (E, in, out).

        The tensor may lie the other way round, as transformers 5 writes it; its matrices are not
        square (`checkpoint.py` refuses those).
        """
        with safe_open(self.files[name], framework="pt") as file:
            stored = file.get_slice(name)
            experts, rows, _ = stored.get_shape()
            for expert in range(experts):
                matrix: torch.Tensor = stored[expert].float()
                yield (matrix.T if rows == in_features else matrix).contiguous().numpy()

    def __hash__(self) -> int:
        return id(self)


def lazy_tensor(value: ir.Value, read: Callable[[], npt.NDArray[np.generic]]) -> ir.LazyTensor:
    """A promise of an initializer's numbers, of the shape and kind that it says it has."""
    assert value.dtype is not None
    assert value.shape is not None
    return ir.LazyTensor(
        lambda: ir.tensor(read(), name=value.name),
        dtype=value.dtype,
        shape=value.shape,
        name=value.name,
    )
