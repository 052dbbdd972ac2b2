# SPDX-License-Identifier: Apache-2.0
"""Patches go through the tower and come back as rows for the decoder.

Knows the vision graph's contract; everything that depends on the grid is computed here, on the
host, and remembered for the next picture of the same camera.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..image.positions import vision_position_taps, vision_rotary
from ..image.preprocess import Patches
from ..model_config import VisionConfig
from ..runtime.engine import Engine


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualEmbeds:
    """A picture or a video as the decoder sees it.

    Attributes:
        image_embeds: (V, D) float32, one row for each visual token.
        deepstack_embeds: (3, V, D) float32, added at those rows after decoder layers 0, 1, 2.
        grid_thw: (1, 3) int64, patches; V is their product over merge size squared.
    """

    image_embeds: npt.NDArray[np.float32]
    deepstack_embeds: npt.NDArray[np.float32]
    grid_thw: npt.NDArray[np.int64]


class VisionEncoder:
    """The vision engine, fed."""

    def __init__(self, engine: Engine, config: VisionConfig, *, max_visual_tokens: int) -> None:
        self._engine = engine
        self._config = config
        self._max_visual_tokens = max_visual_tokens

    @property
    def max_visual_tokens(self) -> int:
        """Of one picture, or of one temporal patch of a video."""
        return self._max_visual_tokens

    def encode(self, patches: Patches) -> VisualEmbeds:
        """One picture, or a video, whose temporal patches go through the tower one by one.

        Attention is within a temporal patch (transformers' cu_seqlens), so nothing is lost, and
        the tower needs memory for one of them only.

        Raises:
            EngineError: a picture has more tokens than the engine was built for.
        """
        t, h, w = (int(length) for length in patches.grid_thw[0])
        tokens = h * w // self._config.spatial_merge_size**2
        if tokens > self._max_visual_tokens:
            raise EngineError(
                f"the picture takes {tokens} image tokens, expected at most "
                f"{self._max_visual_tokens}; crop or scale the picture, or lower "
                "size.longest_edge in the checkpoint's preprocessor_config.json and export again",
                field="max_visual_tokens",
            )
        indices, weights, cos, sin = _positions((1, h, w), self._config)
        outputs = [
            self._engine.run(
                {
                    "pixel_values": pixel_values[None],
                    "position_indices": indices,
                    "position_weights": weights,
                    "rotary_cos": cos,
                    "rotary_sin": sin,
                }
            )
            for pixel_values in np.split(patches.pixel_values, t)
        ]
        return VisualEmbeds(
            image_embeds=np.concatenate([one["image_embeds"][0] for one in outputs]),
            deepstack_embeds=np.concatenate(
                [one["deepstack_embeds"][:, 0] for one in outputs], axis=1
            ),
            grid_thw=patches.grid_thw,
        )


@functools.lru_cache(maxsize=8)
def _positions(
    grid: tuple[int, int, int], config: VisionConfig
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
]:
    grid_thw, merge = np.array([grid], np.int64), config.spatial_merge_size
    indices, weights = vision_position_taps(
        grid_thw, table_side=config.position_grid, merge_size=merge
    )
    cos, sin = vision_rotary(grid_thw, head_dim=config.head_dim, merge_size=merge)
    return indices, weights, cos, sin
