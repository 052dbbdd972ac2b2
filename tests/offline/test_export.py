# SPDX-License-Identifier: Apache-2.0
"""Engines hold the checkpoint's weights, once each, and say what the torch reference says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from qwen3vl_ros import cli
from qwen3vl_ros.errors import CheckpointError, ConfigError, EngineError
from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.taught_tasks import TaughtTasks, load_taught_tasks, write_taught_tasks
from qwen3vl_ros.offline import checkpoint as checkpoint_module
from qwen3vl_ros.offline.checkpoint import EMBEDDING, load_checkpoint
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.runtime.manifest import verify_engine_dir
from qwen3vl_ros.scene.detections import Task
from tests.offline.engines import (
    engine_logits,
    four_bits,
    graph_of,
    reference_logits,
    relative_error,
    with_accuracy_level,
)


@pytest.fixture(scope="module")
def reference(random_checkpoint: Path) -> ReferenceModel:
    return load_checkpoint(random_checkpoint).eval()


@pytest.fixture(scope="module")
def question(reference: ReferenceModel) -> tuple[np.ndarray, Patches]:
    rng = np.random.default_rng(0)
    pixel_values = rng.uniform(-1, 1, (24, 1536)).astype(np.float32)
    patches = Patches(pixel_values=pixel_values, grid_thw=np.array([[1, 4, 6]]))
    image = np.full(6, reference.config.image_token_id)
    return np.concatenate([rng.integers(0, 200, 7), image, rng.integers(0, 200, 9)]), patches


def test_float32_engines_agree_with_the_reference(random_engines, reference, question):
    got = engine_logits(random_engines["float32"], question)
    assert relative_error(got, reference_logits(reference, question, reference.head_weight)) < 1e-5


@pytest.fixture(scope="module")
def rounded(random_checkpoint: Path) -> tuple[ReferenceModel, torch.Tensor]:
    """The reference with the weights an int4 engine holds, and the head's, which are others."""
    model = load_checkpoint(random_checkpoint).eval()
    head = model.head_weight.detach().clone()
    with torch.no_grad():
        for layer in model.language_model.layers:
            for linear in [*layer.self_attn.children(), *layer.mlp.children()]:
                if isinstance(linear, torch.nn.Linear):
                    linear.weight.copy_(four_bits(linear.weight))
        model.language_model.embed_tokens.weight.copy_(head.half().float())
    return model, four_bits(head)


def test_what_a_checkpoint_says_it_was_taught_goes_with_its_engines(random_checkpoint, tmp_path):
    checkpoint = Path(shutil.copytree(random_checkpoint, tmp_path / "checkpoint"))
    write_taught_tasks(checkpoint, TaughtTasks(tasks=(Task.COUNT,)))
    engine = tmp_path / "engine"
    export_checkpoint(checkpoint, engine, precision="int4", golden=False, cache_length=384)
    assert "grounding.json" in verify_engine_dir(engine).files
    assert load_taught_tasks(engine) == TaughtTasks(tasks=(Task.COUNT,))


def test_int4_engines_agree_with_the_reference_on_the_weights_they_hold(
    random_engines, rounded, question, tmp_path
):
    """Closely where activations stay float32; within their own rounding where they become int8."""
    model, head = rounded
    truth = reference_logits(model, question, head)
    assert relative_error(engine_logits(random_engines["int4"], question), truth) < 0.03
    exact = Path(shutil.copytree(random_engines["int4"], tmp_path / "exact"))
    with_accuracy_level(exact, 1)
    assert relative_error(engine_logits(exact, question), truth) < 1e-4


def test_rounding_to_four_bits_is_seen_so_the_test_above_can_fail(reference, rounded, question):
    model, head = rounded
    error = relative_error(
        reference_logits(model, question, head),
        reference_logits(reference, question, reference.head_weight),
    )
    assert error > 0.05


def test_every_linear_of_an_int4_decoder_is_four_bit_and_none_of_the_towers(random_engines):
    operators = {
        name: [n.op_type for n in graph_of(random_engines["int4"] / f"{name}.onnx").node]
        for name in ("vision", "decoder", "lm_head")
    }
    layers = 3
    assert operators["decoder"].count("MatMulNBits") == 7 * layers
    assert operators["lm_head"] == ["MatMulNBits"]
    assert "MatMulNBits" not in operators["vision"]


def test_a_decoder_takes_and_gives_what_the_contract_names(random_engines):
    graph = graph_of(random_engines["int4"] / "decoder.onnx")
    axes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    cache = ["B", 2, "cache_length", 32]
    buffers = [f"{kind}_{layer}" for layer in range(3) for kind in ("key", "value")]
    assert axes == {
        "token_embeds": ["B", "T", 64],
        "rope_cos": ["B", "T", 16],
        "rope_sin": ["B", "T", 16],
        "visual_rows": ["B", "T"],
        "visual_embeds": ["V", 64],
        "deepstack_embeds": [3, "V", 64],
        "cached_tokens": ["B"],
        "output_rows": ["R"],
        "hidden_states": ["B", "R", 64],
        **{f"past_{name}": cache for name in buffers},
        **{f"present_{name}": cache for name in buffers},
    }


