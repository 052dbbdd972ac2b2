# SPDX-License-Identifier: Apache-2.0
"""No comparison with what is no number holds, and an engine is not called right by one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.golden import GOLDEN_FILE, read_golden, write_golden
from qwen3vl_ros.model.golden_check import check_golden
from qwen3vl_ros.model.local_model import LocalModel
from tests.rehashed import with_hashes_made_to_fit

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "onnxruntime-int4"


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        pytest.param("image_embeds", "image rows are off by nan", id="tower"),
        pytest.param("deepstack_embeds", "deepstack tap 0 are off by nan", id="tap"),
        pytest.param("logits", "first logits are off by nan", id="first"),
        pytest.param("answer_logits", "logits along the answer are off by nan", id="answer"),
    ],
)
def test_an_engine_is_not_right_where_there_is_no_number(tmp_path, field, fault):
    directory = Path(shutil.copytree(TINY, tmp_path / "engine"))
    golden = read_golden(directory / GOLDEN_FILE)
    numbers = getattr(golden, field).copy()
    numbers.flat[0] = np.nan
    write_golden(dataclasses.replace(golden, **{field: numbers}), directory / GOLDEN_FILE)
    with_hashes_made_to_fit(directory)
    with pytest.raises(EngineError, match=fault):
        check_golden(LocalModel.load(directory, threads=1), directory)
