# SPDX-License-Identifier: Apache-2.0
"""The reference asked layer by layer says to the bit what it says when it is loaded whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.checkpoint import checked_files, load_checkpoint, write_checkpoint
from qwen3vl_ros.offline.reference_generation import encode_pictures, prompt_hidden_states
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.streamed_reference import StreamedReference

GRIDS = np.array([[1, 4, 6], [1, 2, 4]])


@pytest.fixture
def checkpoint(
    tmp_path: Path, random_model: Callable[..., ReferenceModel]
) -> Callable[..., tuple[Path, ReferenceModel]]:
    """A checkpoint of a shape on disk, and the same loaded whole."""

    def write(config: ModelConfig, dtype: torch.dtype) -> tuple[Path, ReferenceModel]:
        write_checkpoint(random_model(config), tmp_path, dtype=dtype)
        return tmp_path, load_checkpoint(tmp_path).eval()

    return write


def question(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and patches: words, a picture of six tokens, words, one of two, words."""
    random = np.random.default_rng(0)
    picture = config.image_token_id
    ids = [*random.integers(0, 50, 5), *[picture] * 6, *random.integers(0, 50, 4)]
    ids += [*[picture] * 2, *random.integers(0, 50, 3)]
    pixels = random.uniform(-1, 1, (32, config.vision.patch_dim)).astype(np.float32)
    return np.array(ids, np.int64), pixels


@pytest.mark.parametrize("shape", ["small_config", "small_experts_config"])
@pytest.mark.parametrize(
    "kept_bytes",
    [pytest.param(0, id="nothing stays"), pytest.param(1 << 30, id="everything stays")],
)
def test_streamed_and_whole_say_the_same(request, checkpoint, shape, kept_bytes):
    config = request.getfixturevalue(shape)
    directory, whole = checkpoint(config, torch.bfloat16)
    weights = StoredWeights(files=checked_files(directory, config))
    streamed = StreamedReference(weights, config, kept_bytes=kept_bytes)
    ids, pixels = question(config)
    with torch.no_grad():
        visual = encode_pictures(whole, torch.from_numpy(pixels), GRIDS)
        longer = np.concatenate([ids, [3, 1]])
        truth = whole.logits(prompt_hidden_states(whole, longer, pixels, GRIDS)[0, -3:]).numpy()
    for _ in range(2):  # a second conversation knows nothing of the first
        seen = streamed.encode(pixels, GRIDS)
        torch.testing.assert_close(seen.image_embeds, visual.image_embeds)
        torch.testing.assert_close(seen.deepstack_embeds, visual.deepstack_embeds)
        logits = [streamed.prefill(ids, seen, GRIDS, capacity=len(ids) + 2)]
        logits += list(streamed.decode(np.array([3, 9]), after=len(ids)))[:1]
        logits += list(streamed.decode(np.array([1]), after=len(ids) + 1))  # 9 was forgotten
        np.testing.assert_allclose(np.stack(logits), truth, rtol=1e-4, atol=1e-4)


def weights_in_memory(streamed: StreamedReference) -> set[str]:
    """Of layers; what is gathered from directly stays in any case."""
    parameters = streamed._model.named_parameters()
    return {name for name, p in parameters if not p.is_meta and "pos_embed" not in name}


def test_a_layer_is_in_memory_while_it_works_and_no_longer(checkpoint, small_config, monkeypatch):
    directory, _ = checkpoint(small_config, torch.bfloat16)
    weights = StoredWeights(files=checked_files(directory, small_config))
    streamed = StreamedReference(weights, small_config, kept_bytes=0)
    loaded: list[int] = []
    load = StreamedReference._load

    def count(self: StreamedReference, *args: Any) -> None:
        load(self, *args)
        layers = {name.rsplit(".layers.")[-1].split(".")[0] for name in weights_in_memory(self)}
        loaded.append(len(layers))

    monkeypatch.setattr(StreamedReference, "_load", count)
    ids, pixels = question(small_config)
    assert weights_in_memory(streamed) == set()
    seen = streamed.encode(pixels, GRIDS)
    streamed.prefill(ids, seen, GRIDS, capacity=len(ids))
    assert max(loaded) == 1
    assert weights_in_memory(streamed) == set()


def test_what_stays_is_bounded(checkpoint, small_config):
    directory, whole = checkpoint(small_config, torch.bfloat16)
    weights = StoredWeights(files=checked_files(directory, small_config))
    block = sum(4 * p.numel() for p in whole.visual.blocks[0].parameters())
    streamed = StreamedReference(weights, small_config, kept_bytes=2 * block)
    _, pixels = question(small_config)
    streamed.encode(pixels, GRIDS)
    kept = sum(
        4 * p.numel()
        for name, p in streamed._model.named_parameters()
        if name in weights_in_memory(streamed)
    )
    assert 0 < kept <= 2 * block
