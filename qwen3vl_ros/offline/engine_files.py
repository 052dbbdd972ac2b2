# SPDX-License-Identifier: Apache-2.0
"""What an engine directory holds beside its graphs, and how many tokens there is room for.

Knows files, no operators: every flavour's exporter writes them through this file.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..errors import CheckpointError, ConfigError
from ..image.preprocess import load_preprocess_config
from ..model.taught_tasks import FILE_NAME as TAUGHT_FILE
from ..model_config import ModelConfig
from ..runtime.manifest import CHECKPOINT_FILES, EMBEDDING_FILE, sha256_of_file
from .checkpoint import EMBEDDING
from .graphs import DEEPSTACK_LAYERS
from .stored_weights import StoredWeights
from .streamed_tensor import narrowed

# How a checkpoint words its prompts, prepares videos, and what it was taught, where it says so.
OPTIONAL_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "video_preprocessor_config.json",
    TAUGHT_FILE,
)
TOOLS = ("onnx", "onnx-ir", "onnxscript", "torch")
MIN_CACHE_LENGTH = 1024
WORDS_LENGTH = 768  # tokens of a question and an answer of twenty boxes


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Tokens that an engine holds.

    Attributes:
        cache_length: of prompt and answer together.
        max_visual_tokens: of the largest picture.
    """

    cache_length: int
    max_visual_tokens: int


def room_for_tokens(checkpoint_dir: Path, cache_length: int | None) -> Room:
    """The largest picture of a checkpoint, and a cache that holds it, its question and answer.

    Args:
        checkpoint_dir: its preprocessor_config.json says how large pictures get.
        cache_length: what is asked for; None leaves it to us.

    Raises:
        ConfigError: the cache asked for has no room for that picture.
    """
    preprocess = load_preprocess_config(checkpoint_dir)
    max_visual_tokens = preprocess.max_pixels // preprocess.factor**2
    if cache_length is None:
        cache_length = max(MIN_CACHE_LENGTH, max_visual_tokens + WORDS_LENGTH)
    if cache_length <= max_visual_tokens:
        raise ConfigError(
            f"--cache-length is {cache_length}, expected more than the {max_visual_tokens} tokens "
            "that the largest picture takes; raise it, or lower size.longest_edge in the "
            "checkpoint's preprocessor_config.json"
        )
    return Room(cache_length=cache_length, max_visual_tokens=max_visual_tokens)


def refuse_other_taps(config: ModelConfig) -> None:
    """Nothing, for a tower with the taps that the graph contract has.

    Raises:
        ConfigError: it has others.
    """
    taps = len(config.vision.deepstack_visual_indexes)
    if taps != DEEPSTACK_LAYERS:
        raise ConfigError(
            f"the tower has {taps} deepstack taps, and an engine's inputs are made for "
            f"{DEEPSTACK_LAYERS}, as every released Qwen3-VL has them"
        )


def require_files(source: Path) -> None:
    """Raise unless a checkpoint has what an engine needs beside its graphs.

    Raises:
        CheckpointError: with the file that is not there.
    """
    for name in CHECKPOINT_FILES:
        if not (source / name).is_file():
            raise CheckpointError(
                f"the checkpoint has no {name}, which the engine needs beside its graphs; "
                f"download it whole: {source}"
            )


def copy_files(source: Path, target: Path) -> None:
    """Tokenizer, template and configs, as the checkpoint has them; errors as `require_files`."""
    require_files(source)
    for name in (*CHECKPOINT_FILES, *OPTIONAL_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_table(weights: StoredWeights, file: Path, kind: npt.DTypeLike) -> None:
    """The embedding table as an `.npy` file of `kind`, some of its rows after the other.

    Raises:
        CheckpointError: it holds a number that `kind` cannot.
    """
    with file.open("wb") as stream:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(kind)),
            "fortran_order": False,
            "shape": weights.shape(EMBEDDING),
        }
        np.lib.format.write_array_header_1_0(stream, header)
        for piece in weights.pieces(EMBEDDING):
            stream.write(narrowed(EMBEDDING, piece, kind).tobytes())


def refer_to_table(model: ir.Model, directory: Path) -> None:
    """A tied head's weight is the embedding table's bytes, where they lie in its own file."""
    weight = model.graph.initializers[EMBEDDING]
    with (directory / EMBEDDING_FILE).open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        assert weight.dtype == ir.DataType.from_numpy(dtype)
        weight.const_value = ir.ExternalTensor(
            EMBEDDING_FILE,
            file.tell(),
            int(np.prod(shape)) * dtype.itemsize,
            weight.dtype,
            shape=ir.Shape(shape),
            name=EMBEDDING,
            base_dir=directory,
        )


def weights_sha256(files: dict[str, Path]) -> str:
    """Hex digest over the weight files, their names and contents."""
    digest = hashlib.sha256()
    for file in sorted(set(files.values())):
        digest.update(f"{file.name} {sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def tool_versions() -> Mapping[str, str]:
    """Of what makes an engine, by package name."""
    return {name: version(name) for name in TOOLS}
