# SPDX-License-Identifier: Apache-2.0
"""What the torch reference makes of the golden picture, for an engine to be held against.

Knows the picture and the question, which are one for all engines (`golden_scene.png`, rendered by
`synthetic/`), and how to ask a checkpoint of any size (`streamed_reference.py`). The outputs are
of the checkpoint, not of a precision: every flavour and precision carries the same.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..image.preprocess import load_preprocess_config, patches_from_image
from ..language.chat_template import load_chat_style
from ..language.prompt import prompt_from_query
from ..language.tokenizer import load_tokenizer
from ..model.golden import (
    ANSWER_LOGITS,
    GOLDEN_FILE,
    MOST_ANSWER_TOKENS,
    Golden,
    kept_logit_ids,
    kept_visual_rows,
    write_golden,
)
from ..model_config import load_model_config
from ..runtime.manifest import CHECKPOINT_FILES, sha256_of_file
from ..scene.detections import Query, Task
from .engine_files import OPTIONAL_FILES
from .stored_weights import StoredWeights
from .streamed_reference import StreamedReference
from .streamed_tensor import Progress

_LOG = logging.getLogger(__name__)

PICTURE = Path(__file__).with_name("golden_scene.png")
QUERY = Query(task=Task.REFER, text="red cylinder", max_objects=1)
TRUE_ANSWER = '```json\n[\n\t{"bbox_2d": [584, 192, 756, 454], "label": "red cylinder"}\n]\n```'
MOST_PASSES = 16  # after the prompt's; the tiny checkpoint takes 6


def write_golden_outputs(
    engine_dir: Path,
    weights: StoredWeights,
    *,
    weights_sha256: str,
    cache_length: int,
    progress: Progress | None = None,
) -> None:
    """`golden.npz` of an engine directory; without room for the question, a warning instead.

    Args:
        engine_dir: being filled; holds its tokenizer and configs already.
        weights: the checkpoint's, checked.
        weights_sha256: of their files.
        cache_length: tokens that the engine's cache holds.
        progress: called with a name, tokens done and tokens in all.
    """
    golden = _once(
        _Asked(
            fingerprint=_fingerprint(engine_dir, weights_sha256),
            directory=engine_dir,
            weights=weights,
            weights_sha256=weights_sha256,
            progress=progress,
        )
    )
    if len(golden.input_ids) >= cache_length:
        _LOG.warning(
            "no golden outputs: the question takes %d tokens and the cache holds %d, so nobody "
            "can check this engine; export with a larger --cache-length",
            len(golden.input_ids),
            cache_length,
        )
        return
    write_golden(golden, engine_dir / GOLDEN_FILE)


def golden_outputs(
    directory: Path,
    weights: StoredWeights,
    *,
    weights_sha256: str,
    progress: Progress | None = None,
) -> Golden:
    """The reference's answer to the golden question, in float32 and greedy.

    Args:
        directory: tokenizer, template and configs, as the engine will have them.
        weights: the checkpoint's, checked.
        weights_sha256: of their files.
        progress: called with a name, tokens done and tokens in all.
    """
    config, tokenizer = load_model_config(directory), load_tokenizer(directory)
    image = np.asarray(Image.open(PICTURE).convert("RGB"))
    patches = patches_from_image(image, load_preprocess_config(directory))
    style = load_chat_style(directory)
    prompt = prompt_from_query(QUERY, patches.grid_thw, tokenizer, config, style=style)
    reference = StreamedReference(weights, config)
    visual = reference.encode(patches.pixel_values, patches.grid_thw)
    first_logits = reference.prefill(
        prompt.input_ids,
        visual,
        patches.grid_thw,
        capacity=len(prompt.input_ids) + MOST_ANSWER_TOKENS,
    )
    answer_ids, likeliest = _greedy_answer(
        reference,
        first_logits,
        np.array(tokenizer.encode(TRUE_ANSWER), np.int64),
        prompt_tokens=len(prompt.input_ids),
        eos_token_ids=tokenizer.eos_token_ids,
        progress=progress,
    )
    rows, ids = kept_visual_rows(len(visual.image_embeds)), kept_logit_ids(first_logits)
    by_size = np.argsort(-likeliest, axis=1, kind="stable")[:, :ANSWER_LOGITS]
    return Golden(
        weights_sha256=weights_sha256,
        image=image,
        query=QUERY,
        input_ids=prompt.input_ids,
        visual_rows=rows,
        image_embeds=visual.image_embeds.numpy()[rows],
        deepstack_embeds=visual.deepstack_embeds.numpy()[:, rows],
        logit_ids=ids,
        logits=first_logits[ids],
        answer_ids=answer_ids,
        answer_logit_ids=by_size.astype(np.int64),
        answer_logits=np.take_along_axis(likeliest, by_size, axis=1),
        answer_text=tokenizer.decode(answer_ids.tolist()),
    )


def _greedy_answer(
    reference: StreamedReference,
    logits: npt.NDArray[np.float32],
    draft: npt.NDArray[np.int64],
    *,
    prompt_tokens: int,
    eos_token_ids: Collection[int],
    progress: Progress | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(A,) tokens of the likeliest answer, and (A, vocab_size) logits in each of their places.

    A pass reads all weights whatever its width, so the true answer goes along as a draft: what it
    has in common with the reference's costs nothing, and where they differ the rest is tried anew
    behind the reference's own token (a digit is one token, so places stay the same). The answer is
    the one that token after token would give, but ends after `MOST_PASSES`.
    """
    answer: list[int] = []
    places: list[npt.NDArray[np.float32]] = []
    rows, passes = logits[None], 0
    while True:
        for row in rows:
            answer.append(int(row.argmax()))
            places.append(row)
            if progress is not None:
                progress("golden answer", len(answer), MOST_ANSWER_TOKENS)
            ended = answer[-1] in eos_token_ids or len(answer) == MOST_ANSWER_TOKENS
            if ended or draft[len(answer) - 1 : len(answer)].tolist() != answer[-1:]:
                break
        if ended or passes == MOST_PASSES:
            return np.array(answer, np.int64), np.stack(places)
        width = MOST_ANSWER_TOKENS - len(answer)
        window = np.concatenate([answer[-1:], draft[len(answer) :][: width - 1]])
        rows = reference.decode(window.astype(np.int64), after=prompt_tokens + len(answer) - 1)
        passes += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A checkpoint, told from others by its fingerprint alone."""

    fingerprint: str
    directory: Path = field(compare=False)
    weights: StoredWeights = field(compare=False)
    weights_sha256: str = field(compare=False)
    progress: Progress | None = field(compare=False)


@functools.lru_cache(maxsize=2)
def _once(asked: _Asked) -> Golden:
    """A second precision of one checkpoint does not ask again."""
    return golden_outputs(
        asked.directory,
        asked.weights,
        weights_sha256=asked.weights_sha256,
        progress=asked.progress,
    )


def _fingerprint(directory: Path, weights_sha256: str) -> str:
    """Of everything that the outputs depend on."""
    files = (directory / name for name in (*CHECKPOINT_FILES, *OPTIONAL_FILES))
    hashes = [sha256_of_file(file) for file in files if file.is_file()]
    return hashlib.sha256("".join([weights_sha256, *hashes]).encode()).hexdigest()
