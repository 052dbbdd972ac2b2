# SPDX-License-Identifier: Apache-2.0
"""Graphs made for TensorRT, run by ONNX Runtime on the CPU, and passes to run them with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from qwen3vl_ros.image.positions import text_rotary, vision_position_taps, vision_rotary
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.runtime.engine import PAST, PRESENT
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

Feeds = dict[str, np.ndarray]
GRID = (1, 4, 6)  # patches of the picture that passes show
VISUAL_TOKENS = 6


class AppendingEngine:
    """A decoder of the plain set: what a pass gives out is put behind the rows of earlier ones."""

    def __init__(self, graph: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(graph, options)
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        self.past = {
            value.name: np.zeros([1, *value.shape[1:]], kinds[value.type])
            for value in self.session.get_inputs()
            if value.name.startswith(PAST)
        }
        self.outputs = [value.name for value in self.session.get_outputs()]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        given = self.session.run(self.outputs, {**feeds, **self.past})
        results = dict(zip(self.outputs, given, strict=True))
        start = int(feeds["cached_tokens"][0])
        for name, buffer in self.past.items():
            rows = results.pop(PRESENT + name.removeprefix(PAST))
            buffer[:, :, start : start + rows.shape[2]] = rows
        return results


def decoder_on_cpu(graph: Path, operators: OperatorSet) -> OnnxRuntimeEngine | AppendingEngine:
    if operators is OperatorSet.PLAIN:
        return AppendingEngine(graph)
    return OnnxRuntimeEngine(graph, lengths={"B": 1}, threads=1)


def picture(config: ModelConfig, *, seed: int = 0) -> Feeds:
    """Inputs of a tower: a picture of noise."""
    grid_thw, merge = np.array([GRID]), config.vision.spatial_merge_size
    indices, weights = vision_position_taps(
        grid_thw, table_side=config.vision.position_grid, merge_size=merge
    )
    cos, sin = vision_rotary(grid_thw, head_dim=config.vision.head_dim, merge_size=merge)
    rng = np.random.default_rng(seed)
    size = (1, int(np.prod(GRID)), config.vision.patch_dim)
    return {
        "pixel_values": rng.uniform(-1, 1, size).astype(np.float32),
        "position_indices": indices,
        "position_weights": weights,
        "rotary_cos": cos,
        "rotary_sin": sin,
    }


def conversation(config: ModelConfig, embed_tokens: np.ndarray, seen: Feeds) -> list[Feeds]:
    """Inputs of a decoder, pass by pass.

    A prompt with a picture; one token; a window of eight; four others in the place of the last
    six of those, which were not kept; and a prompt with no picture from the beginning on.
    """
    rng = np.random.default_rng(1)
    ids = rng.integers(0, config.text.vocab_size, 40)
    rows = np.full(40, -1)
    rows[5 : 5 + VISUAL_TOKENS] = np.arange(VISUAL_TOKENS)
    visual = (seen["image_embeds"][0], seen["deepstack_embeds"][:, 0])
    blank = (np.zeros_like(visual[0][:1]), np.zeros_like(visual[1][:, :1]))
    passes = [(0, 24, [22, 23], visual), (24, 1, [0], blank), (25, 8, [*range(8)], blank)]
    passes += [(27, 4, [0, 1, 2, 3], blank), (0, 12, [11], blank)]
    conversation = []
    for index, (start, count, output_rows, (image_embeds, deepstack_embeds)) in enumerate(passes):
        tokens = ids[index : index + count]
        cos, sin = text_rotary(np.tile(np.arange(start, start + count), (3, 1)), config.text)
        shown = rows[:count] if image_embeds is visual[0] else np.full(count, -1)
        conversation.append(
            {
                "token_embeds": embed_tokens[tokens].astype(np.float32)[None],
                "rope_cos": cos[None],
                "rope_sin": sin[None],
                "visual_rows": shown[None],
                "visual_embeds": image_embeds,
                "deepstack_embeds": deepstack_embeds,
                "cached_tokens": np.array([start], np.int32),
                "output_rows": np.array(output_rows),
            }
        )
    return conversation
