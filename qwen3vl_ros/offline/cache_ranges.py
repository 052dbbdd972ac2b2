# SPDX-License-Identifier: Apache-2.0
"""How large keys and values become, channel by channel: what scales a cache in int8 has.

Knows arrays, no graph. Stands in for `KVCache` where the reference is walked (`calibration.py`):
it is shown every layer's keys (normalised and rotated) and values, and keeps nothing else of them.

Each channel of each head has a scale of its own: some channels of keys are many times larger than
the rest. Keys have a bound that the weights tell (the norm's weight, times the root of the head's
width), but what they come to is a fraction of it, and values have no bound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..model_config import TextConfig

LARGEST_CODE = 127
# Room beyond the largest that the scenes showed, before codes are cut off: other pictures bring
# about larger ones, and to cut one off costs more than coarser steps do (docs/LOG.md).
MARGIN = 1.5

Float32 = npt.NDArray[np.float32]


class CacheRanges:
    """The largest magnitudes so far. Mutable; owned by one export."""

    def __init__(self, text: TextConfig) -> None:
        shape = (text.num_hidden_layers, text.num_key_value_heads, text.head_dim)
        self._keys, self._values = torch.zeros(shape), torch.zeros(shape)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See `KVCache`; (B, kv_heads, T, head_dim) each, given back as they are."""
        for largest, seen in ((self._keys, k), (self._values, v)):
            largest[layer] = torch.maximum(largest[layer], seen.abs().amax(dim=(0, 2)))
        return k, v

    def scales(self, layer: int) -> tuple[Float32, Float32]:
        """Of keys and of values, (1, kv_heads, 1, head_dim) each: what the code 1 stands for.

        Raises:
            CheckpointError: some were no numbers.
        """
        keys, values = (x[layer].numpy() for x in (self._keys, self._values))
        if not (np.isfinite(keys).all() and np.isfinite(values).all()):
            raise CheckpointError(
                f"keys and values of layer {layer} hold what is no number, expected a checkpoint "
                "that can be run; export without --cache int8"
            )
        return scales_from_largest(keys), scales_from_largest(values)


def scales_from_largest(largest: Float32) -> Float32:
    """(kv_heads, head_dim) largest magnitudes to scales, (1, kv_heads, 1, head_dim).

    A channel that was never anything but 0 gets the tensor's largest scale.

    >>> scales = scales_from_largest(np.array([[2.0, 0.0, 4.0]], np.float32)).ravel()
    >>> [round(float(scale) * LARGEST_CODE / MARGIN, 3) for scale in scales]
    [2.0, 4.0, 4.0]
    """
    usual = largest.max() or np.float32(LARGEST_CODE)
    filled = np.where(largest == 0, usual, largest)
    scales: Float32 = (MARGIN / LARGEST_CODE * filled).astype(np.float32)[None, :, None, :]
    return scales
