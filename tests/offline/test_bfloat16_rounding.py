# SPDX-License-Identifier: Apache-2.0
"""What a plan in bfloat16 may cost: torch rounds every operator's output to it, as a plan does.

ONNX Runtime has no bfloat16 on the CPU, and no GPU is here. That TensorRT rounds as torch does,
once an operator with sums in float32, is what its strongly typed networks promise and what was not
yet seen.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from qwen3vl_ros.image.positions import text_rotary
from qwen3vl_ros.image.preprocess import load_preprocess_config, patches_from_image
from qwen3vl_ros.model.golden import read_golden
from qwen3vl_ros.model.golden_tolerances import DECODERS, decoder_tolerance, tower_tolerance
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.family import RELEASED
from qwen3vl_ros.offline.reference_decoder import TextDecoder
from qwen3vl_ros.offline.reference_generation import encode_pictures, prompt_hidden_states
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.tensorrt_choices import OperatorSet
from qwen3vl_ros.offline.tensorrt_modules import exchanged
from qwen3vl_ros.runtime.manifest import read_manifest

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"
SHIPPED = TINY / "onnxruntime-float32"
PLANS = dataclasses.replace(
    read_manifest(SHIPPED),
    flavour="tensorrt",
    precision="bfloat16",
    vision_precision="bfloat16",
)


def error(got: Tensor, truth: Tensor) -> float:
    return float((got.float() - truth).norm() / truth.norm())


@torch.no_grad()
def said(model: ReferenceModel) -> tuple[Tensor, Tensor]:
    """Image rows (V, D) of the golden picture, and logits (A, vocab_size) along its answer."""
    golden = read_golden(SHIPPED / "golden.npz")
    patches = patches_from_image(golden.image, load_preprocess_config(TINY / "checkpoint"))
    pixels, told = torch.from_numpy(patches.pixel_values), golden.answer_ids[:-1]
    seen = encode_pictures(model, pixels, patches.grid_thw)
    ids = np.concatenate([golden.input_ids, told])
    hidden = prompt_hidden_states(model, ids, patches.pixel_values, patches.grid_thw)
    return seen.image_embeds, model.logits(hidden[0, -len(golden.answer_ids) :])


def test_the_tiny_checkpoint_in_bfloat16_is_far_within_what_a_plan_may_be_off():
    exact = load_checkpoint(TINY / "checkpoint").eval()
    narrow = copy.deepcopy(exact).bfloat16()
    exchanged(narrow.visual, OperatorSet.PLAIN)
    (rows, logits), (true_rows, true_logits) = said(narrow), said(exact)
    golden = read_golden(SHIPPED / "golden.npz")
    kept, likeliest = torch.from_numpy(golden.logit_ids), torch.from_numpy(golden.answer_logit_ids)
    first = error(logits[0, kept], true_logits[0, kept])
    answer = error(logits.gather(1, likeliest), true_logits.gather(1, likeliest))
    row = max(error(a, b) for a, b in zip(rows, true_rows, strict=True))
    tower, decoder = tower_tolerance(PLANS), decoder_tolerance(PLANS)
    assert 0.001 < first < decoder.first_error / 10
    assert 0.001 < answer < decoder.answer_error / 10
    assert 0.001 < row < tower.error / 10


def test_depth_adds_up_where_nothing_was_learned_and_is_allowed_for():
    """28 random layers, an eighth as wide as 2B's, were refused by what float32 sums may cost."""
    text = dataclasses.replace(
        RELEASED["2B"].text,
        hidden_size=256,
        intermediate_size=768,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=2000,
    )
    decoder, generator = TextDecoder(text).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.fill_(1) if weight.ndim == 1 else weight.normal_(std=0.05, generator=generator)
            weight.copy_(weight.bfloat16())  # as a released checkpoint stores them
        ids = torch.randint(0, text.vocab_size, (1, 120), generator=generator)
        angles = text_rotary(np.tile(np.arange(120), (3, 1)), text)
        cos, sin = (torch.from_numpy(array)[None] for array in angles)
        table = decoder.embed_tokens.weight
        truth = (decoder(table[ids], cos, sin) @ table.T)[0]
        narrow, table = copy.deepcopy(decoder).bfloat16(), table.bfloat16()
        got = (narrow(table[ids], cos, sin) @ table.T)[0]
    likeliest = truth.topk(16).indices
    own = decoder_tolerance(dataclasses.replace(PLANS, vision_precision="float32"))
    worst = max(error(a, b) for a, b in zip(got, truth, strict=True))
    assert DECODERS["bfloat16"].first_error < worst < own.first_error / 2
    assert error(got.gather(1, likeliest), truth.gather(1, likeliest)) < own.answer_error / 2


@pytest.mark.parametrize(
    ("flavour", "first_error"),
    [
        pytest.param("tensorrt", 0.1, id="computed in it"),
        pytest.param("tensorrt-rtx", 0.1, id="computed in it, too"),
        pytest.param("onnxruntime", 0.02, id="stored in it and computed in float32"),
    ],
)
def test_who_computes_in_bfloat16_may_be_further_off_than_who_stores_it(flavour, first_error):
    manifest = dataclasses.replace(PLANS, flavour=flavour, vision_precision="float32")
    assert decoder_tolerance(manifest).first_error == pytest.approx(first_error)
