# SPDX-License-Identifier: Apache-2.0
"""How much memory an export takes at its peak: an estimate, to be held against what is free.

Knows which parts of a checkpoint are ever whole in memory: never the model, a layer for the golden
outputs, one layer's experts, which are turned while they are written, and for calibration the
tower, a layer, and squares as wide as its widest linear.
"""

from __future__ import annotations

import torch

from ..model_config import ModelConfig
from ..runtime.engine_memory import check_memory
from .calibration import SCENES, SCENES_FOR_CACHE, TOWER_BYTES
from .reference_decoder import DecoderLayer
from .reference_vision import VisionTower
from .streamed_reference import KEPT_BYTES

# torch, the exporter and the pieces that weights are read in: measured with the tiny checkpoint.
_WORKSHOP_BYTES = 750_000_000
_FLOAT_BYTES = 4
# What weights that came and went leave behind in the heap: with it, 2B is what was measured.
_HEAP_BYTES = 400_000_000
# Of calibration: rows of all conversations together, about 120 of about 400 tokens; and the copies
# of the widest square that are there at once, three of them in float64 (`compensation`).
_CALIBRATION_ROWS = 48_000
_BYTES_OF_A_SQUARE = 4 + 3 * 8


def export_memory_bytes(
    config: ModelConfig, *, golden: bool, calibrated: bool = False, int8_cache: bool = False
) -> int:
    """Of one export of a checkpoint, whatever its precision.

    Args:
        config: the checkpoint's.
        golden: whether the reference is asked for its outputs.
        calibrated: whether weights are rounded for what rendered scenes bring about.
        int8_cache: whether keys and values are watched, to round them.
    """
    text = config.text
    with torch.device("meta"):
        layers = [DecoderLayer(text, layer) for layer in range(text.num_hidden_layers)]
    sizes = [_FLOAT_BYTES * sum(p.numel() for p in layer.parameters()) for layer in layers]
    experts = 2 * text.num_experts * text.moe_intermediate_size * text.hidden_size
    # Read and copied; and what stays from pass to pass.
    stays = min(KEPT_BYTES, sum(sizes)) + min(_HEAP_BYTES, sum(sizes))
    asking = 2 * max(sizes) + stays if golden else 0
    calibrating = 0
    if calibrated or int8_cache:
        calibrating = _calibration_bytes(config, layer=max(sizes), rounding=calibrated)
    return _WORKSHOP_BYTES + max(asking, calibrating, 2 * _FLOAT_BYTES * experts)


def check_export_memory(
    config: ModelConfig, *, golden: bool, calibrated: bool, int8_cache: bool = False
) -> None:
    """Raise unless so much is free; arguments as `export_memory_bytes`.

    Raises:
        EngineError: it is not, with the numbers.
    """
    needed = export_memory_bytes(
        config, golden=golden, calibrated=calibrated, int8_cache=int8_cache
    )
    check_memory(
        needed,
        f"about {needed / 1e9:.2f} GB",
        of="the export",
        advice="leave the golden outputs out (--no-golden)" if golden else "export elsewhere",
    )


def _calibration_bytes(config: ModelConfig, *, layer: int, rounding: bool) -> int:
    """All conversations' hidden states, beside the tower first and then beside a layer's work.

    `rounding`: of weights; a cache's ranges need the layer alone, and fewer scenes.
    """
    text = config.text
    with torch.device("meta"):
        tower = sum(p.numel() for p in VisionTower(config.vision).parameters())
    widths = (
        text.hidden_size,
        text.num_attention_heads * text.head_dim,
        text.hidden_size,
        0 if text.num_experts else text.intermediate_size,
    )
    moments = _FLOAT_BYTES * sum(width**2 for width in widths)
    squares = moments + _BYTES_OF_A_SQUARE * max(widths) ** 2 if rounding else 0
    rows = _FLOAT_BYTES * _CALIBRATION_ROWS * text.hidden_size
    if not rounding:
        rows = rows * SCENES_FOR_CACHE // SCENES
    return rows + max(min(TOWER_BYTES, _FLOAT_BYTES * tower), 2 * layer + squares)
