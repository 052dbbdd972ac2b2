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

from ..errors import CheckpointError, ConfigError
from ..model_config import ModelConfig, load_model_config
from .reference_model import ReferenceModel

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
NUMBER_KINDS = ("F32", "BF16", "F16")  # as safetensors names them
HEAD = "lm_head.weight"
EMBEDDING = "model.language_model.embed_tokens.weight"


def load_checkpoint(directory: Path, dtype: torch.dtype = torch.float32) -> ReferenceModel:
    """The reference model with the weights of `directory`, cast to `dtype`, on the CPU.

    Raises:
        ConfigError: `config.json` is missing or of another family.
        CheckpointError: weights are missing, pickled, damaged, or are not this model's: every
            missing, unexpected and misshapen tensor is named.
    """
    if directory.suffix in PICKLE_SUFFIXES:
        raise _pickled(directory, reason=f"its suffix is '{directory.suffix}'")
    config = load_model_config(directory)
    with torch.device("meta"):
        model = ReferenceModel(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    files = tensor_files(directory)
    redundant_head = config.text.tie_word_embeddings and HEAD in files
    if redundant_head:  # some trainers save a tied head as well
        expected[HEAD] = expected[EMBEDDING]
    _check(directory, files, expected)
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        with _opened(file) as weights:
            for name in (name for name, where in files.items() if where == file):
                tensors[name] = weights.get_tensor(name).to(dtype)
    if redundant_head and not torch.equal(tensors.pop(HEAD), tensors[EMBEDDING]):
        raise CheckpointError(
            f"config.json ties the head to the embedding, but {HEAD} differs from {EMBEDDING}; "
            f"set tie_word_embeddings to false if the head was trained apart: {directory}"
        )
    model.load_state_dict(tensors, assign=True)
    return model


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


def config_dict(config: ModelConfig, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """`config.json` as released checkpoints write it: `rope_theta` beside `rope_scaling`.

    transformers 5 reads this form too. The inverse of `model_config_from_dict`.
    """
    text, vision = config.text, config.vision
    if text.num_experts:
        raise ConfigError(
            f"cannot write a config with {text.num_experts} experts; only dense models are written"
        )
    dtype_name = str(dtype).removeprefix("torch.")
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": config.model_type,
        "dtype": dtype_name,
        "image_token_id": config.image_token_id,
        "video_token_id": config.video_token_id,
        "vision_start_token_id": config.vision_start_token_id,
        "vision_end_token_id": config.vision_end_token_id,
        "tie_word_embeddings": text.tie_word_embeddings,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "dtype": dtype_name,
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "head_dim": text.head_dim,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "rms_norm_eps": text.rms_norm_eps,
            "max_position_embeddings": text.max_position_embeddings,
            "rope_theta": text.rope_theta,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": list(text.mrope_section),
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": text.tie_word_embeddings,
        },
        "vision_config": {
            "model_type": "qwen3_vl",  # sic: without `_vision`, as released
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "hidden_act": "gelu_pytorch_tanh",
            "in_channels": vision.in_channels,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "spatial_merge_size": vision.spatial_merge_size,
            "out_hidden_size": vision.out_hidden_size,
            "num_position_embeddings": vision.num_position_embeddings,
            "deepstack_visual_indexes": list(vision.deepstack_visual_indexes),
        },
    }


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


def _check(directory: Path, files: dict[str, Path], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise unless the tensors in `files` are exactly the expected ones."""
    faults = [f"{name} is missing" for name in sorted(expected.keys() - files.keys())]
    faults += [f"{name} is not a tensor of this model" for name in sorted(files.keys() - expected)]
    for file in sorted(set(files.values())):
        with _opened(file) as weights:
            for name in sorted(n for n, where in files.items() if where == file and n in expected):
                header = weights.get_slice(name)
                shape, kind = tuple(header.get_shape()), header.get_dtype()
                if shape != expected[name]:
                    faults.append(f"{name} has shape {shape}, expected {expected[name]}")
                if kind not in NUMBER_KINDS:
                    faults.append(f"{name} holds {kind}, expected one of {NUMBER_KINDS}")
    if faults:
        raise CheckpointError(
            f"the weights are not those of config.json, differences ({len(faults)}): "
            f"{'; '.join(faults)}. Give it an unquantised checkpoint whose files belong together: "
            f"{directory}"
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
