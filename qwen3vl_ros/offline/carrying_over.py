# SPDX-License-Identifier: Apache-2.0
"""A trained model's weights in a model with another vocabulary.

Knows tensors and tokens, no scenes. Everything but the embedding table has the same shape and is
taken as it is; a token that both know keeps its row, a new one begins at random.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer as TokenTable

from ..errors import ConfigError
from .checkpoint import EMBEDDING, load_checkpoint
from .reference_model import ReferenceModel


def carry_over(source: Path, model: ReferenceModel, tokenizer_json: Path) -> int:
    """Fill `model` with the weights of a checkpoint directory; the number of new tokens.

    Args:
        source: checkpoint directory, with its tokenizer.
        model: of the same shape but for its vocabulary; rows of new tokens stay as they are, but
            are scaled as long as the others are.
        tokenizer_json: the model's.

    Raises:
        CheckpointError: `source` cannot be read.
        ConfigError: it is of another shape.
    """
    old, new = load_checkpoint(source).state_dict(), model.state_dict()
    differ = [
        name
        for name in new.keys() | old.keys()
        if name != EMBEDDING
        and (name not in new or name not in old or new[name].shape != old[name].shape)
    ]
    if differ or new[EMBEDDING].shape[1] != old[EMBEDDING].shape[1]:
        raise ConfigError(
            f"the checkpoint has other shapes than the tiny model in {len(differ)} tensors "
            f"({', '.join(sorted(differ)[:3])}), expected all but the vocabulary alike; train "
            f"from nothing, or from another checkpoint: {source}"
        )
    row_of = TokenTable.from_file(str(source / "tokenizer.json")).get_vocab(True)
    tokens = TokenTable.from_file(str(tokenizer_json)).get_vocab(True)
    table = new[EMBEDDING].clone()
    table *= old[EMBEDDING].std() / table.std()
    kept = [(token_id, row_of[token]) for token, token_id in tokens.items() if token in row_of]
    to, of = (torch.tensor(some) for some in zip(*kept, strict=True))
    table[to] = old[EMBEDDING][of]
    model.load_state_dict({**old, EMBEDDING: table})
    return len(tokens) - len(kept)
