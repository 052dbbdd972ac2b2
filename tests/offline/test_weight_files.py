# SPDX-License-Identifier: Apache-2.0
"""Weights are found in one file or in shards, or refused by name, and never unpickled."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3vl_ros.errors import CheckpointError
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.checkpoint import load_checkpoint, write_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.weight_files import tensor_files

EMBEDDING = "model.language_model.embed_tokens.weight"
FINAL_NORM = "model.language_model.norm.weight"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def directory(
    tmp_path: Path, small_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> Path:
    """A written checkpoint with a tied head."""
    write_checkpoint(random_model(small_config), tmp_path, torch.float32)
    return tmp_path


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
        ("training.ckpt", "suffix is '.ckpt'"),
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
        pytest.param(lambda data: data[:-100], r"\(cut short: \d+ bytes of \d+\)", id="cut short"),
        pytest.param(lambda data: data[:50], "cut short: 50 bytes of", id="cut in the header"),
        pytest.param(lambda data: data + b"more", r"damaged weights \(.*\)", id="too long"),
        pytest.param(lambda data: data[:8] + b"{" * 999, "damaged weights", id="no header"),
        pytest.param(lambda data: b"", "not a safetensors file", id="empty"),
        pytest.param(
            lambda data: b"version https://git-lfs.github.com/spec/v1", "git lfs pull", id="LFS"
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


@pytest.fixture
def shards(directory: Path) -> Path:
    """The same checkpoint in two shards, the final norm alone in the second."""
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    last = {FINAL_NORM: weights.pop(FINAL_NORM)}
    save_file(weights, directory / FIRST)
    save_file(last, directory / SECOND)
    index = dict.fromkeys(weights, FIRST)
    index |= dict.fromkeys(last, SECOND)
    write_index(directory, index)
    return directory


def write_index(directory: Path, weight_map: object) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def read_index(directory: Path) -> dict[str, str]:
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    return dict(index["weight_map"])


def test_every_missing_shard_is_named(shards: Path) -> None:
    (shards / SECOND).unlink()
    with pytest.raises(CheckpointError, match=rf"1 of 2 shards .* missing \({SECOND}\); download"):
        load_checkpoint(shards)
    (shards / FIRST).unlink()
    with pytest.raises(CheckpointError, match=rf"2 of 2 shards .* \({FIRST}; {SECOND}\)"):
        load_checkpoint(shards)


def test_a_shard_that_is_cut_short_is_named(shards: Path) -> None:
    whole = (shards / SECOND).read_bytes()
    (shards / SECOND).write_bytes(whole[:-8])
    message = rf"cut short: {len(whole) - 8} bytes of {len(whole)}\); download .*{SECOND}"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(shards)


def test_a_shard_that_the_index_does_not_name_is_named(shards: Path) -> None:
    write_index(shards, {n: s for n, s in read_index(shards).items() if s == FIRST})
    with pytest.raises(CheckpointError, match=rf"not name all shards .* \({SECOND}\)"):
        load_checkpoint(shards)


def test_other_safetensors_beside_the_shards_are_left_alone(shards: Path) -> None:
    save_file({"lora": torch.zeros(1)}, shards / "adapter_model.safetensors")
    save_file({"old": torch.zeros(1)}, shards / "model-00001-of-00007.safetensors")
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
    (shards / SECOND).rename(shards / "kept.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(shards)


def test_an_index_that_disagrees_with_its_shards_is_refused_tensor_by_tensor(
    shards: Path,
) -> None:
    save_file(load_file(shards / SECOND) | {EMBEDDING: torch.zeros(1)}, shards / SECOND)
    index = read_index(shards) | {FINAL_NORM: FIRST, "other": SECOND}
    del index["model.visual.pos_embed.weight"]
    write_index(shards, index)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(shards)
    for part in (
        "the index and its shards disagree, differences (4): ",
        f"{EMBEDDING} lies in {FIRST} and in {SECOND}",
        f"{FINAL_NORM} lies in {SECOND}, the index says {FIRST}",
        "model.visual.pos_embed.weight is not in the index",
        f"other is in no shard, the index says {SECOND}",
        "Download the checkpoint whole",
    ):
        assert part in str(caught.value)


def test_an_index_that_names_a_tensor_twice_is_refused(shards: Path) -> None:
    twice = f'{{"weight_map": {{"{FINAL_NORM}": "{FIRST}", "{FINAL_NORM}": "{SECOND}"}}}}'
    (shards / "model.safetensors.index.json").write_text(twice)
    with pytest.raises(CheckpointError, match=f"named more than once: {FINAL_NORM}"):
        load_checkpoint(shards)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}'], ids=repr)
def test_an_unreadable_index_is_refused(shards: Path, text: str) -> None:
    (shards / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot read the index"):
        load_checkpoint(shards)


def test_weights_of_llama_cpp_are_refused_by_name(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "Qwen3VL-2B-Instruct-Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"GGUF, llama\.cpp's format, expected model\.safe"):
        load_checkpoint(directory)
