# SPDX-License-Identifier: Apache-2.0
"""What a terminal says where a checkpoint cannot be used: one line, and what to do."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3vl_ros.cli import main
from qwen3vl_ros.errors import CheckpointError
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.runtime.manifest import sha256_of_file

WEIGHTS = "model.safetensors"


def of_family(model_type: str) -> Callable[[Path], object]:
    return lambda directory: set_in_config(directory, model_type=model_type)


def set_in_config(directory: Path, **values: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | values))


def without(name: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).unlink()


def written_over(data: bytes) -> Callable[[Path], object]:
    return lambda directory: (directory / WEIGHTS).write_bytes(data)


def cut_short(directory: Path) -> None:
    file = directory / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1000])


def saved_by_torch(directory: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, directory / WEIGHTS)


def renamed_by_torch(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    torch.save({"weight": torch.zeros(3)}, directory / "pytorch_model.bin")


def half_sharded(directory: Path) -> None:
    weights = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    save_file(weights, directory / "model-00001-of-00002.safetensors")
    index = dict.fromkeys(weights, "model-00001-of-00002.safetensors")
    index["lm_head.weight"] = "model-00002-of-00002.safetensors"
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def of_other_tensors(directory: Path) -> None:
    weights = load_file(directory / WEIGHTS)
    norm = weights.pop("model.language_model.norm.weight")
    weights["model.language_model.final_norm.weight"] = norm
    weights["model.visual.pos_embed.weight"] = torch.zeros(100, 64)
    save_file(weights, directory / WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            without("tokenizer.json"),
            ("no tokenizer.json", "download it whole"),
            id="no tokenizer",
        ),
        pytest.param(
            of_family("qwen2_vl"),
            ("of Qwen2-VL (", "expected Qwen3-VL", "give it a Qwen3-VL checkpoint"),
            id="Qwen2-VL",
        ),
        pytest.param(of_family("qwen2_5_vl"), ("of Qwen2.5-VL (", "expected Qwen3-VL"), id="2.5"),
        pytest.param(of_family("qwen3_5"), ("of Qwen3.5 (", "expected Qwen3-VL"), id="Qwen3.5"),
        pytest.param(of_family("qwen3"), ("of Qwen3, which sees no pictures",), id="Qwen3"),
        pytest.param(cut_short, ("cut short:", "download the file again"), id="cut short"),
        pytest.param(
            half_sharded,
            ("1 of 2 shards", "model-00002-of-00002.safetensors", "download them into"),
            id="missing shard",
        ),
        pytest.param(
            of_other_tensors,
            (
                "differences (3)",
                "model.language_model.norm.weight is missing",
                "model.language_model.final_norm.weight is not a tensor of this model",
                "model.visual.pos_embed.weight has shape (100, 64), expected (144, 64)",
            ),
            id="missing, extra, misshapen",
        ),
        pytest.param(
            renamed_by_torch, ("suffix is '.bin'", "convert them"), id="pickle by suffix"
        ),
        pytest.param(
            written_over(pickle.dumps({"weight": 1})),
            ("a pickle inside, whatever its name", "convert them to safetensors"),
            id="pickle by content",
        ),
        pytest.param(
            saved_by_torch, ("a pickle inside, whatever",), id="zipped pickle by content"
        ),
    ],
)
def test_export_refuses_in_one_line_that_says_what_to_do(
    random_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    words: tuple[str, ...],
) -> None:
    checkpoint, output = tmp_path / "checkpoint", tmp_path / "engines"
    shutil.copytree(random_checkpoint, checkpoint)
    spoil(checkpoint)
    assert main(["export", "--checkpoint", str(checkpoint), "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("qwen3vl export: ")
    assert str(checkpoint) in line
    for part in words:
        assert part in line
    assert not output.exists() or not any(output.iterdir())


def test_an_engine_made_of_two_models_answers_nothing(
    random_engines: Mapping[str, Path], tmp_path: Path
) -> None:
    """Its words would be other tokens to the model, and its answers nonsense that can be read."""
    engine = tmp_path / "engine"
    shutil.copytree(random_engines["float32"], engine)
    config = json.loads((engine / "config.json").read_text())
    image, video = config["image_token_id"], config["video_token_id"]
    set_in_config(engine, image_token_id=video, video_token_id=image)
    manifest = json.loads((engine / "manifest.json").read_text())
    changed = sha256_of_file(engine / "config.json")
    manifest["config_sha256"] = manifest["files"]["config.json"]["sha256"] = changed
    manifest["files"]["config.json"]["size_bytes"] = (engine / "config.json").stat().st_size
    (engine / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="tokenizer and config are of two models"):
        Perception.load(engine, threads=1)
