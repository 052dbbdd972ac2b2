# SPDX-License-Identifier: Apache-2.0
"""How much memory an engine needs to run on the CPU, from its manifest and config: an estimate.

Knows sizes, loads nothing. Weights are their files' bytes, a tied head that has none of its own
those of the embedding table; ONNX Runtime's CPU widens 16-bit ones to float32 while it loads. What
a pass needs is counted for the largest picture and a prompt as long as the cache: the widest
layer's rows, not each operator's (docs/LOG.md has both beside what was measured).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EngineError
from ..model_config import ModelConfig
from .free_memory import free_memory_bytes
from .manifest import EMBEDDING_FILE, Manifest
from .precision_name import precision_name

_FLOAT_BYTES = 4
_WIDENED = ("float16", "bfloat16")
_WHOLE = ("float32", *_WIDENED)  # not in blocks: a tied head is the table
# Of the process: libraries, tokenizer, the runtime's own.
_PROCESS_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryNeed:
    """In bytes.

    Attributes:
        weights: of all graphs.
        cache: of keys and values.
        passes: while one is computed.
    """

    weights: int
    cache: int
    passes: int

    @property
    def total(self) -> int:
        """All together, and what any process of ours takes."""
        return self.weights + self.cache + self.passes + _PROCESS_BYTES

    def __str__(self) -> str:
        return (
            f"about {self.total / 1e9:.2f} GB (weights {self.weights / 1e9:.2f}, cache "
            f"{self.cache / 1e9:.2f}, passes {self.passes / 1e9:.2f})"
        )


def memory_needed(manifest: Manifest, config: ModelConfig) -> MemoryNeed:
    """To load an engine and run it on the CPU.

    Args:
        manifest: of the engine.
        config: of the engine.
    """
    name = precision_name(manifest.precision)
    base = name.weights
    wide_tower = name.tower == "tower16" or manifest.vision_precision in _WIDENED
    weights = 0
    for file, entry in manifest.files.items():
        if file.endswith((".onnx", ".onnx.data", ".plan")):
            is_wide = wide_tower if file.startswith("vision") else base in _WIDENED
        elif file == EMBEDDING_FILE and config.text.tie_word_embeddings and base in _WHOLE:
            is_wide = base in _WIDENED
        else:
            continue
        weights += entry.size_bytes * (2 if is_wide else 1)
    return MemoryNeed(
        weights=weights,
        cache=_cache_bytes(manifest, config, name.cache_dtype.itemsize),
        passes=max(_tower_bytes(manifest, config), _decoder_bytes(manifest, config)),
    )


def check_memory(total: int, shown: str, *, of: str, advice: str) -> None:
    """Raise unless so many bytes are free.

    Args:
        total: bytes needed.
        shown: the same in words.
        of: what needs them, the subject of the message.
        advice: what else to do than to close other programs.

    Raises:
        EngineError: they are not, with the numbers.
    """
    free = free_memory_bytes()
    if free is not None and total > free:
        raise EngineError(
            f"{of} needs {shown} of memory and {free / 1e9:.2f} GB are free; close other "
            f"programs, raise the container's limit if it has one, or {advice}"
        )


def _cache_bytes(manifest: Manifest, config: ModelConfig, number_bytes: int) -> int:
    text = config.text
    row = 2 * text.num_key_value_heads * text.head_dim * number_bytes
    return text.num_hidden_layers * manifest.cache_length * row


def _tower_bytes(manifest: Manifest, config: ModelConfig) -> int:
    vision = config.vision
    patches = manifest.max_visual_tokens * vision.spatial_merge_size**2
    numbers = vision.patch_dim + 8 * vision.hidden_size + 2 * vision.intermediate_size
    return patches * numbers * _FLOAT_BYTES


def _decoder_bytes(manifest: Manifest, config: ModelConfig) -> int:
    text = config.text
    rows = manifest.cache_length
    heads = (text.num_attention_heads + 2 * text.num_key_value_heads) * text.head_dim
    width = max(text.intermediate_size, text.moe_intermediate_size * text.num_experts_per_tok)
    # Hidden states and what is added to them, heads, the widest layer; and a row of logits.
    numbers = rows * (8 * text.hidden_size + heads + 3 * width) + text.vocab_size
    return numbers * _FLOAT_BYTES
