# SPDX-License-Identifier: Apache-2.0
"""Checkpoint directories as Hugging Face lays them out, read and written.

Knows `config.json` and safetensors, in one file or in shards with an index. Knows no tokenizer
and no preprocessing. Pickled weights are refused unopened: unpickling runs whatever the file says.

A directory is read whole or not at all: every tensor is checked against the model's names, shapes
and kinds of numbers from the files' headers before the first weight is read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..model_config import ModelConfig, TextConfig, load_model_config
from .config_writing import config_dict
from .reference_model import ReferenceModel

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
NUMBER_KINDS = ("F32", "BF16", "F16")  # as safetensors names them
MOST_FAULTS = 50  # named in one message; the wrong config of a large model has thousands
HEAD = "lm_head.weight"
EMBEDDING = "model.language_model.embed_tokens.weight"


def load_checkpoint(directory: Path, dtype: torch.dtype = torch.float32) -> ReferenceModel:
    """The reference model with the weights of `directory`, cast to `dtype`, on the CPU.

    Raises:
        ConfigError: `config.json` is missing or of another family.
        CheckpointError: weights are missing, pickled, damaged, or are not this model's: the
            missing, unexpected and misshapen tensors are named, and counted.
    """
    if directory.suffix in PICKLE_SUFFIXES:
        raise _pickled(directory, reason=f"its suffix is '{directory.suffix}'")
    config = load_model_config(directory)
    with torch.device("meta"):
        model = ReferenceModel(config)
    files = checked_files(directory, config)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with _opened(file) as weights:
            for name in (name for name, where in files.items() if where == file):
                tensors[name] = weights.get_tensor(name).to(dtype)
    for name, tensor in model.state_dict().items():
        if tensors[name].shape != tensor.shape:  # experts, the other way round
            tensors[name] = tensors[name].mT.contiguous()
    redundant_head = config.text.tie_word_embeddings and HEAD in tensors
    if redundant_head and not torch.equal(tensors.pop(HEAD), tensors[EMBEDDING]):
        raise CheckpointError(
            f"config.json ties the head to the embedding, but {HEAD} differs from {EMBEDDING}; "
            f"set tie_word_embeddings to false if the head was trained apart: {directory}"
        )
    model.load_state_dict(tensors, assign=True)
    return model


def checked_files(directory: Path, config: ModelConfig) -> dict[str, Path]:
    """The file of each tensor, by name; all of the model's are there and fit, nothing else is.

    A tied head may be stored as well (some trainers do), and experts may lie either way round
    (transformers 5 reads both, and writes the other way than checkpoints are released).

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    _refuse_square_experts(config.text)
    with torch.device("meta"):
        state = ReferenceModel(config).state_dict()
    shapes = {name: [tuple(tensor.shape)] for name, tensor in state.items()}
    for name, (shape,) in shapes.items():
        if is_expert_tensor(name):
            shapes[name] = [shape, (shape[0], shape[2], shape[1])]
    files = tensor_files(directory)
    if config.text.tie_word_embeddings and HEAD in files:
        shapes[HEAD] = shapes[EMBEDDING]
    _check(directory, files, shapes)
    return files


def is_expert_tensor(name: str) -> bool:
    """Whether a tensor holds all experts of a layer: (E, in, out) as released."""
    return name.endswith((".mlp.experts.gate_up_proj", ".mlp.experts.down_proj"))


