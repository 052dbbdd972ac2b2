# SPDX-License-Identifier: Apache-2.0
"""Checkpoints on disk compared and spoiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from qwen3vl_ros.offline.reference_model import ReferenceModel

Weights = dict[str, torch.Tensor]


def assert_same_weights(model: ReferenceModel, other: ReferenceModel) -> None:
    weights, others = model.state_dict(), other.state_dict()
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


def rewrite(directory: Path, change: Callable[[Weights], object]) -> None:
    """Change the tensors of a checkpoint on disk."""
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors")
