# SPDX-License-Identifier: Apache-2.0
"""The tensors of a checkpoint, read a few rows at a time and when they are asked for.

Knows safetensors and rounding to few bits; knows no graph and no runtime, so every flavour's
exporter reads through it. A checkpoint need not fit into memory, nor need its largest tensor:
an embedding table of 8B has 2.5 GB in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from safetensors import safe_open

from .quantization import blocks_from_float

Float32 = npt.NDArray[np.float32]

PIECE_BYTES = 32 * 1024**2  # of float32 numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWeights:
    """A checkpoint's tensors. `files`: where each lies, by name."""

    files: dict[str, Path]

    def shape(self, name: str) -> tuple[int, ...]:
        """As it is stored."""
        with safe_open(self.files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def array(self, name: str) -> Float32:
        """The whole tensor."""
        return np.concatenate(list(self.pieces(name)))

    def pieces(self, name: str, *, piece_bytes: int = PIECE_BYTES) -> Iterator[Float32]:
        """The tensor, some of its rows after the other."""
        shape = self.shape(name)
        rows = max(1, piece_bytes // (4 * max(1, int(np.prod(shape[1:])))))
        for start in range(0, shape[0], rows):
            # Opened anew for each: what was read of a mapped file counts as ours until it closes.
            with safe_open(self.files[name], framework="pt") as file:
                tensor: torch.Tensor = file.get_slice(name)[start : start + rows]
                piece: Float32 = tensor.float().numpy()
            yield piece

    def expert_rows(self, name: str, *, in_features: int) -> Iterator[Float32]:
        """Each expert's matrix (out, in), one after the other, of a tensor (E, in, out).

        The tensor may lie the other way round, as transformers 5 writes it; its matrices are not
        square (`checkpoint.py` refuses those).
        """
        experts, rows, _ = self.shape(name)
        for expert in range(experts):
            with safe_open(self.files[name], framework="pt") as file:
                matrix: torch.Tensor = file.get_slice(name)[expert].float()
            yield (matrix.T if rows == in_features else matrix).contiguous().numpy()


@dataclass(kw_only=True, slots=True)
class RoundedWeight:
    """Matrices in few bits, rounded while they are read.

    Codes are asked for before scales; then the scales were remembered, and nothing is read twice.

    Attributes:
        matrices: called for pieces (rows, in) float32, one after the other.
        bits: 4 or 8.
        block_size: columns that share a scale.
    """

    matrices: Callable[[], Iterator[Float32]]
    bits: int
    block_size: int
    _scales: list[Float32] = field(default_factory=list)

    def codes(self) -> Iterator[npt.NDArray[np.uint8]]:
        """(rows, blocks, bytes of a block), some rows after the other."""
        self._scales.clear()
        for matrix in self.matrices():
            rounded = blocks_from_float(matrix, bits=self.bits, block_size=self.block_size)
            self._scales.append(rounded.scales)
            yield rounded.packed

    def scales(self) -> Iterator[Float32]:
        """(rows, blocks) float32, some rows after the other."""
        if not self._scales:
            for _ in self.codes():
                pass
        while self._scales:
            yield self._scales.pop(0)


def lazy_tensor(value: ir.Value, read: Callable[[], npt.NDArray[np.generic]]) -> ir.LazyTensor:
    """A promise of an initializer's numbers, whole; `streamed_tensor.py` has one in pieces."""
    assert value.dtype is not None
    assert value.shape is not None
    return ir.LazyTensor(
        lambda: ir.tensor(read(), name=value.name),
        dtype=value.dtype,
        shape=value.shape,
        name=value.name,
    )
