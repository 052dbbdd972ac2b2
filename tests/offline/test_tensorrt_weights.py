# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits as TensorRT wants them: positive scales, no zero point, whole blocks."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.offline.quantization import float_from_blocks, int4_from_float
from qwen3vl_ros.offline.tensorrt_weights import (
    float_from_positive_int4,
    positive_int4,
    positive_int8,
)

FLOAT16 = np.float16


@pytest.mark.parametrize("block_size", [32, 128])
def test_no_weight_is_further_off_than_a_step_and_most_than_half_of_one(block_size):
    rows = 64
    weight = np.random.default_rng(0).normal(size=(rows, 256)).astype(np.float32)
    got = positive_int4(weight, block_size=block_size, scale_type=FLOAT16)
    off = np.abs(float_from_positive_int4(got) - weight).reshape(rows, -1, block_size)
    # One step where the largest weight's code would be 8, which there is not.
    assert (off.max(axis=2) <= got.scales * 1.01).all()
    assert np.median(off / got.scales[..., None]) < 0.27  # of an even spread it is a quarter
    assert (got.scales > 0).all()


def test_scales_are_the_numbers_that_will_be_stored():
    weight = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    scales = positive_int4(weight, block_size=32, scale_type=FLOAT16).scales
    assert (scales.astype(np.float16).astype(np.float32) == scales).all()


def test_a_block_of_zeros_stays_zero_with_a_scale_above_zero():
    got = positive_int4(np.zeros((2, 64), np.float32), block_size=32, scale_type=FLOAT16)
    assert (got.scales.astype(np.float16) > 0).all()
    assert not float_from_positive_int4(got).any()


def test_rounding_errs_hardly_more_than_the_other_flavours():
    """That one may give scales either sign, so that the largest weight is always exact."""
    weight = np.random.default_rng(2).normal(size=(64, 1024)).astype(np.float32)
    here = float_from_positive_int4(positive_int4(weight, block_size=32, scale_type=FLOAT16))
    there = float_from_blocks(int4_from_float(weight))
    error, other = np.linalg.norm(here - weight), np.linalg.norm(there - weight)
    assert error < 1.06 * other
    assert error > 0.05 * np.linalg.norm(weight)


def test_of_eight_bits_no_weight_is_further_off_than_half_a_step():
    weight = np.random.default_rng(3).normal(size=(64, 256)).astype(np.float32)
    codes, scales = positive_int8(weight, scale_type=FLOAT16)
    off = np.abs(codes * scales[:, None] - weight)
    # A scale that was rounded down when it was stored puts the largest weight a little beyond 127.
    assert (off <= scales[:, None] * 0.57).all()
    assert np.linalg.norm(off) < 0.01 * np.linalg.norm(weight)
    assert (np.abs(codes).max(axis=1) == 127).all()
    assert (scales.astype(np.float16).astype(np.float32) == scales).all()


def test_a_row_of_zeros_stays_zero_with_a_scale_above_zero():
    codes, scales = positive_int8(np.zeros((2, 64), np.float32), scale_type=FLOAT16)
    assert (scales.astype(np.float16) > 0).all()
    assert not codes.any()
