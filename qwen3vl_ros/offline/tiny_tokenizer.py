# SPDX-License-Identifier: Apache-2.0
"""Cut Qwen's tokenizer down to a small one that segments the given texts exactly alike.

Workshop only: needs PyPI `dashscope` for the 151,643 byte-pair ranks of the real tokenizer. Knows
no model; writes the tokenizer's half of a checkpoint directory, loadable by transformers.

Why the cut is exact. Byte-pair encoding repeats one step on each word: of all neighbouring pieces
that form a token together, join those of lowest rank. We run it on every word of the texts with
the full ranks and keep the joins that were made, in their order. With fewer joins to choose from,
the step still finds the one it found before (it is kept, and it was the lowest), so by induction
every word comes out the same; and both halves of a kept join are bytes or come from kept joins.
Other texts come out too, in more and smaller pieces: all 256 bytes are kept.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from ..errors import MissingDependency
from .tiny_vocabulary import TEXTS_ALWAYS_KEPT

# Qwen's, word for word: a digit is a word of its own, spaces belong to the word after them.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# In the order of their ids upstream, 151643 to 151656 ...
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
# ... and 151657 to 151668, which decoding does not hide.
VISIBLE_TOKENS = (
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>",
    "<think>", "</think>",
)  # fmt: skip
ADDED_PATTERN = re.compile("|".join(map(re.escape, SPECIAL_TOKENS + VISIBLE_TOKENS)))
LONGEST_EDGE = 76800
PREPROCESSOR: Mapping[str, Any] = {
    "size": {"shortest_edge": 16384, "longest_edge": LONGEST_EDGE},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
VIDEO_FRAMES = 8  # a whole clip has the pixels of so many largest pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenTokenizer:
    """What `config.json` must say about a tokenizer that was written.

    Attributes:
        vocab_size: number of ids, added tokens included.
    """

    vocab_size: int
    image_token_id: int
    video_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int
    eos_token_id: int
    pad_token_id: int


def write_tiny_tokenizer(texts: Iterable[str], directory: Path) -> WrittenTokenizer:
    """Cut the tokenizer for `texts` and write it, with template and processor configs.

    Writes tokenizer.json, tokenizer_config.json, chat_template.jinja, preprocessor_config.json,
    video_preprocessor_config.json and generation_config.json. The same texts in any order give
    the same files.

    Raises:
        MissingDependency: dashscope is not installed.
    """
    return write_tokenizer(
        tokenizer_for_texts([*texts, *TEXTS_ALWAYS_KEPT], qwen_ranks()), directory
    )


def write_tokenizer(
    tokenizer: Tokenizer, directory: Path, *, longest_edge: int = LONGEST_EDGE
) -> WrittenTokenizer:
    """A tokenizer with its template and processor configs.

    Args:
        tokenizer: of `byte_level_tokenizer`.
        directory: of the checkpoint; made if it is not there.
        longest_edge: pixels of the largest picture, as preprocessor_config.json says it.
    """
    added = tokenizer.get_added_tokens_decoder()
    ids = {token.content: token_id for token_id, token in added.items()}
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    template = (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8")
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    configs: dict[str, Mapping[str, Any]] = {
        "tokenizer_config.json": _tokenizer_config(),
        "preprocessor_config.json": {
            **PREPROCESSOR,
            "size": {**PREPROCESSOR["size"], "longest_edge": longest_edge},
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "processor_class": "Qwen3VLProcessor",
        },
        "video_preprocessor_config.json": {
            **PREPROCESSOR,
            "size": {"shortest_edge": 4096, "longest_edge": VIDEO_FRAMES * longest_edge},
            "fps": 2,
            "cap_pixels_per_frame": True,  # as qwen-vl-utils; its default changes with versions
            "video_processor_type": "Qwen3VLVideoProcessor",
            "processor_class": "Qwen3VLProcessor",
        },
        "generation_config.json": {
            "do_sample": False,
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
        },
    }
    for name, values in configs.items():
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (directory / name).write_text(text, encoding="utf-8")
    return WrittenTokenizer(
        vocab_size=tokenizer.get_vocab_size(with_added_tokens=True),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )


@cache
def qwen_ranks() -> Mapping[bytes, int]:
    """Every token of the real vocabulary, as bytes, and its rank, which is its id.

    Raises:
        MissingDependency: dashscope is not installed.
    """
    spec = find_spec("dashscope")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(
            "dashscope",
            needed_for="cutting a tokenizer",
            install="make setup (or pip install -r requirements/workshop.txt)",
        )
    file = Path(spec.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
    lines = (line.split() for line in file.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def tokenizer_for_texts(texts: Iterable[str], ranks: Mapping[bytes, int]) -> Tokenizer:
    """A byte-level tokenizer that segments `texts` as the full `ranks` do."""
    words: set[bytes] = set()
    for text in set(texts):
        words.update(words_of_text(text))
    merges = {pair for word in words for pair in merges_of_word(word, ranks)}
    in_order = sorted(merges, key=lambda pair: (ranks[pair[0] + pair[1]], ranks[pair[0]]))
    kept = {bytes([byte]) for byte in range(256)} | {left + right for left, right in merges}
    return byte_level_tokenizer(sorted(kept, key=lambda token: ranks[token]), in_order)


def words_of_text(text: str) -> list[bytes]:
    """The pieces that byte-pair encoding works on, one by one; added tokens left out."""
    byte_of = {character: byte for byte, character in enumerate(_characters_of_bytes())}
    return [
        bytes(byte_of[character] for character in word)
        for part in ADDED_PATTERN.split(text)
        for word, _ in _pre_tokenizer().pre_tokenize_str(normalizers.NFC().normalize_str(part))
    ]


def merges_of_word(word: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The joins that byte-pair encoding makes, first to last.

    >>> merges_of_word(b"abab", {b"a": 0, b"b": 1, b"ab": 2, b"abab": 3})
    [(b'a', b'b'), (b'a', b'b'), (b'ab', b'ab')]
    """
    pieces = [word[i : i + 1] for i in range(len(word))]
    merges: list[tuple[bytes, bytes]] = []
    while True:
        joins = [
            (ranks[left + right], place)
            for place, (left, right) in enumerate(pairwise(pieces))
            if left + right in ranks
        ]
        if not joins:
            return merges
        _, place = min(joins)
        merges.append((pieces[place], pieces[place + 1]))
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]


def byte_level_tokenizer(
    tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]
) -> Tokenizer:
    """A tokenizer of Qwen2's pattern: ids in the order of `tokens`, then the added tokens."""
    characters = _characters_of_bytes()

    def spelled(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    tokenizer = Tokenizer(
        BPE(
            vocab={spelled(token): token_id for token_id, token in enumerate(tokens)},
            merges=[(spelled(left), spelled(right)) for left, right in merges],
        )
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(_added_tokens())
    return tokenizer


def _added_tokens() -> list[AddedToken]:
    return [
        AddedToken(token, special=token in SPECIAL_TOKENS, normalized=False)
        for token in SPECIAL_TOKENS + VISIBLE_TOKENS
    ]


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@cache
def _characters_of_bytes() -> tuple[str, ...]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(
        chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256)
    )


def _tokenizer_config() -> Mapping[str, Any]:
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen3VLProcessor",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "model_max_length": 262144,
        "errors": "replace",
        "split_special_tokens": False,
    }
