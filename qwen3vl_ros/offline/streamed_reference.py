# SPDX-License-Identifier: Apache-2.0
"""The reference model with weights that come for one layer's work and go: memory holds one layer.

Knows stored weights and the reference's modules, whose own forward passes run unchanged. Exact:
float32 throughout, whatever the checkpoint is in. Slow, as every pass reads every layer again but
for the first ones, which stay: all of them in a small model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..image.positions import text_positions, text_rotary
from ..model_config import ModelConfig
from .checkpoint import EMBEDDING, HEAD
from .reference_decoder import KVCache
from .reference_generation import VisualFeatures, encode_pictures, visual_rows
from .reference_model import ReferenceModel
from .stored_weights import StoredWeights

KEPT_BYTES = 512 * 1024**2


class StreamedReference:
    """A checkpoint, asked without being loaded.

    Owns the layers that stay and one conversation's cache (both mutable).
    """

    def __init__(
        self, weights: StoredWeights, config: ModelConfig, *, kept_bytes: int = KEPT_BYTES
    ) -> None:
        """Reads nothing yet.

        Args:
            weights: the checkpoint's, checked.
            config: the checkpoint's.
            kept_bytes: of float32 weights that stay from pass to pass.
        """
        self._weights, self._config = weights, config
        self._room = kept_bytes
        self._kept: set[str] = set()
        with torch.device("meta"):
            self._model = ReferenceModel(config).eval()
        tower, decoder = self._model.visual, self._model.language_model
        layers = {
            "model.visual.patch_embed": tower.patch_embed,
            "model.visual.merger": tower.merger,
            "model.language_model.norm": decoder.norm,
        }
        for prefix, modules in (
            ("model.visual.blocks", tower.blocks),
            ("model.visual.deepstack_merger_list", tower.deepstack_merger_list),
            ("model.language_model.layers", decoder.layers),
        ):
            layers |= {f"{prefix}.{index}": module for index, module in enumerate(modules)}
        for prefix, module in layers.items():
            self._bring_weights(module, prefix)
        # The one weight that is read past its module: the tower gathers rows of the table itself.
        self._load(tower.pos_embed, "model.visual.pos_embed")
        self._cache: KVCache | None = None
        self._rope_delta = 0

    @torch.no_grad()
    def encode(
        self, pixel_values: npt.NDArray[np.float32], grid_thw: npt.NDArray[np.int64]
    ) -> VisualFeatures:
        """Pictures through the tower; arguments as `encode_pictures`."""
        return encode_pictures(self._model, torch.from_numpy(pixel_values), grid_thw)

    @torch.no_grad()
    def prefill(
        self,
        input_ids: npt.NDArray[np.int64],
        visual: VisualFeatures,
        grid_thw: npt.NDArray[np.int64],
        *,
        capacity: int,
    ) -> npt.NDArray[np.float32]:
        """A prompt with pictures, (T,) int64; (vocab_size,) logits after it.

        Args:
            input_ids: of a new conversation.
            visual: of `encode`.
            grid_thw: (G, 3) int64, of the pictures.
            capacity: tokens of prompt and answer that there shall be room for.
        """
        position_ids, self._rope_delta = text_positions(input_ids, grid_thw, self._config)
        like = torch.empty(0, dtype=torch.float32)
        self._cache = KVCache(self._config.text, batch=1, capacity=capacity, like=like)
        rows = visual_rows(torch.from_numpy(input_ids)[None], self._config)
        hidden = self._pass(
            input_ids, position_ids, rows, visual.image_embeds, visual.deepstack_embeds
        )
        logits: npt.NDArray[np.float32] = self._logits(hidden[-1:])[0]
        return logits

    @torch.no_grad()
    def decode(self, token_ids: npt.NDArray[np.int64], *, after: int) -> npt.NDArray[np.float32]:
        """Tokens, (T,) int64, after the first ones so far; (T, vocab_size) logits after each.

        Args:
            token_ids: several cost little more than one: every pass reads all weights.
            after: of the conversation, how many tokens come before; the rest is forgotten.
        """
        assert self._cache is not None, "there is no conversation yet"
        assert after <= self._cache.length
        self._cache.length = after
        positions = np.arange(after, after + len(token_ids), dtype=np.int64) + self._rope_delta
        return self._logits(self._pass(token_ids, np.tile(positions, (3, 1))))

    def _pass(
        self,
        token_ids: npt.NDArray[np.int64],
        position_ids: npt.NDArray[np.int64],
        *visual: Tensor,
    ) -> Tensor:
        """(T, D) hidden states."""
        cos, sin = (
            torch.from_numpy(x)[None] for x in text_rotary(position_ids, self._config.text)
        )
        embeds = self._rows_of_table(token_ids)[None]
        decoder = self._model.language_model
        hidden: Tensor = decoder(embeds, cos, sin, *visual, cache=self._cache)[0]
        return hidden

    def _logits(self, hidden: Tensor) -> npt.NDArray[np.float32]:
        """(T, D) to (T, vocab_size), some of the head's rows after the other."""
        name = EMBEDDING if self._config.text.tie_word_embeddings else HEAD
        pieces = (hidden @ torch.from_numpy(piece).T for piece in self._weights.pieces(name))
        logits: npt.NDArray[np.float32] = torch.cat(list(pieces), dim=1).numpy()
        return logits

    def _rows_of_table(self, token_ids: npt.NDArray[np.int64]) -> Tensor:
        """(T,) int64 to (T, D) float32."""
        with safe_open(self._weights.files[EMBEDDING], framework="pt") as file:
            table = file.get_slice(EMBEDDING)
            distinct = {int(token): table[int(token)].float() for token in set(token_ids.tolist())}
        return torch.stack([distinct[int(token)] for token in token_ids])

    def _bring_weights(self, module: nn.Module, prefix: str) -> None:
        def load(*_: Any) -> None:
            if prefix not in self._kept:
                self._load(module, prefix)

        def forget(*_: Any) -> None:
            if prefix in self._kept:
                return
            size = sum(4 * parameter.numel() for parameter in module.parameters())
            if size <= self._room:
                self._room -= size
                self._kept.add(prefix)
            else:
                module.to("meta")

        module.register_forward_pre_hook(load)
        module.register_forward_hook(forget)

    def _load(self, module: nn.Module, prefix: str) -> None:
        shapes = {f"{prefix}.{name}": p.shape for name, p in module.named_parameters()}
        tensors: dict[str, Tensor] = {}
        for file in {self._weights.files[name] for name in shapes}:
            # Opened anew each time: what was read of a mapped file counts as ours until it closes.
            with safe_open(file, framework="pt") as stored:
                for name in (name for name in shapes if self._weights.files[name] == file):
                    tensor = stored.get_tensor(name).to(torch.float32, copy=True)
                    fits = tensor.shape == shapes[name]  # else experts, the other way round
                    tensors[name.removeprefix(f"{prefix}.")] = tensor if fits else tensor.mT
        module.load_state_dict(tensors, assign=True)
