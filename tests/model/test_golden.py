# SPDX-License-Identifier: Apache-2.0
"""The reference's outputs as a file: written as they are read, and damaged ones are an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.model.golden import (
    GOLDEN_FILE,
    VISUAL_ROWS,
    kept_logit_ids,
    kept_visual_rows,
    read_golden,
    write_golden,
)

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny"


def test_golden_outputs_are_written_as_they_are_read(tmp_path):
    golden = read_golden(TINY / "onnxruntime-int4" / GOLDEN_FILE)
    write_golden(golden, tmp_path / "one.npz")
    write_golden(read_golden(tmp_path / "one.npz"), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert golden.frame.image.shape == (240, 320, 3)
    assert golden.image_embeds.shape == (VISUAL_ROWS, 256)
    assert golden.deepstack_embeds.shape == (3, VISUAL_ROWS, 256)
    assert golden.answer_logit_ids[:, 0].tolist() == golden.answer_ids.tolist()


def test_every_engine_that_ships_carries_the_same_outputs_and_they_are_small():
    files = [TINY / f"onnxruntime-{name}" / GOLDEN_FILE for name in ("float32", "int4")]
    one, two = (file.read_bytes() for file in files)
    assert one == two
    assert len(one) < 100_000


def flip_bytes(file: Path) -> None:
    """In the middle of the compressed picture."""
    content = bytearray(file.read_bytes())
    content[2000:2100] = bytes(byte ^ 0xFF for byte in content[2000:2100])
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: file.write_bytes(b"PK"), id="no archive"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-9]), id="truncated"),
        pytest.param(lambda file: flip_bytes(file), id="damaged"),
        pytest.param(lambda file: file.unlink(), id="missing"),
        pytest.param(lambda file: np.savez(file, image=np.zeros(3)), id="arrays missing"),
        pytest.param(
            lambda file: np.savez(file, **dict(np.load(file)) | {"logits": np.zeros(3)}), id="kind"
        ),
        pytest.param(
            lambda file: np.savez(file, **dict(np.load(file)) | {"words": np.uint8([91, 93])}),
            id="words",
        ),
    ],
)
def test_golden_outputs_that_cannot_be_read_are_an_error_of_the_engine(tmp_path, damage):
    file = Path(shutil.copy(TINY / "onnxruntime-int4" / GOLDEN_FILE, tmp_path / GOLDEN_FILE))
    damage(file)
    with pytest.raises(EngineError, match="cannot read the golden outputs") as refusal:
        read_golden(file)
    assert refusal.value.field == f"files.{GOLDEN_FILE}"


def test_rows_and_logits_are_kept_by_a_fixed_choice():
    assert kept_visual_rows(5).tolist() == [0, 1, 2, 3, 4]
    assert len(set(kept_visual_rows(300).tolist())) == VISUAL_ROWS
    logits = np.arange(1000, dtype=np.float32)
    kept = kept_logit_ids(logits)
    assert kept[:3].tolist() == [999, 998, 997]
    assert len(set(kept.tolist())) == 512
    assert kept.tolist() == kept_logit_ids(logits).tolist()
    assert sorted(kept_logit_ids(logits[:20]).tolist()) == list(range(20))
