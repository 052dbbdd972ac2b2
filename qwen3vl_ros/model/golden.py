# SPDX-License-Identifier: Apache-2.0
"""One picture, one question, and what the torch reference said when an engine was exported.

Knows the file (`golden.npz` of an engine directory, listed in its manifest), no engine and no
torch: `offline/golden_outputs.py` writes one, `golden_check.py` holds an engine against it.

Small for a model of any size: of the tower's rows some are kept, of the logits the largest and a
sample of the rest.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, QueryError
from ..scene.camera import Frame
from ..scene.detections import Query, Task

GOLDEN_FILE = "golden.npz"
FORMAT_VERSION = 1

MOST_ANSWER_TOKENS = 48  # one box takes 34 tokens of Qwen's
VISUAL_ROWS = 16
LARGEST_LOGITS, SAMPLED_LOGITS = 64, 448
ANSWER_LOGITS = 16  # the largest, after each token of the answer
SEED = 0  # of which rows and which logits

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """The question, and the reference's answer to it. V image tokens, D hidden size.

    Attributes:
        weights_sha256: of the checkpoint that was asked, as its manifests have it.
        image: (h, w, 3) uint8, RGB.
        query: what is asked about it.
        input_ids: (T,) int64, the prompt.
        visual_rows: (R,) int64, which of the V rows are kept.
        image_embeds: (R, D) float32, of those rows.
        deepstack_embeds: (3, R, D) float32, of those rows.
        logit_ids: (K,) int64, tokens whose logits after the prompt are kept, largest first.
        logits: (K,) float32, theirs.
        answer_ids: (A,) int64, the greedy answer's tokens, at most `MOST_ANSWER_TOKENS`.
        answer_logit_ids: (A, 16) int64, the likeliest tokens in each of their places, in order;
            the first is the answer's.
        answer_logits: (A, 16) float32, theirs.
        answer_text: the answer in words.
    """

    weights_sha256: str
    image: npt.NDArray[np.uint8]
    query: Query
    input_ids: Int64
    visual_rows: Int64
    image_embeds: Float32
    deepstack_embeds: Float32
    logit_ids: Int64
    logits: Float32
    answer_ids: Int64
    answer_logit_ids: Int64
    answer_logits: Float32
    answer_text: str

    @property
    def frame(self) -> Frame:
        """The picture, of no camera and no moment."""
        return Frame(image=self.image, stamp_ns=0, frame_id="")


# Of the arrays: kind, and how many axes.
_ARRAYS: Mapping[str, tuple[npt.DTypeLike, int]] = {
    "image": (np.uint8, 3),
    "input_ids": (np.int64, 1),
    "visual_rows": (np.int64, 1),
    "image_embeds": (np.float32, 2),
    "deepstack_embeds": (np.float32, 3),
    "logit_ids": (np.int64, 1),
    "logits": (np.float32, 1),
    "answer_ids": (np.int64, 1),
    "answer_logit_ids": (np.int64, 2),
    "answer_logits": (np.float32, 2),
}
_WORDS = "words"
# What numpy, zipfile and zlib raise for an archive that is cut off or damaged, and what we do.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    NotImplementedError,
    BadZipFile,
    zlib.error,
    QueryError,
)


def kept_visual_rows(rows: int) -> Int64:
    """Which rows of a picture are kept, in order; all of them where there are few."""
    random = np.random.default_rng(SEED)
    return np.sort(random.permutation(rows)[:VISUAL_ROWS]).astype(np.int64)


def kept_logit_ids(logits: Float32) -> Int64:
    """Which tokens' logits are kept, (vocab_size,) to (K,): the largest, then some of the rest."""
    by_size = np.argsort(-logits, kind="stable")
    random = np.random.default_rng(SEED)
    rest = random.permutation(by_size[LARGEST_LOGITS:])[:SAMPLED_LOGITS]
    return np.concatenate([by_size[:LARGEST_LOGITS], rest]).astype(np.int64)


def write_golden(golden: Golden, file: Path) -> None:
    """One compressed file of plain arrays; equal values give equal bytes."""
    words = {
        "format_version": FORMAT_VERSION,
        "weights_sha256": golden.weights_sha256,
        "task": golden.query.task.value,
        "text": golden.query.text,
        "max_objects": golden.query.max_objects,
        "answer_text": golden.answer_text,
    }
    arrays: dict[str, npt.NDArray[Any]] = {name: getattr(golden, name) for name in _ARRAYS}
    arrays[_WORDS] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # no array is named so


def read_golden(file: Path) -> Golden:
    """As `write_golden` wrote it.

    Raises:
        EngineError: it is missing, damaged, or of another version.
    """
    try:
        # Opened here: numpy leaves what it cannot read open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (*_ARRAYS, _WORDS)}
        words = json.loads(arrays.pop(_WORDS).tobytes())
        if words["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"format_version is {words['format_version']}, expected {FORMAT_VERSION}"
            )
        for name, (kind, axes) in _ARRAYS.items():
            if arrays[name].dtype != kind or arrays[name].ndim != axes:
                raise ValueError(
                    f"{name} is {arrays[name].dtype} of {arrays[name].ndim} axes, expected "
                    f"{np.dtype(kind)} of {axes}"
                )
        query = Query(
            task=Task(words["task"]), text=words["text"], max_objects=words["max_objects"]
        )
        return Golden(
            weights_sha256=str(words["weights_sha256"]),
            query=query,
            answer_text=str(words["answer_text"]),
            **arrays,
        )
    except _UNREADABLE as error:
        raise EngineError(
            f"cannot read the golden outputs ({type(error).__name__}: {error}); export the engine "
            f"again: {file}",
            field=f"files.{GOLDEN_FILE}",
        ) from error
