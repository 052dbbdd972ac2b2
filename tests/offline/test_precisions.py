# SPDX-License-Identifier: Apache-2.0
"""Every precision says what the reference says with the weights that it holds, and no less."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3vl_ros import cli
from qwen3vl_ros.commands import export as export_command
from qwen3vl_ros.errors import CheckpointError, ConfigError
from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.offline.checkpoint import EMBEDDING, load_checkpoint
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.precisions import PRECISIONS, precision_from_name, with_tower
from qwen3vl_ros.runtime.manifest import read_manifest
from tests.offline.engines import (
    engine_logits,
    graph_of,
    reference_logits,
    relative_error,
    rounded,
    with_accuracy_level,
)

FLOAT, FLOAT16, BFLOAT16 = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)
CACHE_LENGTH = 384


@pytest.fixture(scope="module")
def engines(
    random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The random checkpoint's engine of a precision, exported when it is first asked for."""
    root = tmp_path_factory.mktemp("precisions")

    def exported(name: str) -> Path:
        directory = root / name
        if not directory.exists():
            export_checkpoint(
                random_checkpoint, directory, precision=name, cache_length=CACHE_LENGTH
            )
        return directory

    return exported


@pytest.fixture(scope="module")
def question(random_checkpoint: Path) -> tuple[np.ndarray, Patches]:
    rng = np.random.default_rng(0)
    pixel_values = rng.uniform(-1, 1, (24, 1536)).astype(np.float32)
    config = load_checkpoint(random_checkpoint).config
    ids = np.concatenate(
        [rng.integers(0, 200, 7), np.full(6, config.image_token_id), rng.integers(0, 200, 9)]
    )
    return ids, Patches(pixel_values=pixel_values, grid_thw=np.array([[1, 4, 6]]))


def half(weight: torch.Tensor) -> torch.Tensor:
    return weight.half().float()


