# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL in torch: the model that is trained, exported and compared against.

`reference_vision.py` is the tower, `reference_decoder.py` the decoder, `reference_experts.py` its
mixture-of-experts layers; here they become one model with its head. Knows no files, no tokenizer
and no position rules: what depends on a grid or on the order of a prompt (table taps, rotary
angles) comes in as tensors, computed by `image/positions.py`; `reference_generation.py` brings the
two together.

Modules are named so that `ReferenceModel.state_dict()` has exactly the tensor names and shapes
of a Hugging Face checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model_config import ModelConfig
from .reference_decoder import TextDecoder
from .reference_vision import VisionTower


class TowerAndDecoder(nn.Module):
    """The `model.` level of the checkpoint's tensor names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual = VisionTower(config.vision)
        self.language_model = TextDecoder(config.text)


class ReferenceModel(nn.Module):
    """Qwen3-VL. Weights are uninitialised until loaded or `init_weights` is called."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = TowerAndDecoder(config)
        text = config.text
        if not text.tie_word_embeddings:
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

    @property
    def visual(self) -> VisionTower:
        return self.model.visual

    @property
    def language_model(self) -> TextDecoder:
        return self.model.language_model

    @property
    def head_weight(self) -> Tensor:
        """(vocab_size, D): the embedding table itself when the head is tied."""
        if self.config.text.tie_word_embeddings:
            return self.language_model.embed_tokens.weight
        return self.lm_head.weight

    def logits(self, hidden_states: Tensor) -> Tensor:
        """(..., D) to (..., vocab_size)."""
        return F.linear(hidden_states, self.head_weight)


def init_weights(model: ReferenceModel, *, seed: int, std: float = 0.02) -> None:
    """Fill every weight in place: matrices and tables normal, norms one, biases zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif "norm" in name.rsplit(".", 2)[-2]:
                weight.fill_(1.0)
            else:
                weight.normal_(0.0, std, generator=generator)
