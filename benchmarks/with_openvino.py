# SPDX-License-Identifier: Apache-2.0
"""OpenVINO GenAI's `VLMPipeline` on a model that optimum-intel exported.

    python -m benchmarks.with_openvino MODEL_DIRECTORY

One request is everything at once, so times are those that the pipeline takes of itself: making
embeddings less those of text (what it calls vision encoding is the patches' alone, the tower's
blocks come later), time to the first token less all embeddings, and time between tokens. A prompt
to decode behind is computed once and found again by the pipeline's own prefix cache.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import openvino
import openvino_genai

from .peer import answer, cores_to_use, picture_size

PIXELS = 32  # of an image token's side
WORD = " a"  # one token
CACHE_GB = 2
BATCH = 8192  # a whole prompt in one pass
MS = 1e-3


class OpenVinoGenAI:
    """A `Peer`."""

    def __init__(self, directory: str) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size, scheduler.max_num_batched_tokens = CACHE_GB, BATCH
        scheduler.enable_prefix_caching = True
        self._settings = {"INFERENCE_NUM_THREADS": cores_to_use()}
        self._pipeline = openvino_genai.VLMPipeline(
            directory, "CPU", scheduler_config=scheduler, **self._settings
        )
        self._random = np.random.default_rng(0)
        # What the chat template adds to a prompt of one word.
        self._around_text = self._ask(WORD, [], new_tokens=1).get_num_input_tokens() - 1
        picture = self._picture(64)
        self._around_picture = (
            self._ask(WORD, [picture], new_tokens=1).get_num_input_tokens() - 64 - 1
        )

    def facts(self) -> Mapping[str, object]:
        packages = ("openvino", "openvino-genai")
        return {
            "versions": {name: version(name) for name in packages},
            "weights": "int4 in groups of 128, symmetric; head and embeddings int8",
            "tower": "int8 weights, as optimum-intel exports it",
            "settings": self._settings,
            "times": "the pipeline's own",
        }

    def encode(self, image_tokens: int) -> float:
        metrics = self._ask(WORD, [self._picture(image_tokens)], new_tokens=1)
        all_of_it = metrics.get_prepare_embeddings_duration().mean
        return float(all_of_it - metrics.get_text_embedding_duration().mean) * MS

    def prefill(self, image_tokens: int, text_tokens: int) -> float:
        words = text_tokens - self._around_picture
        metrics = self._ask(WORD * words, [self._picture(image_tokens)], new_tokens=1)
        tokens = metrics.get_num_input_tokens()
        if tokens != image_tokens + text_tokens:
            raise RuntimeError(f"the prompt has {tokens} tokens of {image_tokens + text_tokens}")
        before = metrics.get_prepare_embeddings_duration().mean
        return float(metrics.get_ttft().mean - before) * MS

    def fill(self, cached_tokens: int) -> None:
        self._ask(WORD * (cached_tokens - self._around_text), [], new_tokens=1)

    def decode(self, cached_tokens: int, passes: int) -> float:
        words = WORD * (cached_tokens - self._around_text)
        metrics = self._ask(words, [], new_tokens=passes + 1)
        return float(metrics.get_tpot().mean) * MS * passes

    def _ask(self, text: str, pictures: list[Any], *, new_tokens: int) -> Any:
        result = self._pipeline.generate(
            text, images=pictures, max_new_tokens=new_tokens, ignore_eos=True, do_sample=False
        )
        return result.perf_metrics

    def _picture(self, image_tokens: int) -> Any:
        """Noise, each time another: equal pictures would be found in the prefix cache."""
        rows, columns = picture_size(image_tokens)
        size = (1, rows * PIXELS, columns * PIXELS, 3)
        return openvino.Tensor(self._random.integers(0, 256, size, dtype=np.uint8))


if __name__ == "__main__":
    answer(OpenVinoGenAI(sys.argv[1]))