def truth(
    checkpoint: Path,
    question: tuple[np.ndarray, Patches],
    *,
    tower: Callable[[torch.Tensor], torch.Tensor] | None = None,
    linears: Callable[[torch.Tensor], torch.Tensor] | None = None,
    table: Callable[[torch.Tensor], torch.Tensor] | None = None,
    head: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> np.ndarray:
    """The reference's logits, with weights changed as an engine's are."""
    model = load_checkpoint(checkpoint).eval()
    with torch.no_grad():
        own_head = (head or (lambda w: w))(model.head_weight.detach().clone())
        for part, change in ((model.visual, tower), (model.language_model.layers, linears)):
            for module in part.modules() if change else ():
                if isinstance(module, torch.nn.Linear):
                    module.weight.copy_(change(module.weight))
        if table:
            embedding = model.language_model.embed_tokens.weight
            embedding.copy_(table(embedding))
    return reference_logits(model, question, own_head)


def int8(weight: torch.Tensor) -> torch.Tensor:
    return rounded(weight, bits=8, block_size=128)


def int4_128(weight: torch.Tensor) -> torch.Tensor:
    return rounded(weight, bits=4, block_size=128)


@pytest.mark.parametrize(
    ("name", "held", "activations_whole", "tolerance"),
    [
        pytest.param("float32", {}, False, 1e-5, id="float32"),
        pytest.param(
            "float16",
            {"tower": half, "linears": half, "table": half, "head": half},
            False,
            3e-3,
            id="float16: activations are rounded, too",
        ),
        pytest.param("float16-tower32", {"linears": half, "table": half, "head": half}, False,
                     3e-3, id="float16 with a float32 tower"),
        pytest.param("int8", {"linears": int8, "table": half, "head": int8}, True,
                     1e-4, id="int8"),
        pytest.param("int4-128", {"linears": int4_128, "table": half, "head": int4_128}, True,
                     1e-4, id="int4, blocks of 128"),
        pytest.param("int4-a16", {"linears": rounded, "table": half, "head": rounded}, True,
                     3e-3, id="int4, activations and scales in float16"),
        pytest.param("int4-tower16",
                     {"tower": half, "linears": rounded, "table": half, "head": rounded}, True,
                     3e-3, id="int4 with a float16 tower"),
    ],
)  # fmt: skip
def test_an_engine_says_what_the_reference_says_with_the_weights_it_holds(
    random_checkpoint, engines, question, tmp_path, name, held, activations_whole, tolerance
):
    directory = engines(name)
    if activations_whole:  # not rounded to int8 for a product, so that weights alone count
        directory = Path(shutil.copytree(directory, tmp_path / "whole"))
        with_accuracy_level(directory, 1)
    wanted = truth(random_checkpoint, question, **held)
    assert relative_error(engine_logits(directory, question), wanted) < tolerance
    if name in ("int8", "int4-128"):  # and other weights would be seen
        unrounded = truth(random_checkpoint, question)
        assert relative_error(wanted, unrounded) > 10 * tolerance


def test_bfloat16_engines_hold_every_number_of_a_bfloat16_checkpoint(
    random_checkpoint, question, tmp_path
):
    """Released checkpoints are in bfloat16: nothing is rounded but the table, to float16."""
    checkpoint = Path(shutil.copytree(random_checkpoint, tmp_path / "checkpoint"))
    weights = load_file(checkpoint / "model.safetensors")
    save_file({n: w.bfloat16() for n, w in weights.items()}, checkpoint / "model.safetensors")
    export_checkpoint(
        checkpoint, tmp_path / "engine", precision="bfloat16", cache_length=CACHE_LENGTH
    )
    got = engine_logits(tmp_path / "engine", question)
    assert relative_error(got, truth(checkpoint, question, table=half, head=half)) < 1e-5
    assert relative_error(got, truth(random_checkpoint, question)) > 1e-3
    kinds = {
        weight.name: weight.data_type
        for weight in graph_of(tmp_path / "engine" / "decoder.onnx").initializer
        if weight.name.startswith("model.")
    }
    assert set(kinds.values()) == {BFLOAT16}


@pytest.mark.parametrize("name", ["float16", "int4-a16"])
def test_half_arithmetic_keeps_inputs_and_norms_in_float32_and_the_cache_in_float16(engines, name):
    graph = graph_of(engines(name) / "decoder.onnx")
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)
    }
    cache = {name for name in kinds if name.startswith(("past_", "present_"))}
    assert len(cache) == 12
    assert {kinds[name] for name in cache} == {FLOAT16}
    floats = {"token_embeds", "rope_cos", "visual_embeds", "deepstack_embeds", "hidden_states"}
    assert {kinds[name] for name in floats} == {FLOAT}
    norms = [weight for weight in graph.initializer if "norm" in weight.name]
    assert {weight.data_type for weight in norms} == {FLOAT}
    linears = [
        weight for weight in graph.initializer if weight.name.endswith("proj.weight.scales")
    ]
    linears += [weight for weight in graph.initializer if weight.name.endswith("proj.weight")]
    assert {weight.data_type for weight in linears} == {FLOAT16}


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_a_tied_head_of_whole_numbers_is_the_tables_own_bytes(engines, name):
    directory = engines(name)
    (head,) = graph_of(directory / "lm_head.onnx").initializer
    where = {entry.key: entry.value for entry in head.external_data}
    table = np.load(directory / "embed_tokens.npy")
    assert (head.name, where["location"]) == (EMBEDDING, "embed_tokens.npy")
    assert int(where["length"]) == table.nbytes
    assert int(where["offset"]) == (directory / "embed_tokens.npy").stat().st_size - table.nbytes
    assert not (directory / "lm_head.onnx.data").exists()