def test_a_tied_float32_head_is_stored_once(random_engines):
    """The head graph points into the embedding table, which the host reads too."""
    directory = random_engines["float32"]
    (head,) = graph_of(directory / "lm_head.onnx").initializer
    where = {entry.key: entry.value for entry in head.external_data}
    table = np.load(directory / "embed_tokens.npy")
    assert (head.name, where["location"]) == (EMBEDDING, "embed_tokens.npy")
    assert int(where["length"]) == table.nbytes
    assert int(where["offset"]) == (directory / "embed_tokens.npy").stat().st_size - table.nbytes
    assert not (directory / "lm_head.onnx.data").exists()


def test_weights_are_stored_as_the_checkpoint_has_them_and_nothing_twice(
    random_engines, reference
):
    directory = random_engines["float32"]
    parameters = sum(weight.numel() for weight in reference.parameters())
    stored = sum(file.stat().st_size for file in directory.glob("*.data"))
    stored += (directory / "embed_tokens.npy").stat().st_size
    assert 4 * parameters * 0.98 < stored < 4 * parameters * 1.02


def test_an_int4_engine_is_small(random_engines):
    sizes = {
        precision: (random_engines[precision] / "decoder.onnx.data").stat().st_size
        for precision in ("float32", "int4")
    }
    assert sizes["int4"] < sizes["float32"] / 6  # 5 bits a weight with the scales


def test_an_engine_directory_is_whole_and_says_where_it_came_from(
    random_engines, random_checkpoint
):
    manifest = verify_engine_dir(random_engines["int4"], flavour="onnxruntime")
    assert (manifest.precision, manifest.model_type) == ("int4", "qwen3_vl")
    assert manifest.max_visual_tokens == 75  # 76800 pixels of 32 x 32
    assert manifest.tools.keys() >= {"torch", "onnx"}
    assert manifest.weights_sha256 == verify_engine_dir(random_engines["float32"]).weights_sha256
    for name in ("tokenizer.json", "chat_template.jinja"):
        copy = random_engines["int4"] / name
        assert copy.read_bytes() == (random_checkpoint / name).read_bytes()


def test_the_same_checkpoint_gives_the_same_bytes(random_checkpoint, random_engines, tmp_path):
    heard: list[str] = []
    again = export_checkpoint(
        random_checkpoint,
        tmp_path / "again",
        precision="int4",
        cache_length=verify_engine_dir(random_engines["int4"]).cache_length,
        progress=lambda file, done, total: heard.append(f"{file} {done <= total}"),
    )
    assert again == verify_engine_dir(random_engines["int4"])
    assert {"vision.onnx True", "decoder.onnx True", "lm_head.onnx True"} == set(heard)


@pytest.fixture
def checkpoint(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "checkpoint"))


def without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def with_config(**text: int) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        config["text_config"] |= text
        (directory / "config.json").write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("spoil", "options", "error", "message"),
    [
        pytest.param(
            without("tokenizer.json"), {}, CheckpointError, "no tokenizer.json", id="no-tokenizer"
        ),
        pytest.param(
            without("model.safetensors"), {}, CheckpointError, "no weights", id="no-weights"
        ),
        pytest.param(
            with_config(intermediate_size=96),
            {},
            CheckpointError,
            "has shape",
            id="weights-of-another-config",
        ),
        pytest.param(
            lambda d: None, {"precision": "int3"}, ConfigError, "one of float32, ", id="precision"
        ),
        pytest.param(
            lambda d: None, {"cache_length": 75}, ConfigError, "more than the 75", id="short-cache"
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_and_the_old_engine_stays(
    checkpoint, random_engines, tmp_path, spoil, options, error, message
):
    engine_dir = Path(shutil.copytree(random_engines["int4"], tmp_path / "engine"))
    before = verify_engine_dir(engine_dir)
    spoil(checkpoint)
    with pytest.raises(error, match=message):
        export_checkpoint(checkpoint, engine_dir, **({"precision": "int4"} | options))
    assert verify_engine_dir(engine_dir) == before
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "engine"}


def test_a_directory_of_something_else_is_not_written_over(checkpoint):
    with pytest.raises(EngineError, match="will not replace"):
        export_checkpoint(checkpoint, checkpoint, precision="int4")
    assert (checkpoint / "model.safetensors").exists()


def test_a_checkpoints_files_are_looked_at_once_for_all_precisions(
    random_checkpoint, tmp_path, monkeypatch
):
    """The command looked, and then each of its exports again."""
    looked: list[Path] = []
    tensor_files = checkpoint_module.tensor_files

    def counted(directory: Path) -> dict[str, Path]:
        looked.append(directory)
        return tensor_files(directory)

    monkeypatch.setattr(checkpoint_module, "tensor_files", counted)
    command = ["export", "--checkpoint", str(random_checkpoint), "--output", str(tmp_path)]
    assert cli.main([*command, "--precision", "int4", "int8", "--no-golden"]) == 0
    assert looked == [random_checkpoint]
    for name in ("onnxruntime-int4", "onnxruntime-int8"):
        verify_engine_dir(tmp_path / name)
