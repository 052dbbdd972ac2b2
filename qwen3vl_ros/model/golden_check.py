# SPDX-License-Identifier: Apache-2.0
"""An engine is asked the golden question, and held against what the reference said.

Knows what is compared and when it is off; the limits are `golden_tolerances.py`'s. Catches what no
hash can: weights of another model, a runtime that computes an operator differently, a machine
whose numbers are wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from ..errors import AnswerError, EngineError
from ..language.answers import read_answer
from ..language.chat_template import ChatStyle
from ..language.parsing import Answer
from ..language.prompt import chat_from_query
from ..runtime.manifest import Manifest, read_manifest
from ..runtime.rebuild import rebuild_advice
from ..scene.geometry import overlap_of_boxes
from .golden import GOLDEN_FILE, MOST_ANSWER_TOKENS, Golden, read_golden
from .golden_tolerances import (
    DecoderTolerance,
    TowerTolerance,
    decoder_tolerance,
    tower_tolerance,
)
from .local_model import LocalModel, Rehearsal
from .stopwatch import Stopwatch

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearness:
    """Rows of the tower beside the reference's: (R, D) each.

    Attributes:
        cosine: smallest between a row and the reference's; 0 where either is nothing.
        error: largest distance of two rows, in parts of the reference's length.
    """

    cosine: float
    error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenNumbers:
    """What came of holding an engine against the reference.

    Attributes:
        image_embeds: the tower's last rows.
        deepstack_embeds: the three taps'.
        first_error: distance of the kept logits after the prompt, in parts of the reference's
            length.
        first_max_abs: largest difference of two of them.
        first_token_lag: by how much the reference holds our likeliest token to be less likely
            than its own, as a difference of logits; 0 where they are one.
        answer_error: distance of the likeliest logits in all places of the reference's answer, as
            we continue it, in parts of the reference's length.
        equal_tokens: of our own answer, before the first that differs.
        answer_tokens: of the reference's answer.
        overlap: smallest intersection over union of a box of the reference's answer and ours;
            None where the reference's answer holds no box.
        answer_text: ours.
        seconds: that it took.
    """

    image_embeds: Nearness
    deepstack_embeds: tuple[Nearness, ...]
    first_error: float
    first_max_abs: float
    first_token_lag: float
    answer_error: float
    equal_tokens: int
    answer_tokens: int
    overlap: float | None
    answer_text: str
    seconds: float

    def __str__(self) -> str:
        cosines = ", ".join(f"{tap.cosine:.6f}" for tap in self.deepstack_embeds)
        boxes = "no box to compare" if self.overlap is None else f"boxes IoU {self.overlap:.3f}"
        return (
            f"vision cosine {self.image_embeds.cosine:.6f}, taps {cosines}; first logits off by "
            f"{self.first_error:.2g} of their length ({self.first_max_abs:.2g} at most), the "
            f"answer's by {self.answer_error:.2g}; {self.equal_tokens} of {self.answer_tokens} "
            f"tokens equal, {boxes}"
        )


def check_golden(model: LocalModel, engine_dir: Path) -> GoldenNumbers | None:
    """Hold a loaded engine against the reference's outputs in its directory.

    Args:
        model: loaded from `engine_dir`; its cache holds the golden question afterwards.
        engine_dir: whose files were checked against the manifest when it was loaded.

    Returns:
        The numbers, all within their limits; None where the engine came without such outputs.

    Raises:
        EngineError: it is off; says by how much, and the command that builds it again.
    """
    manifest = read_manifest(engine_dir)
    if GOLDEN_FILE not in manifest.files:
        return None
    golden = read_golden(engine_dir / GOLDEN_FILE)
    advice = rebuild_advice(engine_dir, manifest)
    if golden.weights_sha256 != manifest.weights_sha256:
        raise EngineError(
            f"the golden outputs are of weights with sha256 {golden.weights_sha256[:12]}, the "
            f"engine of {manifest.weights_sha256[:12]}; {advice}",
            field="weights_sha256",
        )
    tower, decoder = tower_tolerance(manifest), decoder_tolerance(manifest)
    started = time.monotonic()
    sight = model.see(golden.frame, watch=Stopwatch())
    rehearsal = model.rehearse(
        chat_from_query(golden.query, sight.parts),
        [sight],
        along=golden.answer_ids,
        rows_at_once=_rows_at_once(manifest),
    )
    seconds = time.monotonic() - started
    if not np.array_equal(rehearsal.input_ids, golden.input_ids):
        raise EngineError(
            f"the golden question is {len(rehearsal.input_ids)} other tokens than the "
            f"{len(golden.input_ids)} it was: tokenizer, template or preprocessing of the engine "
            f"are not the checkpoint's; {advice}"
        )
    rows = golden.visual_rows
    numbers = _numbers(
        golden,
        rehearsal,
        image_embeds=sight.embeds.image_embeds[rows],
        deepstack_embeds=sight.embeds.deepstack_embeds[:, rows],
        thinking=model.style is ChatStyle.THINKING,
        seconds=seconds,
    )
    if faults := _faults(numbers, tower, decoder):
        raise EngineError(
            "the engine does not say what the checkpoint's reference said about the golden "
            f"picture: {'; '.join(faults)}. Its weights or its runtime are at fault: {advice}"
        )
    return numbers


def _rows_at_once(manifest: Manifest) -> int:
    """Of which one pass gives logits: as many as there are, unless a plan's profiles say less."""
    profiles = manifest.profiles.get("decoder.plan", ())
    return max((each["output_rows"].max[0] for each in profiles), default=MOST_ANSWER_TOKENS)


