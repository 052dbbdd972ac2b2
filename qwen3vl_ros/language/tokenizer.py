# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back, with the place of every token in the text.

Wraps the `tokenizers` library around a checkpoint's `tokenizer.json`; the ids that end an answer
come from `generation_config.json`. Knows no prompt, and of the model beside it (`config.json`)
only whether it is the one that these tokens are of.

Control tokens are those added beside the byte-pair vocabulary (`<|im_end|>`, `<|image_pad|>`,
`<think>`, ...). `encode` recognises them, so text from outside must be held against
`control_token_in` first.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers

from ..errors import CheckpointError
from ..model_config import ModelConfig, load_model_config

TOKENIZER_FILES = ("tokenizer.json", "generation_config.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        backend: the library's tokenizer, read only.
        eos_token_ids: any of these ends an answer.
    """

    backend: tokenizers.Tokenizer
    eos_token_ids: tuple[int, ...]
    _byte_of: dict[str, int] = field(init=False, repr=False)
    _control: dict[int, tokenizers.AddedToken] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_byte_of", _bytes_of_characters())
        object.__setattr__(self, "_control", self.backend.get_added_tokens_decoder())

    @property
    def vocab_size(self) -> int:
        """Number of ids, control tokens included; a model's own table may be padded beyond."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids; control tokens written out in `text` become their ids."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Text; bytes that are not UTF-8 become U+FFFD."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def decode_with_spans(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """Text as `decode` gives it, and the character span (start, stop) of each token in it.

        Special tokens have empty spans. A character that several tokens share the bytes of
        belongs to the last of them.
        """
        stream = TextStream(self)
        parts: list[str] = []
        spans: list[tuple[int, int]] = []
        length = 0
        for token_id in ids:
            part = stream.add(int(token_id))
            parts.append(part)
            spans.append((length, length + len(part)))
            length += len(part)
        if tail := stream.end():
            parts.append(tail)
            spans[-1] = (spans[-1][0], length + len(tail))
        return "".join(parts), spans

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one token stands for, whole characters or not."""
        token = self.token(token_id)
        if token_id in self._control:
            return token.encode()
        return bytes(self._byte_of[character] for character in token)

    def is_special(self, token_id: int) -> bool:
        """Whether a token is a mark for programs, which no text shows."""
        added = self._control.get(token_id)
        return added is not None and added.special

    def token(self, token_id: int) -> str:
        """The token of an id, as the vocabulary spells it.

        Raises:
            CheckpointError: no such id.
        """
        token = self.backend.id_to_token(token_id)
        if token is None:
            raise CheckpointError(
                f"the tokenizer has no id {token_id}, expected 0 to {self.vocab_size - 1}; does "
                "tokenizer.json belong to this model?"
            )
        return token

    def token_id(self, token: str) -> int:
        """The id of a token.

        Raises:
            CheckpointError: no such token.
        """
        token_id = self.backend.token_to_id(token)
        if token_id is None:
            raise CheckpointError(
                f"the tokenizer has no token '{token}', expected a Qwen3-VL tokenizer; does "
                "tokenizer.json belong to this model?"
            )
        return token_id

    def control_token_in(self, text: str) -> str | None:
        """A control token that is written out in `text`, or None."""
        return next((a.content for a in self._control.values() if a.content in text), None)


class TextStream:
    """Tokens in, text out as it comes, whole characters only. Mutable; owned by one answer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token_id: int) -> str:
        """What is certain of the text with one more token, after what was certain before."""
        if self._tokenizer.is_special(token_id):
            return ""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def end(self) -> str:
        """What is left when no more come: a mark for bytes that no character came of."""
        return self._decoder.decode(b"", True)


def load_tokenizer(directory: Path) -> Tokenizer:
    """Read `tokenizer.json` and `generation_config.json` of a checkpoint or engine directory.

    Where the model's config lies beside them, it has to mean the same tokens.

    Raises:
        CheckpointError: one of them is missing, unreadable, or of another model.
        ConfigError: the config beside them cannot be read.
    """
    missing = [name for name in TOKENIZER_FILES if not (directory / name).is_file()]
    if missing:
        raise CheckpointError(
            f"no {' and no '.join(missing)}, which every released Qwen3-VL has; download the "
            f"checkpoint whole, in {directory}"
        )
    vocabulary, generation = (directory / name for name in TOKENIZER_FILES)
    try:
        text = vocabulary.read_text(encoding="utf-8")
        eos = json.loads(generation.read_text(encoding="utf-8"))["eos_token_id"]
        eos_token_ids = tuple(int(i) for i in (eos if isinstance(eos, list) else [eos]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"cannot read the tokenizer ({type(error).__name__}: {error}); expected "
            f"tokenizer.json and a generation_config.json with eos_token_id, take them from the "
            f"checkpoint again: {directory}"
        ) from error
    tokenizer = Tokenizer(backend=_backend_from_json(text, directory), eos_token_ids=eos_token_ids)
    if (directory / "config.json").is_file():  # not yet, while a checkpoint is being made
        _require_same_tokens(tokenizer, load_model_config(directory), directory)
    return tokenizer


def _require_same_tokens(tokenizer: Tokenizer, config: ModelConfig, directory: Path) -> None:
    """Text encoded with another model's tokens would be answered, and the answer be nonsense."""
    theirs = {
        "<|image_pad|>": config.image_token_id,
        "<|video_pad|>": config.video_token_id,
        "<|vision_start|>": config.vision_start_token_id,
        "<|vision_end|>": config.vision_end_token_id,
    }
    faults = [
        f"{token} is {tokenizer.backend.token_to_id(token)} in tokenizer.json and {token_id} in "
        "config.json"
        for token, token_id in theirs.items()
        if tokenizer.backend.token_to_id(token) != token_id
    ]
    if tokenizer.vocab_size > config.text.vocab_size:
        faults.append(
            f"tokenizer.json has {tokenizer.vocab_size} tokens and config.json room for "
            f"{config.text.vocab_size}"
        )
    if unknown := [i for i in tokenizer.eos_token_ids if tokenizer.backend.id_to_token(i) is None]:
        faults.append(f"generation_config.json ends answers with {unknown}, which no token has")
    if faults:
        raise CheckpointError(
            f"tokenizer and config are of two models ({'; '.join(faults)}); take all files from "
            f"one checkpoint: {directory}"
        )


def _backend_from_json(text: str, directory: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception, and only that
        raise CheckpointError(
            f"tokenizer.json is not one that tokenizers {tokenizers.__version__} can read: "
            f"{error}; take it from the checkpoint again: {directory}"
        ) from error


def _bytes_of_characters() -> dict[str, int]:
    """The byte behind each character of the byte-level alphabet (GPT-2's).

    Printable bytes stand for themselves; the others, in order, for U+0100 onwards.

    >>> table = _bytes_of_characters()
    >>> table["A"], table["\\u0120"], len(table)
    (65, 32, 256)
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + rank): byte for rank, byte in enumerate(others)})
    return table
