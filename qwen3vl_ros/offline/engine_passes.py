# SPDX-License-Identifier: Apache-2.0
"""The passes of an engine with made-up inputs of any size, to be timed.

Knows the graph contracts. Numbers are random: what an engine computes of them nobody looks at, and
how long it takes depends on sizes only. So the cache need not be filled before a pass is measured
behind many tokens; it is counted as full.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..image.positions import text_positions, text_rotary
from ..image.preprocess import Patches
from ..model.decoder import DEEPSTACK_LAYERS
from ..model.vision import VisionEncoder, VisualEmbeds
from ..model_config import ModelConfig
from ..runtime.engine import Engine
from ..runtime.loading import Engines

TEXT_TOKEN = 100  # any that is no picture's


class EnginePasses:
    """Encode, prefill, append; one thread."""

    def __init__(self, engines: Engines, config: ModelConfig) -> None:
        self._engines = engines
        self._config = config
        self._encoder = VisionEncoder(
            engines.vision, config.vision, max_visual_tokens=engines.manifest.max_visual_tokens
        )
        self._random = np.random.default_rng(0)

    def encode(self, *, image_tokens: int) -> VisualEmbeds:
        """A picture of so many tokens through the tower."""
        vision = self._config.vision
        grid_thw = np.array([[1, *self._grid(image_tokens)]], np.int64)
        patches = image_tokens * vision.spatial_merge_size**2
        return self._encoder.encode(
            Patches(pixel_values=self._normal(patches, vision.patch_dim), grid_thw=grid_thw)
        )

    def prefill(self, *, image_tokens: int, text_tokens: int) -> None:
        """A prompt of one picture, already encoded, and some words; logits after its last token.

        Where there is no picture, `image_tokens` is 0.
        """
        text, grids = self._config.text, np.zeros((0, 3), np.int64)
        input_ids = np.full(image_tokens + text_tokens, TEXT_TOKEN, np.int64)
        if image_tokens:
            grids = np.array([[1, *self._grid(image_tokens)]], np.int64)
            input_ids[text_tokens // 2 :][:image_tokens] = self._config.image_token_id
        position_ids, _ = text_positions(input_ids, grids, self._config)
        is_visual = input_ids == self._config.image_token_id
        self._pass(
            self._engines.decoder,
            input_ids,
            position_ids,
            visual_rows=np.where(is_visual, np.cumsum(is_visual) - 1, -1),
            visuals=self._normal(1 + DEEPSTACK_LAYERS, max(image_tokens, 1), text.hidden_size),
            cached_tokens=0,
            output_rows=np.array([len(input_ids) - 1], np.int64),
        )

    def append(self, *, rows: int, cached_tokens: int, decoder: Engine | None = None) -> None:
        """So many new tokens behind those in the cache, in one pass; logits after each.

        Args:
            rows: 1 is the pass of plain decoding.
            cached_tokens: that every row attends to.
            decoder: in place of the engine's own: over a cache of another length.
        """
        positions = np.arange(cached_tokens, cached_tokens + rows, dtype=np.int64)
        self._pass(
            decoder or self._engines.decoder,
            np.full(rows, TEXT_TOKEN, np.int64),
            np.tile(positions, (3, 1)),
            visual_rows=np.full(rows, -1, np.int64),
            visuals=np.zeros((1 + DEEPSTACK_LAYERS, 1, self._config.text.hidden_size), np.float32),
            cached_tokens=cached_tokens,
            output_rows=np.arange(rows, dtype=np.int64),
        )

    def _pass(
        self,
        decoder: Engine,
        token_ids: npt.NDArray[np.int64],
        position_ids: npt.NDArray[np.int64],
        *,
        visual_rows: npt.NDArray[np.int64],
        visuals: npt.NDArray[np.float32],
        cached_tokens: int,
        output_rows: npt.NDArray[np.int64],
    ) -> None:
        cos, sin = text_rotary(position_ids, self._config.text)
        hidden = decoder.run(
            {
                "token_embeds": self._engines.embed_tokens[token_ids].astype(np.float32)[None],
                "rope_cos": cos[None],
                "rope_sin": sin[None],
                "visual_rows": visual_rows[None],
                "visual_embeds": visuals[0],
                "deepstack_embeds": visuals[1:],
                "cached_tokens": np.array([cached_tokens], np.int32),
                "output_rows": output_rows,
            }
        )["hidden_states"]
        self._engines.lm_head.run({"hidden_states": hidden})

    def _grid(self, image_tokens: int) -> tuple[int, int]:
        """Patch rows and columns of the picture nearest to a square."""
        rows = next(n for n in range(math.isqrt(image_tokens), 0, -1) if image_tokens % n == 0)
        merge = self._config.vision.spatial_merge_size
        return rows * merge, image_tokens // rows * merge

    def _normal(self, *shape: int) -> npt.NDArray[np.float32]:
        return self._random.standard_normal(shape, np.float32)
