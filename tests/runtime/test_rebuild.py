# SPDX-License-Identifier: Apache-2.0
"""The command that makes an engine anew, and where it puts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.runtime.manifest import read_manifest
from qwen3vl_ros.runtime.rebuild import rebuild_advice

COMMAND = "build it again with: qwen3vl export --checkpoint <checkpoint> --output /robot"
ELSEWHERE = "(which writes /robot/onnxruntime-{}; name that one, or rename it to eyes)"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        pytest.param("onnxruntime-int4", COMMAND, id="its own name"),
        pytest.param("eyes", f"{COMMAND} {ELSEWHERE.format('<precision>')}", id="renamed"),
    ],
)
def test_an_engine_that_cannot_be_read_is_made_where_exports_go(name, advice):
    assert rebuild_advice(Path("/robot") / name) == advice


@pytest.mark.parametrize(
    ("name", "where"),
    [
        pytest.param("onnxruntime-int4", "", id="its own name"),
        pytest.param("eyes", f" {ELSEWHERE.format('int4')}", id="renamed"),
    ],
)
def test_one_that_can_be_read_is_made_in_its_own_precision(name, where):
    """Once the command's engine stood beside the damaged one, and nobody was told."""
    manifest = read_manifest(tiny_engine_directory())
    assert rebuild_advice(Path("/robot") / name, manifest) == f"{COMMAND} --precision int4{where}"


def test_an_engine_under_the_name_of_another_precision_is_renamed_too():
    manifest = replace(read_manifest(tiny_engine_directory()), precision="int8")
    advice = rebuild_advice(Path("/robot/onnxruntime-int4"), manifest)
    assert "writes /robot/onnxruntime-int8" in advice
