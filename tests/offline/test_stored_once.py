# SPDX-License-Identifier: Apache-2.0
"""Head and embedding: every table lies in a directory once, and is read into memory once."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import save_file

from qwen3vl_ros.model_config import ModelConfig, load_model_config
from qwen3vl_ros.offline.checkpoint import EMBEDDING, load_checkpoint
from qwen3vl_ros.offline.engine_files import refer_to_table, write_table
from qwen3vl_ros.offline.export import export_checkpoint
from qwen3vl_ros.offline.graph_weights import attach_weights
from qwen3vl_ros.offline.graphs import head_graph
from qwen3vl_ros.offline.precisions import precision_from_name
from qwen3vl_ros.offline.stored_weights import StoredWeights
from qwen3vl_ros.offline.streamed_tensor import save
from qwen3vl_ros.offline.tensorrt_choices import GraphChoices, OperatorSet
from qwen3vl_ros.offline.tensorrt_export import export_for_tensorrt
from qwen3vl_ros.runtime.manifest import EMBEDDING_FILE

INT4_BITS = 4 + 32 / 32  # and a float32 scale for each block of 32
LOADED = """
import sys
import numpy as np
from qwen3vl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

def resident_mb():
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024

before = resident_mb()
head = OnnxRuntimeEngine(__import__("pathlib").Path(sys.argv[1]) / "lm_head.onnx", threads=1)
table = np.load(f"{sys.argv[1]}/embed_tokens.npy", mmap_mode="r")
row = table[[7, 70]].astype(np.float32)[None]
head.run({"hidden_states": row})
print(resident_mb() - before)
"""


@pytest.mark.parametrize(
    ("flavour", "precision", "bits", "table_bits", "head_bits"),
    [
        pytest.param("onnxruntime", "float32", 32, 32, 0, id="float32"),
        pytest.param("onnxruntime", "float16", 16, 16, 0, id="float16"),
        pytest.param("onnxruntime", "bfloat16", 16, 16, 0, id="bfloat16"),
        pytest.param("onnxruntime", "int4", INT4_BITS, 16, INT4_BITS, id="int4, the head's own"),
        pytest.param("tensorrt", "float16", 16, 16, 0, id="tensorrt, float16"),
    ],
)
def test_bytes_are_those_of_each_weight_once(
    random_checkpoint, tmp_path, flavour, precision, bits, table_bits, head_bits
):
    directory = tmp_path / "engine"
    if flavour == "onnxruntime":
        export_checkpoint(random_checkpoint, directory, precision=precision, golden=False)
    else:
        choices = GraphChoices(
            operators=OperatorSet.FUSED,
            precision=precision,
            vision_precision="float16",
            cache_length=384,
        )
        export_for_tensorrt(random_checkpoint, directory, choices)
    model = load_checkpoint(random_checkpoint)
    tower = sum(weight.numel() for weight in model.visual.parameters())
    layers = sum(weight.numel() for weight in model.language_model.layers.parameters())
    table = model.language_model.embed_tokens.weight.numel()
    tower_bits = 16 if bits == 16 else 32
    expected = (tower * tower_bits + layers * bits + table * (table_bits + head_bits)) / 8
    if (flavour, precision) == ("onnxruntime", "float16"):  # pixels and positions stay whole
        visual = model.visual
        expected += 2 * (visual.patch_embed.proj.weight.numel() + visual.pos_embed.weight.numel())
    stored = sum(file.stat().st_size for file in directory.glob("*.data"))
    stored += (directory / EMBEDDING_FILE).stat().st_size
    # Norms are whole, small tensors lie in the graphs, rows of 80 fill blocks of 96.
    assert 0.96 * expected < stored < 1.06 * expected
    assert table * table_bits / 8 > 0.07 * expected, "too small to be seen twice"


@pytest.fixture(scope="module")
def wide(
    random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelConfig, Path]:
    """A model of 120,000 rows of 256, and its table: 123 MB in float32."""
    config = load_model_config(random_checkpoint)
    text = dataclasses.replace(config.text, vocab_size=120_000, hidden_size=256)
    file = tmp_path_factory.mktemp("wide") / "model.safetensors"
    save_file({EMBEDDING: torch.randn(text.vocab_size, text.hidden_size)}, file)
    return dataclasses.replace(config, text=text), file


@pytest.mark.parametrize(
    ("precision", "most"),
    [
        pytest.param("float32", 1.25, id="float32: the head's memory, no more"),
        pytest.param("int4", 0.35, id="int4: five bits a weight, and rows of the table as asked"),
    ],
)
def test_memory_holds_a_tied_table_once(wide, tmp_path, precision, most):
    config, file = wide
    weights, numbers = StoredWeights(files={EMBEDDING: file}), precision_from_name(precision)
    write_table(weights, tmp_path / EMBEDDING_FILE, numbers.table)
    model = head_graph(config)
    attach_weights(model, weights, numbers)
    if numbers.bits is None:
        refer_to_table(model, tmp_path)
        ir.save(model, tmp_path / "lm_head.onnx")
    else:
        save(model, tmp_path / "lm_head.onnx")
    table_mb = 4 * config.text.vocab_size * config.text.hidden_size / 2**20
    run = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) < most * table_mb
    assert np.load(tmp_path / EMBEDDING_FILE, mmap_mode="r").shape == (120_000, 256)
