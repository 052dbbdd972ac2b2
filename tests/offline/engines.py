# SPDX-License-Identifier: Apache-2.0
"""Engines asked and looked into: their logits beside the reference's, graphs, rounding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch

from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.decoder import Decoder
from qwen3vl_ros.model.vision import VisionEncoder
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline.quantization import blocks_from_float, float_from_blocks
from qwen3vl_ros.offline.reference_generation import prompt_hidden_states
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import sha256_of_file


def engine_logits(directory: Path, question: tuple[np.ndarray, Patches]) -> np.ndarray:
    """(vocab_size,) after the question, then after each of three more tokens."""
    engines = load_engines(directory, threads=1)
    config = load_model_config(directory)
    encoder = VisionEncoder(
        engines.vision, config.vision, max_visual_tokens=engines.manifest.max_visual_tokens
    )
    decoder = Decoder(
        engines.decoder,
        engines.lm_head,
        engines.embed_tokens,
        config,
        cache_length=engines.manifest.cache_length,
        stop_token_ids=(),
    )
    input_ids, patches = question
    first = decoder.prefill(input_ids, (encoder.encode(patches),))
    return np.stack([first, *decoder.decode(np.array([3, 1, 4]))])


def reference_logits(
    model: ReferenceModel, question: tuple[np.ndarray, Patches], head: torch.Tensor
) -> np.ndarray:
    """What `engine_logits` gives, from one pass of torch."""
    input_ids, patches = question
    longer = np.concatenate([input_ids, [3, 1, 4]])
    with torch.no_grad():
        hidden = prompt_hidden_states(model, longer, patches.pixel_values, patches.grid_thw)
        return (hidden[0, -4:] @ head.T).numpy()


def relative_error(got: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


def rounded(weight: torch.Tensor, *, bits: int = 4, block_size: int = 32) -> torch.Tensor:
    """The numbers that a weight (out, in) is in few bits."""
    blocks = blocks_from_float(weight.detach().numpy(), bits=bits, block_size=block_size)
    return torch.from_numpy(float_from_blocks(blocks))


def four_bits(weight: torch.Tensor) -> torch.Tensor:
    return rounded(weight)


def with_accuracy_level(directory: Path, level: int) -> None:
    """Change how four-bit products round their activations, and the hashes with it."""
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in ("decoder.onnx", "lm_head.onnx"):
        graph = onnx.load(directory / name, load_external_data=False)
        changed = 0
        for node in graph.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = level
                    changed += 1
        assert changed
        onnx.save(graph, directory / name)
        manifest["files"][name] = {
            "sha256": sha256_of_file(directory / name),
            "size_bytes": (directory / name).stat().st_size,
        }
    (directory / "manifest.json").write_text(json.dumps(manifest))


def graph_of(path: Path) -> onnx.GraphProto:
    return onnx.load(path, load_external_data=False).graph