def _numbers(
    golden: Golden,
    rehearsal: Rehearsal,
    *,
    image_embeds: Floats,
    deepstack_embeds: Floats,
    thinking: bool,
    seconds: float,
) -> GoldenNumbers:
    first, places = rehearsal.logits[0, golden.logit_ids], len(rehearsal.logits)
    along = np.take_along_axis(rehearsal.logits, golden.answer_logit_ids[:places], axis=1)
    ours, theirs = rehearsal.answer_ids, golden.answer_ids[: len(rehearsal.answer_ids)]
    differs = np.flatnonzero(ours[: len(theirs)] != theirs)
    return GoldenNumbers(
        image_embeds=_nearness(image_embeds, golden.image_embeds),
        deepstack_embeds=tuple(
            _nearness(tap, reference)
            for tap, reference in zip(deepstack_embeds, golden.deepstack_embeds, strict=True)
        ),
        first_error=_error(first, golden.logits),
        first_max_abs=float(np.abs(first - golden.logits).max()),
        first_token_lag=_lag(golden, int(rehearsal.logits[0].argmax())),
        answer_error=_error(along, golden.answer_logits[:places]),
        equal_tokens=int(differs[0]) if len(differs) else len(theirs),
        answer_tokens=len(golden.answer_ids),
        overlap=_overlap(golden, rehearsal.answer_text, thinking=thinking),
        answer_text=rehearsal.answer_text,
        seconds=seconds,
    )


def _error(got: Floats, truth: Floats) -> float:
    return float(np.linalg.norm(got - truth) / np.linalg.norm(truth))


def _nearness(got: Floats, truth: Floats) -> Nearness:
    """Rows (R, D) beside rows."""
    lengths = np.linalg.norm(truth, axis=1)
    products = np.linalg.norm(got, axis=1) * lengths
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.where(products > 0, (got * truth).sum(axis=1) / products, 0.0)
        errors = np.linalg.norm(got - truth, axis=1) / lengths
    return Nearness(cosine=float(cosines.min()), error=float(errors.max()))


def _lag(golden: Golden, token: int) -> float:
    """Infinite for a token that the reference holds to be less likely than all it kept."""
    (kept,) = np.nonzero(golden.logit_ids == token)
    return float(golden.logits.max() - golden.logits[kept[0]]) if len(kept) else float("inf")


def _overlap(golden: Golden, answer_text: str, *, thinking: bool) -> float | None:
    wanted = _boxes(golden, golden.answer_text, thinking=thinking)
    if not wanted:
        return None
    got = _boxes(golden, answer_text, thinking=thinking)
    return min(max((overlap_of_boxes(a, b) for b in got), default=0.0) for a in wanted)


def _boxes(golden: Golden, text: str, *, thinking: bool) -> list[npt.NDArray[np.float64]]:
    height, width = golden.image.shape[:2]
    try:
        answer = cast(
            Answer,
            read_answer(text, golden.query, width=width, height=height, thinking=thinking),
        )
    except AnswerError:
        return []
    return [found.xyxy_px for found in answer.objects if found.xyxy_px is not None]


def _faults(numbers: GoldenNumbers, tower: TowerTolerance, decoder: DecoderTolerance) -> list[str]:
    """What is off, in words; written so that NaN is."""
    faults = []
    taps = {f"deepstack tap {index}": tap for index, tap in enumerate(numbers.deepstack_embeds)}
    for name, rows in {"image rows": numbers.image_embeds, **taps}.items():
        if not rows.cosine >= tower.cosine:
            faults.append(
                f"{name} have a cosine of {rows.cosine:.6f}, expected at least {tower.cosine}"
            )
        if not rows.error <= tower.error:
            faults.append(
                f"{name} are off by {rows.error:.2g} of their length, expected {tower.error:g}"
            )
    for name, error, limit in (
        ("the first logits are", numbers.first_error, decoder.first_error),
        ("the logits along the answer are", numbers.answer_error, decoder.answer_error),
    ):
        if not error <= limit:
            faults.append(f"{name} off by {error:.2g} of their length, expected {limit:g}")
    # Another token is no fault where the two are closer than rounding may move them.
    if not numbers.first_token_lag <= 2 * numbers.first_max_abs:
        faults.append(
            f"the first token is one that the reference holds to be {numbers.first_token_lag:.2g} "
            "less likely than its own, as a logit, expected the reference's"
        )
    if numbers.overlap is not None and not numbers.overlap >= decoder.overlap:
        faults.append(
            f"its boxes overlap the reference's by {numbers.overlap:.3f} (IoU), expected at least "
            f"{decoder.overlap}; it said {numbers.answer_text!r}"
        )
    return faults