def tensor_files(directory: Path) -> dict[str, Path]:
    """The safetensors file that holds each tensor of a checkpoint, by tensor name.

    Raises:
        CheckpointError: no safetensors, an index that disagrees with its shards, or a pickle.
    """
    single, index = directory / WEIGHTS_FILE, directory / INDEX_FILE
    if single.exists():
        with _opened(single) as weights:
            return dict.fromkeys(weights.keys(), single)
    if index.exists():
        return _sharded_files(directory, index)
    pickles = sorted(p for p in directory.glob("*") if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise _pickled(pickles[0], reason=f"its suffix is '{pickles[0].suffix}'")
    raise CheckpointError(
        f"no weights: expected {WEIGHTS_FILE} or {INDEX_FILE}; download the checkpoint whole, "
        f"in {directory}"
    )


def write_checkpoint(
    model: ReferenceModel, directory: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write `model.safetensors` and `config.json`; other files of the directory stay.

    Each file appears whole or not at all (written beside its place, then renamed), the config
    after the weights it describes.
    """
    _refuse_square_experts(model.config.text)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    text = json.dumps(config_dict(model.config, dtype), indent=2) + "\n"
    _write_atomically(
        directory / WEIGHTS_FILE,
        lambda file: save_file(tensors, file, metadata={"format": "pt"}),
    )
    _write_atomically(
        directory / "config.json", lambda file: file.write_text(text, encoding="utf-8")
    )


def _sharded_files(directory: Path, index: Path) -> dict[str, Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = {str(name): str(shard) for name, shard in weight_map.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"cannot read the index of shards ({type(error).__name__}: {error}); expected a "
            f"JSON object with a weight_map: {index}"
        ) from error
    files = {}
    for shard in sorted(set(shards.values())):
        file = directory / shard
        if file.suffix in PICKLE_SUFFIXES:
            raise _pickled(file, reason=f"its suffix is '{file.suffix}'")
        if Path(shard).name != shard:
            raise CheckpointError(
                f"the index names a shard outside the checkpoint, '{shard}'; expected file names "
                f"without a directory: {index}"
            )
        with _opened(file) as weights:
            files.update(dict.fromkeys(weights.keys(), file))
    # A tensor the index promises and no shard holds is found missing later, by name; one that
    # sits in another shard than promised means that index and shards are of two downloads.
    astray = [n for n, shard in shards.items() if n in files and files[n].name != shard]
    astray += [n for n in files if n not in shards]
    if astray:
        raise CheckpointError(
            f"the index and its shards disagree about {', '.join(sorted(astray))}; download both "
            f"again: {index}"
        )
    return files


def _check(
    directory: Path, files: dict[str, Path], shapes: dict[str, list[tuple[int, ...]]]
) -> None:
    """Raise unless the tensors in `files` are exactly those expected, in one of their shapes."""
    faults = [f"{name} is missing" for name in sorted(shapes.keys() - files.keys())]
    faults += [f"{name} is not a tensor of this model" for name in sorted(files.keys() - shapes)]
    for file in sorted(set(files.values())):
        with _opened(file) as weights:
            for name in sorted(n for n, where in files.items() if where == file and n in shapes):
                header = weights.get_slice(name)
                shape, kind = tuple(header.get_shape()), header.get_dtype()
                if shape not in shapes[name]:
                    expected = " or ".join(str(one) for one in shapes[name])
                    faults.append(f"{name} has shape {shape}, expected {expected}")
                if kind not in NUMBER_KINDS:
                    faults.append(f"{name} holds {kind}, expected one of {NUMBER_KINDS}")
    if faults:
        rest = len(faults) - MOST_FAULTS
        named = "; ".join([*faults[:MOST_FAULTS], *([f"and {rest} more"] if rest > 0 else [])])
        raise CheckpointError(
            f"the weights are not those of config.json, differences ({len(faults)}): {named}. "
            "Give it an unquantised checkpoint whose files belong together: "
            f"{directory}"
        )


def _refuse_square_experts(text: TextConfig) -> None:
    """Nothing in a file says which way round experts lie but their shape."""
    if text.num_experts and text.hidden_size in (
        text.moe_intermediate_size,
        2 * text.moe_intermediate_size,
    ):
        raise CheckpointError(
            f"experts of hidden_size {text.hidden_size} and moe_intermediate_size "
            f"{text.moe_intermediate_size} have square matrices, and checkpoints are written "
            "either way round; no released Qwen3-VL has such experts, change one of the two"
        )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, its content checked before it is opened."""
    try:
        with file.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise CheckpointError(
            f"cannot read weights: {error}; download the checkpoint whole"
        ) from error
    # Eight bytes of header length, then JSON. Only a file that does not start so can be a pickle:
    # a header of 640 bytes starts with the very bytes of pickle protocol 2.
    if start[8:9] != b"{":
        if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] <= b"\x05"):
            raise _pickled(file, reason="it is a pickle inside, whatever its name")
        raise CheckpointError(f"not a safetensors file, download it again: {file}")
    try:
        with safe_open(file, framework="pt", device="cpu") as weights:
            yield weights
    except SafetensorError as error:
        raise CheckpointError(
            f"damaged weights ({error}); download the file again: {file}"
        ) from error


def _pickled(file: Path, *, reason: str) -> CheckpointError:
    return CheckpointError(
        f"pickled weights are not loaded ({reason}), because unpickling can run any program; "
        f"convert them to safetensors: {file}"
    )


def _write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(descriptor)
    unfinished = Path(name)
    try:
        write(unfinished)
        unfinished.chmod(0o644)  # mkstemp's 0600 would hide the checkpoint from others
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
