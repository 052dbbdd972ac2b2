# SPDX-License-Identifier: Apache-2.0
"""How fast a pass could be if it did nothing but read what it must.

Knows an engine's files and the memory of this machine. One token reads every weight once and every
row of the cache once; no runtime is faster than memory gives those bytes. A pass that takes 1.25
times as long as reading them runs at 80 per cent of its floor.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..model_config import TextConfig

MEGABYTE = 1_000_000
READ_MEGABYTES = 512  # far more than the caches of a processor hold


def bytes_of_weights(directory: Path, text: TextConfig) -> int | None:
    """What decoder and head of an ONNX engine read of their weights in one pass, as stored.

    None where the model has experts: which of them a pass reads depends on what it computes.
    """
    if text.num_experts:
        return None
    graphs = [ir.load(directory / name).graph for name in ("decoder.onnx", "lm_head.onnx")]
    weights = [value.const_value for graph in graphs for value in graph.initializers.values()]
    return sum(weight.nbytes for weight in weights if weight is not None)


def bytes_of_cache(text: TextConfig, *, tokens: int, itemsize: int) -> int:
    """Keys and values of so many tokens in all layers.

    >>> from qwen3vl_ros.offline.family import RELEASED
    >>> bytes_of_cache(RELEASED["2B"].text, tokens=1, itemsize=4) // 1024  # KiB
    224
    """
    row = 2 * text.num_key_value_heads * text.head_dim * itemsize
    return text.num_hidden_layers * row * tokens


def share_of_floor(*, bytes_read: int, pass_s: float, probe_bytes: int, probe_s: float) -> float:
    """How much of a pass's time a plain read of its bytes would take.

    Args:
        bytes_read: by the pass.
        pass_s: what it took, seconds by the clock or of CPU time.
        probe_bytes: of a plain read.
        probe_s: what that took, by the same measure.

    >>> share_of_floor(bytes_read=8, pass_s=1.0, probe_bytes=20, probe_s=2.0)
    0.8
    """
    return bytes_read / probe_bytes * probe_s / pass_s


class ReadProbe:
    """Reads a block of memory with as many threads as the engine has. Owns the block."""

    def __init__(self, *, threads: int, megabytes: int = READ_MEGABYTES) -> None:
        size = megabytes * MEGABYTE // threads
        # Ones, not zeros: pages nobody wrote to are all the same page.
        self._parts = [np.ones(size, np.uint8) for _ in range(threads)]

    @property
    def nbytes(self) -> int:
        """Read by one call."""
        return sum(part.nbytes for part in self._parts)

    def __call__(self) -> None:
        """Read it once."""
        # The largest byte is found at the speed of memory, and without Python's lock.
        readers = [threading.Thread(target=part.max) for part in self._parts]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