def test_sizes_follow_bits(engines):
    def size(name: str, file: str) -> int:
        return (engines(name) / file).stat().st_size

    decoder, tower = "decoder.onnx.data", "vision.onnx.data"
    assert size("float16", decoder) < 0.52 * size("float32", decoder)
    assert size("bfloat16", decoder) < 0.52 * size("float32", decoder)
    assert size("int4-tower16", tower) < 0.7 * size("int4", tower)  # the position table is large
    assert size("int4-tower16", decoder) == size("int4", decoder)
    assert size("float16-tower32", tower) == size("float32", tower)


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        pytest.param("model.visual.blocks.0.mlp.linear_fc1.weight", "int4-tower16", id="tower"),
        pytest.param("model.language_model.layers.1.mlp.up_proj.weight", "float16", id="decoder"),
        pytest.param(EMBEDDING, "int4", id="table"),
    ],
)
def test_what_float16_cannot_hold_is_refused_by_name(random_checkpoint, tmp_path, tensor, name):
    checkpoint = Path(shutil.copytree(random_checkpoint, tmp_path / "checkpoint"))
    weights = load_file(checkpoint / "model.safetensors")
    weights[tensor].view(-1)[5] = 70000.0
    save_file(weights, checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{tensor} holds 70000, which float16 cannot"):
        export_checkpoint(checkpoint, tmp_path / "engine", precision=name)
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("name", "tower", "label"),
    [
        pytest.param("int4", "float16", "int4-tower16", id="narrower"),
        pytest.param("float16", "float32", "float16-tower32", id="wider"),
        pytest.param("int4", "float32", "int4", id="as it is anyway"),
        pytest.param("float16", "float16", "float16", id="as the rest"),
        pytest.param("int4-tower16", None, "int4-tower16", id="as a manifest names it"),
    ],
)
def test_a_towers_precision_is_part_of_the_name_where_it_is_another(name, tower, label):
    assert with_tower(name, tower) == label
    assert precision_from_name(label).name == label


@pytest.mark.parametrize("name", ["int2", "int4-tower32", "float16-tower16", "-tower16"])
def test_a_name_that_means_nothing_is_refused(name):
    with pytest.raises(ConfigError, match="expected one of float32, bfloat16"):
        precision_from_name(name)


def test_the_command_offers_every_precision_and_takes_what_manifests_name(
    random_checkpoint, tmp_path, capsys
):
    assert tuple(PRECISIONS) == export_command.PRECISIONS
    named = (*export_command.WITH_CACHE, *export_command.WITH_TOWER)
    assert all(precision_from_name(name).name == name for name in named)
    arguments = ["export", "--checkpoint", str(random_checkpoint), "--output", str(tmp_path)]
    assert cli.main([*arguments, "--precision", "int4", "int8", "--tower", "float16"]) == 0
    manifests = {path.name: read_manifest(path) for path in tmp_path.iterdir()}
    assert {name: manifest.precision for name, manifest in manifests.items()} == {
        f"onnxruntime-{name}": name for name in ("int4-tower16", "int8-tower16")
    }
    said, bars = capsys.readouterr()
    begun = [line.split(":")[0] for line in said.splitlines()]
    assert begun == ["memory", "int4-tower16", "int8-tower16"]
    assert "peak resident memory" in said
    assert bars == ""  # nobody watches


def test_chat_templates_and_video_settings_go_along_where_the_checkpoint_has_them(
    random_checkpoint, tmp_path
):
    checkpoint = Path(shutil.copytree(random_checkpoint, tmp_path / "checkpoint"))
    (checkpoint / "chat_template.json").write_text(json.dumps({"chat_template": "{{ x }}"}))
    export_checkpoint(checkpoint, tmp_path / "engine", precision="int4")
    for name in ("chat_template.json", "chat_template.jinja", "video_preprocessor_config.json"):
        copy = tmp_path / "engine" / name
        assert copy.read_bytes() == (checkpoint / name).read_bytes()
        assert name in read_manifest(tmp_path / "engine").files


def test_whatever_the_pieces_weights_are_read_in_the_bytes_are_the_same(
    random_checkpoint, engines, tmp_path, monkeypatch
):
    read = sizes_of_pieces(monkeypatch, piece_bytes=2000)
    export_checkpoint(
        random_checkpoint, tmp_path / "again", precision="int4", cache_length=CACHE_LENGTH
    )
    assert max(read) <= max(2000, 4 * 1536 * 16)  # or one row, of whatever length
    assert read_manifest(tmp_path / "again") == read_manifest(engines("int4"))


def sizes_of_pieces(monkeypatch: pytest.MonkeyPatch, *, piece_bytes: int) -> list[int]:
    """Bytes of every piece that is read from now on, and how large they may be."""
    from qwen3vl_ros.offline.stored_weights import StoredWeights

    whole, sizes = StoredWeights.pieces, list[int]()

    def pieces(self: StoredWeights, name: str):
        for piece in whole(self, name, piece_bytes=piece_bytes):
            sizes.append(piece.nbytes)
            yield piece

    monkeypatch.setattr(StoredWeights, "pieces", pieces)
    return sizes
