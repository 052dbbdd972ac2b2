# SPDX-License-Identifier: Apache-2.0
"""How much memory an export takes at its peak: an estimate, to be held against what is free.

Knows which parts of a checkpoint are ever whole in memory: never the model, a layer for the golden
outputs, and one layer's experts, which are turned while they are written.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..model_config import ModelConfig, load_model_config
from ..runtime.free_memory import free_memory_bytes
from .reference_decoder import DecoderLayer
from .streamed_reference import KEPT_BYTES

# torch, the exporter and the pieces that weights are read in: measured with the tiny checkpoint.
_WORKSHOP_BYTES = 750_000_000
_FLOAT_BYTES = 4
# What weights that came and went leave behind in the heap: with it, 2B is what was measured.
_HEAP_BYTES = 400_000_000


def export_memory_bytes(config: ModelConfig, *, golden: bool) -> int:
    """Of one export of a checkpoint, whatever its precision.

    Args:
        config: the checkpoint's.
        golden: whether the reference is asked for its outputs.
    """
    text = config.text
    with torch.device("meta"):
        layers = [DecoderLayer(text, layer) for layer in range(text.num_hidden_layers)]
    sizes = [_FLOAT_BYTES * sum(p.numel() for p in layer.parameters()) for layer in layers]
    experts = 2 * text.num_experts * text.moe_intermediate_size * text.hidden_size
    # Read and copied; and what stays from pass to pass.
    stays = min(KEPT_BYTES, sum(sizes)) + min(_HEAP_BYTES, sum(sizes))
    asking = 2 * max(sizes) + stays if golden else 0
    return _WORKSHOP_BYTES + max(asking, 2 * _FLOAT_BYTES * experts)


def memory_line(checkpoint_dir: Path, *, golden: bool) -> str:
    """For a person, before an export: what it needs, and what there is.

    Raises:
        ConfigError: the checkpoint's config cannot be read.
    """
    needed = export_memory_bytes(load_model_config(checkpoint_dir), golden=golden)
    free = free_memory_bytes()
    there = "nobody knows how much is" if free is None else f"{free / 1e9:.2f} GB are"
    return f"memory: about {needed / 1e9:.2f} GB needed, {there} free"
