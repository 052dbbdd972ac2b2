# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are read whole or refused by name, never unpickled, and written for transformers."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from qwen3vl_ros.errors import CheckpointError, ConfigError
from qwen3vl_ros.model_config import ModelConfig, model_config_from_dict
from qwen3vl_ros.offline import checkpoint
from qwen3vl_ros.offline.checkpoint import load_checkpoint, tensor_files, write_checkpoint
from qwen3vl_ros.offline.config_writing import config_dict
from qwen3vl_ros.offline.reference_model import ReferenceModel
from tests.offline.checkpoints import Weights, assert_same_weights, rewrite

EMBEDDING = "model.language_model.embed_tokens.weight"
FINAL_NORM = "model.language_model.norm.weight"


@pytest.fixture(params=[True, False], ids=["tied head", "own head"])
def config(request: pytest.FixtureRequest, small_config: ModelConfig) -> ModelConfig:
    text = dataclasses.replace(small_config.text, tie_word_embeddings=request.param)
    return dataclasses.replace(small_config, text=text)


@pytest.fixture
def directory(
    tmp_path: Path, small_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> Path:
    """A written checkpoint with a tied head."""
    write_checkpoint(random_model(small_config), tmp_path, torch.float32)
    return tmp_path


def test_what_is_written_is_read_back(
    tmp_path: Path, config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> None:
    model = random_model(config)
    write_checkpoint(model, tmp_path, torch.float32)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == config
    assert_same_weights(loaded, model)
    assert ("lm_head.weight" in loaded.state_dict()) is not config.text.tie_word_embeddings
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


def test_transformers_loads_what_is_written(
    tmp_path: Path, config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> None:
    model = random_model(config)
    write_checkpoint(model, tmp_path)
    theirs, info = Qwen3VLForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    assert theirs.dtype == torch.bfloat16
    assert torch.equal(theirs.lm_head.weight, model.head_weight.to(torch.bfloat16))


@pytest.mark.parametrize("shard_size", ["50GB", "100KB"], ids=["one file", "shards"])
def test_what_transformers_writes_is_loaded(
    tmp_path: Path,
    config: ModelConfig,
    random_model: Callable[..., ReferenceModel],
    shard_size: str,
) -> None:
    """transformers 5 writes `rope_parameters` where released checkpoints have `rope_scaling`."""
    model = random_model(config)
    values = config_dict(config, torch.float32)
    theirs = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**values))
    theirs.load_state_dict(model.state_dict(), strict=False)
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size == "100KB")
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == config
    assert_same_weights(loaded, model)


def test_config_json_says_all_of_the_config(config: ModelConfig) -> None:
    values = json.loads(json.dumps(config_dict(config)))
    assert model_config_from_dict(values) == config


