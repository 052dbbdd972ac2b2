# SPDX-License-Identifier: Apache-2.0
"""Real engines of random weights with a head that says what a test wants said.

The fake stands at the `Engine` seam: tower, decoder, cache, tokenizer and readers are real.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qwen3vl_ros.image.preprocess import load_preprocess_config
from qwen3vl_ros.image.video_config import load_video_config
from qwen3vl_ros.language.chat_template import ChatStyle
from qwen3vl_ros.language.tokenizer import Tokenizer, load_tokenizer
from qwen3vl_ros.model.decoder import Decoder
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.model.vision import VisionEncoder
from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.runtime.engine import TensorSpec
from qwen3vl_ros.runtime.loading import load_engines


def fenced(*objects: str) -> str:
    """A list of objects as Qwen3-VL writes it."""
    return "```json\n[\n" + ",\n".join(objects) + "\n]\n```" if objects else "```json\n[]\n```"


class ScriptedHead:
    """An `Engine` whose logits spell the given answers, one after the other."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, answers: list[str]) -> None:
        self._tokens = [
            token
            for answer in answers
            for token in (*tokenizer.encode(answer), tokenizer.eos_token_ids[0])
        ]
        self._vocab_size = vocab_size
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()

    @property
    def is_done(self) -> bool:
        return not self._tokens

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        rows = feeds["hidden_states"].shape[1]
        assert rows == 1, "only the row that is asked for goes through the head"
        logits = np.zeros((1, 1, self._vocab_size), np.float32)
        logits[0, 0, self._tokens.pop(0)] = 12
        return {"logits": logits}


def model_saying(
    directory: Path, *answers: str, style: ChatStyle = ChatStyle.INSTRUCT
) -> tuple[LocalModel, ScriptedHead]:
    """A model on an engine directory that will answer with the given texts."""
    engines = load_engines(directory, threads=1)
    config, tokenizer = load_model_config(directory), load_tokenizer(directory)
    head = ScriptedHead(tokenizer, config.text.vocab_size, list(answers))
    decoder = Decoder(
        engines.decoder,
        head,
        engines.embed_tokens,
        config,
        cache_length=engines.manifest.cache_length,
        stop_token_ids=tokenizer.eos_token_ids,
    )
    model = LocalModel(
        VisionEncoder(
            engines.vision, config.vision, max_visual_tokens=engines.manifest.max_visual_tokens
        ),
        decoder,
        tokenizer,
        config,
        load_preprocess_config(directory),
        load_video_config(directory),
        style=style,
    )
    return model, head
