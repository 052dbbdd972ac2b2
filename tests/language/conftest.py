# SPDX-License-Identifier: Apache-2.0
"""A real tokenizer, cut from Qwen's, in a directory as a checkpoint has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3vl_ros.language.tokenizer import Tokenizer, load_tokenizer
from qwen3vl_ros.offline.tiny_tokenizer import write_tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tiny_tokenizer(["the turquoise mug"], directory)
    return directory


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)