def test_weights_are_cast_when_read(directory: Path) -> None:
    model = load_checkpoint(directory, torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert all(weight.requires_grad for weight in model.parameters())


def test_every_difference_is_named_at_once(directory: Path) -> None:
    def change(weights: Weights) -> None:
        del weights["model.visual.pos_embed.weight"]
        del weights["model.visual.merger.norm.bias"]
        weights["model.visual.blocks.9.norm1.bias"] = torch.zeros(32)
        weights[EMBEDDING] = torch.zeros(63, 24)
        weights[FINAL_NORM] = torch.zeros(24, dtype=torch.int8)

    rewrite(directory, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory)
    for part in (
        "differences (5): ",
        "model.visual.pos_embed.weight is missing",
        "model.visual.merger.norm.bias is missing",
        "model.visual.blocks.9.norm1.bias is not a tensor of this model",
        f"{EMBEDDING} has shape (63, 24), expected (64, 24)",
        f"{FINAL_NORM} holds I8",
        str(directory),
    ):
        assert part in str(caught.value)


def test_a_tied_head_may_be_stored_as_well(directory: Path) -> None:
    model = load_checkpoint(directory)
    rewrite(directory, lambda weights: weights.update({"lm_head.weight": weights[EMBEDDING] + 0}))
    assert_same_weights(load_checkpoint(directory), model)


def test_a_tied_head_that_differs_is_refused(directory: Path) -> None:
    rewrite(directory, lambda weights: weights.update({"lm_head.weight": weights[EMBEDDING] + 1}))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from"):
        load_checkpoint(directory)


class Trap:
    """Unpickling it makes a file: the proof that nobody unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sprung,)


def pickled_directly(file: Path, trap: Trap) -> None:
    file.write_bytes(pickle.dumps({"weight": trap}))


def pickled_by_torch(file: Path, trap: Trap) -> None:
    torch.save({"weight": trap}, file)


@pytest.mark.parametrize("write_pickle", [pickled_directly, pickled_by_torch])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pytorch_model.bin", "suffix is '.bin'"),
        ("consolidated.pt", "suffix is '.pt'"),
        ("weights.pkl", "suffix is '.pkl'"),
        ("model.safetensors", "pickle inside"),
    ],
)
def test_pickled_weights_are_refused_and_never_opened(
    directory: Path, name: str, reason: str, write_pickle: Callable[[Path, Trap], None]
) -> None:
    sprung = directory / "sprung"
    (directory / "model.safetensors").unlink()
    write_pickle(directory / name, Trap(sprung))
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(directory)
    assert not sprung.exists()


def test_a_path_to_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"suffix is '\.pth'.*safetensors"):
        load_checkpoint(tmp_path / "model.pth")


def test_a_pickle_beside_good_weights_is_left_alone(directory: Path) -> None:
    """Trainers leave `training_args.bin` next to the safetensors they write."""
    sprung = directory / "sprung"
    pickled_directly(directory / "training_args.bin", Trap(sprung))
    load_checkpoint(directory)
    assert not sprung.exists()


def test_a_header_that_starts_like_a_pickle_is_read(tmp_path: Path) -> None:
    """A header of 640 bytes has the length 0x0280, written b"\\x80\\x02...": pickle protocol 2."""
    file = tmp_path / "model.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(640)
    file.write_bytes((640).to_bytes(8, "little") + header + bytes(4))
    assert file.read_bytes()[:2] == b"\x80\x02"
    assert tensor_files(tmp_path) == {"a": file}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: data[:-100], "damaged weights", id="cut short"),
        pytest.param(lambda data: b"", "not a safetensors file", id="empty"),
        pytest.param(
            lambda data: b"version https://git-lfs", "not a safetensors file", id="LFS pointer"
        ),
    ],
)
def test_damaged_weights_are_refused(
    directory: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(directory)


def test_a_directory_without_weights_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights: expected model\.safetensors"):
        load_checkpoint(directory)


def test_a_directory_without_a_config_is_refused(directory: Path) -> None:
    (directory / "config.json").unlink()
    with pytest.raises(ConfigError, match="cannot read the model config"):
        load_checkpoint(directory)


@pytest.fixture
def shards(directory: Path) -> Path:
    """The same checkpoint in two shards, the final norm alone in the second."""
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    last = {FINAL_NORM: weights.pop(FINAL_NORM)}
    save_file(weights, directory / "model-00001-of-00002.safetensors")
    save_file(last, directory / "model-00002-of-00002.safetensors")
    index = dict.fromkeys(weights, "model-00001-of-00002.safetensors")
    index |= dict.fromkeys(last, "model-00002-of-00002.safetensors")
    write_index(directory, index)
    return directory


def write_index(directory: Path, weight_map: object) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def read_index(directory: Path) -> dict[str, str]:
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    return dict(index["weight_map"])


def test_a_missing_shard_is_named(shards: Path) -> None:
    (shards / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors"):
        load_checkpoint(shards)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        pytest.param("pytorch_model-00002.bin", "suffix is '.bin'", id="pickled shard"),
        pytest.param("../other/model.safetensors", "outside the checkpoint", id="outside"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(shards: Path, shard: str, message: str) -> None:
    write_index(shards, read_index(shards) | {FINAL_NORM: shard})
    (shards / "model-00002-of-00002.safetensors").rename(shards / "kept.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(shards)


def test_an_index_of_another_download_is_refused(shards: Path) -> None:
    index = read_index(shards)
    index[FINAL_NORM], index[EMBEDDING] = index[EMBEDDING], index[FINAL_NORM]
    del index["model.visual.pos_embed.weight"]
    write_index(shards, index)
    with pytest.raises(CheckpointError, match="disagree about") as caught:
        load_checkpoint(shards)
    for name in (FINAL_NORM, EMBEDDING, "model.visual.pos_embed.weight"):
        assert name in str(caught.value)


def test_a_tensor_promised_by_the_index_and_in_no_shard_is_missing(shards: Path) -> None:
    save_file({"other": torch.zeros(1)}, shards / "model-00002-of-00002.safetensors")
    write_index(shards, read_index(shards) | {"other": "model-00002-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=f"{FINAL_NORM} is missing; other is not a tensor"):
        load_checkpoint(shards)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}'], ids=repr)
def test_an_unreadable_index_is_refused(shards: Path, text: str) -> None:
    (shards / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot read the index"):
        load_checkpoint(shards)


def test_writing_that_fails_leaves_the_old_checkpoint(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_checkpoint(directory)

    def half_written(tensors: Weights, file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", half_written)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(model, directory, torch.float32)
    assert sorted(os.listdir(directory)) == ["config.json", "model.safetensors"]
    assert_same_weights(load_checkpoint(directory), model)


def test_of_very_many_differences_the_first_are_named_and_all_are_counted(directory: Path) -> None:
    rewrite(
        directory, lambda weights: weights.update({f"x{i}": torch.zeros(1) for i in range(60)})
    )
    with pytest.raises(CheckpointError, match=r"differences \(60\): x0 is not .*; and 10 more\."):
        load_checkpoint(directory)
