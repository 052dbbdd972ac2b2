# SPDX-License-Identifier: Apache-2.0
"""An initializer whose numbers are made while its model is saved, a piece at a time.

Knows ONNX IR's tensors and floating-point formats; knows no checkpoint and no runtime. Any
exporter gives an initializer such a tensor and calls `save`: memory then holds one piece of one
weight, whatever the size of the model.

    value.const_value = StreamedTensor(value, lambda: weights.pieces(name))
    save(model, directory / "decoder.onnx")

Pieces are float32 (or, of integers, the very kind wanted); they are narrowed here, to what the
initializer says it holds, and a number that this would turn into infinity is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..errors import CheckpointError

MIN_EXTERNAL_BYTES = 1024  # smaller tensors stay in the graph file
NARROW_KINDS: dict[ir.DataType, Any] = {
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.BFLOAT16: ml_dtypes.bfloat16,
}

Array = npt.NDArray[Any]
Pieces = Callable[[], Iterator[Array]]
Progress = Callable[[str, int, int], None]


class StreamedTensor(ir.LazyTensor):
    """A promise of an initializer's numbers, of the shape and kind that it says it has."""

    def __init__(self, value: ir.Value, pieces: Pieces) -> None:
        assert value.dtype is not None
        assert isinstance(value.shape, ir.Shape)
        super().__init__(self._whole, dtype=value.dtype, shape=value.shape, name=value.name)
        self._pieces = pieces

    def tofile(self, file: BinaryIO) -> None:
        """Write it, holding one piece."""
        written = 0
        for piece in self._narrowed():
            file.write(piece.data)
            written += piece.nbytes
        assert written == self.nbytes, f"{self.name}: {written} bytes of {self.nbytes}"

    def _whole(self) -> ir.Tensor[Array]:
        """For those small enough to lie in the graph."""
        numbers = np.concatenate([piece.ravel() for piece in self._narrowed()])
        kind = NARROW_KINDS.get(self.dtype, numbers.dtype)
        return ir.Tensor(numbers.view(kind).reshape(self.shape.numpy()), dtype=self.dtype)

    def _narrowed(self) -> Iterator[Array]:
        """Pieces as they are laid out in a file; of two-byte floats, their bits."""
        for piece in self._pieces():
            if self.dtype in NARROW_KINDS:
                narrow = narrowed(str(self.name), piece, NARROW_KINDS[self.dtype])
                yield np.ascontiguousarray(narrow).view(np.uint16)
            else:
                yield np.ascontiguousarray(piece)


def narrowed(name: str, numbers: Array, kind: npt.DTypeLike) -> Array:
    """float32 numbers as another floating-point kind.

    Raises:
        CheckpointError: one is too large for it, or is no number; names the tensor.
    """
    with np.errstate(over="ignore"):
        narrow = numbers.astype(kind)
    if np.isfinite(narrow).all():
        return narrow
    largest = float(np.abs(numbers).max())
    raise CheckpointError(
        f"{name} holds {largest:g}, which {np.dtype(kind).name} cannot; export a precision that "
        "keeps it in float32 or bfloat16"
    )


def save(model: ir.Model, file: Path, progress: Progress | None = None) -> None:
    """Write a model to `file` and its weights beside it, to `<file>.data`, one after the other.

    Args:
        model: initializers have data, or are `StreamedTensor`s.
        file: an `.onnx` file to be.
        progress: called with the file's name, bytes of weights written and bytes in all.
    """
    sizes = [value.const_value.nbytes for value in model.graph.initializers.values()]  # type: ignore[union-attr]
    total = sum(size for size in sizes if size > MIN_EXTERNAL_BYTES)

    def report(tensor: Any, info: ir.external_data.CallbackInfo) -> None:
        # Called before a tensor is written.
        if progress is not None:
            progress(file.name, info.offset, total)

    ir.save(
        model,
        file,
        external_data=f"{file.name}.data",
        size_threshold_bytes=MIN_EXTERNAL_BYTES,
        callback=report,
        max_workers=1,  # one weight in memory at a time
    )
    if progress is not None:
        progress(file.name, total, total)
