# SPDX-License-Identifier: Apache-2.0
"""transformers on torch, with whole weights: what one has before exporting anything.

python -m benchmarks.with_transformers CHECKPOINT_DIRECTORY float32|bfloat16
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3VLForConditionalGeneration, StaticCache

from .peer import answer, cores_to_use, picture_size

TEXT_TOKEN = 100
ROOM = 8
MERGE = 2
CHUNK = 1024


class Transformers:
    """A `Peer`."""

    def __init__(self, checkpoint: Path, dtype: str) -> None:
        torch.set_num_threads(cores_to_use())
        torch.set_grad_enabled(False)
        model: Any = Qwen3VLForConditionalGeneration.from_pretrained(
            checkpoint, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )
        self._model = model.eval()
        self._dtype = dtype
        self._caches: dict[int, Any] = {}

    def facts(self) -> Mapping[str, object]:
        return {
            "versions": {name: version(name) for name in ("transformers", "torch")},
            "weights": self._dtype,
            "tower": self._dtype,
            "attention": self._model.config._attn_implementation,
            "threads": torch.get_num_threads(),
        }

    def encode(self, image_tokens: int) -> None:
        rows, columns = picture_size(image_tokens)
        vision = self._model.config.vision_config
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.randn(image_tokens * MERGE**2, width, dtype=self._model.dtype)
        grid = torch.tensor([[1, rows * MERGE, columns * MERGE]])
        self._model.model.visual(pixels, grid_thw=grid)

    def prefill(self, image_tokens: int, text_tokens: int) -> None:
        total = image_tokens + text_tokens
        is_visual = torch.zeros(1, total, dtype=torch.bool)
        is_visual[:, text_tokens // 2 :][:, :image_tokens] = True
        hidden = self._model.config.text_config.hidden_size
        taps = len(self._model.config.vision_config.deepstack_visual_indexes)
        deepstack = [
            torch.randn(image_tokens, hidden, dtype=self._model.dtype) for _ in range(taps)
        ]
        self._pass(total, 0, self._cache(total), visual_pos_masks=is_visual, deepstack=deepstack)

    def fill(self, cached_tokens: int) -> None:
        cache = self._cache(cached_tokens)
        for start in range(0, cached_tokens, CHUNK):
            self._pass(min(CHUNK, cached_tokens - start), start, cache)

    def decode(self, cached_tokens: int, passes: int) -> None:
        cache = self._caches[cached_tokens]
        for _ in range(passes):
            self._pass(1, cached_tokens, cache)
            for layer in cache.layers:
                layer.cumulative_length.fill_(cached_tokens)

    def _pass(
        self,
        rows: int,
        start: int,
        cache: Any,
        *,
        visual_pos_masks: torch.Tensor | None = None,
        deepstack: list[torch.Tensor] | None = None,
    ) -> None:
        ids = torch.full((1, rows), TEXT_TOKEN)
        positions = torch.arange(start, start + rows)
        out = self._model.model.language_model(
            inputs_embeds=self._model.get_input_embeddings()(ids),
            position_ids=positions.expand(3, 1, -1),
            past_key_values=cache,
            visual_pos_masks=visual_pos_masks,
            deepstack_visual_embeds=deepstack,
            use_cache=True,
        )
        self._model.lm_head(out.last_hidden_state[:, -1:])

    def _cache(self, tokens: int) -> Any:
        """Room for so many tokens and a few more; empty."""
        cache = self._caches.setdefault(
            tokens, StaticCache(config=self._model.config.text_config, max_cache_len=tokens + ROOM)
        )
        for layer in cache.layers:
            layer.cumulative_length.zero_()
        return cache


if __name__ == "__main__":
    answer(Transformers(Path(sys.argv[1]), sys.argv[2]))
