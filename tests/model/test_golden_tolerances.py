# SPDX-License-Identifier: Apache-2.0
"""How far off an engine may be: by the parts of its precision's name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.golden_tolerances import decoder_tolerance, tower_tolerance
from qwen3vl_ros.runtime.manifest import read_manifest

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"


@pytest.mark.parametrize(
    ("precision", "tower", "first_error", "cosine"),
    [
        pytest.param("float32", "float32", 1e-3, 0.99999, id="float32"),
        pytest.param("int4", "float32", 0.5, 0.99999, id="int4"),
        pytest.param("int4-128", None, 0.5, 0.99999, id="a kind of int4"),
        pytest.param(
            "int4-tower16", "float32", 0.52, 0.999, id="the name says more than the field"
        ),
        pytest.param("float16", "float16", 0.04, 0.999, id="float16"),
        pytest.param("float32-tower8", "int8", 0.051, 0.99, id="a tower passes its errors on"),
        pytest.param("float32-cache8", "float32", 0.051, 0.99999, id="a cache adds its own"),
        pytest.param("float16-tower32", "float16", 0.02, 0.99999, id="a wider tower"),
    ],
)
def test_a_precision_has_its_limits(precision, tower, first_error, cosine):
    manifest = dataclasses.replace(
        read_manifest(TINY / "onnxruntime-int4"), precision=precision, vision_precision=tower
    )
    assert decoder_tolerance(manifest).first_error == pytest.approx(first_error)
    assert tower_tolerance(manifest).cosine == cosine


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"precision": "int3"}, "precision", id="decoder"),
        pytest.param({"vision_precision": "int4"}, "vision_precision", id="tower"),
    ],
)
def test_a_precision_of_which_nothing_is_known_is_not_called_right(fields, named):
    manifest = dataclasses.replace(read_manifest(TINY / "onnxruntime-int4"), **fields)
    with pytest.raises(EngineError, match="nothing says how right") as refusal:
        (decoder_tolerance if named == "precision" else tower_tolerance)(manifest)
    assert refusal.value.field == named
