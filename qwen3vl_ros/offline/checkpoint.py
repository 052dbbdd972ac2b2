# SPDX-License-Identifier: Apache-2.0
"""Checkpoint directories as Hugging Face lays them out, read and written.

Knows `config.json` and the tensors that it asks for; where they lie is `weight_files.py`'s. Knows
no tokenizer and no preprocessing.

A directory is read whole or not at all: every tensor is checked against the model's names, shapes
and kinds of numbers from the files' headers before the first weight is read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..model_config import ModelConfig, TextConfig, load_model_config
from .config_writing import config_dict
from .reference_model import ReferenceModel
from .weight_files import INDEX_FILE as INDEX_FILE  # for those who write shards
from .weight_files import WEIGHTS_FILE, opened, refuse_pickle, some_of, tensor_files

NUMBER_KINDS = ("F32", "BF16", "F16")  # as safetensors names them
HEAD = "lm_head.weight"
EMBEDDING = "model.language_model.embed_tokens.weight"


def load_checkpoint(directory: Path, dtype: torch.dtype = torch.float32) -> ReferenceModel:
    """The reference model with the weights of `directory`, cast to `dtype`, on the CPU.

    Raises:
        ConfigError: `config.json` is missing or of another family.
        CheckpointError: weights are missing, pickled, damaged, or are not this model's: the
            missing, unexpected and misshapen tensors are named, and counted.
    """
    refuse_pickle(directory)
    config = load_model_config(directory)
    with torch.device("meta"):
        model = ReferenceModel(config)
    files = checked_files(directory, config)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with opened(file) as weights:
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


def _check(
    directory: Path, files: dict[str, Path], shapes: dict[str, list[tuple[int, ...]]]
) -> None:
    """Raise unless the tensors in `files` are exactly those expected, in one of their shapes."""
    faults = [f"{name} is missing" for name in sorted(shapes.keys() - files.keys())]
    faults += [f"{name} is not a tensor of this model" for name in sorted(files.keys() - shapes)]
    for file in sorted(set(files.values())):
        with opened(file) as weights:
            for name in sorted(n for n, where in files.items() if where == file and n in shapes):
                header = weights.get_slice(name)
                shape, kind = tuple(header.get_shape()), header.get_dtype()
                if shape not in shapes[name]:
                    expected = " or ".join(str(one) for one in shapes[name])
                    faults.append(f"{name} has shape {shape}, expected {expected}")
                if kind not in NUMBER_KINDS:
                    faults.append(f"{name} holds {kind}, expected one of {NUMBER_KINDS}")
    if faults:
        raise CheckpointError(
            f"the weights are not those of config.json, differences ({len(faults)}): "
            f"{some_of(faults)}. Give it an unquantised checkpoint whose files belong together: "
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
