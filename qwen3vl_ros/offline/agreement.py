# SPDX-License-Identifier: Apache-2.0
"""How far an engine is from the reference model, on questions about rendered scenes.

Knows engines, the reference and scenes; no precision and no flavour. The reference is float32
torch with the checkpoint's own weights. Both are told the true answer token by token and asked for
the next (teacher forcing), so that one early slip does not make all that follows incomparable; the
engine over its cache, as it runs: the prompt in one pass, the answer in a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..image.preprocess import Patches, load_preprocess_config, patches_from_image
from ..language.prompt import prompt_from_query
from ..language.tokenizer import load_tokenizer
from ..model.decoder import Decoder
from ..model.vision import VisionEncoder, VisualEmbeds
from ..model_config import load_model_config
from ..runtime.loading import Engines
from ..scene.detections import Query, Task
from ..synthetic.dataset import HELD_OUT_SEED, bbox_3d_of, is_worth_asking, scene_from_seed
from ..synthetic.questions import KnownObject, answer_text, box_3d_line, box_line
from ..synthetic.rendering import Rendered
from .reference_generation import encode_pictures, prompt_hidden_states
from .reference_model import ReferenceModel

Float32 = npt.NDArray[np.float32]
LINES = {Task.REFER: box_line, Task.DETECT_3D: box_3d_line}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtQuestion:
    """A question about a picture, and its true answer.

    Attributes:
        patches: of the picture; questions about one picture share them.
        input_ids: (T,) int64, the prompt.
        answer_ids: (A,) int64, the answer, the end of the turn included.
    """

    patches: Patches
    input_ids: npt.NDArray[np.int64]
    answer_ids: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a model says to a `TaughtQuestion`.

    Attributes:
        image_embeds: (V, D) float32.
        logits: (A, vocab_size) float32, before each token of the answer.
    """

    image_embeds: Float32
    logits: Float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Of an engine with the reference, over all answer tokens of all questions.

    Attributes:
        tokens: of the answers.
        max_abs: largest difference of two logits.
        max_rel: largest distance of the logits before one token, as vectors, in parts of the
            reference's.
        mean_rel: distance of all logits as one vector, in parts of the reference's.
        top1: share of tokens before which both find the same one likeliest.
        image_cosine: of an image row and the reference's; the least.
    """

    tokens: int
    max_abs: float
    max_rel: float
    mean_rel: float
    top1: float
    image_cosine: float


def taught_questions(
    checkpoint_dir: Path, *, scenes: int, first_seed: int = HELD_OUT_SEED
) -> Iterator[TaughtQuestion]:
    """Every object of `scenes` rendered scenes that shows enough of itself, asked in 2D and 3D.

    Args:
        checkpoint_dir: its tokenizer and preprocessing are used; an engine directory has them too.
        scenes: number of seeds.
        first_seed: of them; those nobody learned from unless said otherwise.
    """
    config, tokenizer = load_model_config(checkpoint_dir), load_tokenizer(checkpoint_dir)
    preprocess = load_preprocess_config(checkpoint_dir)
    end_of_turn = tokenizer.token_id("<|im_end|>")
    for seed in range(first_seed, first_seed + scenes):
        _, _, rendered = scene_from_seed(seed, width=640, height=480)
        patches = patches_from_image(rendered.image, preprocess)
        for known in _known(rendered):
            for task, line in LINES.items():
                query = Query(task=task, text=known.name)
                prompt = prompt_from_query(query, patches.grid_thw, tokenizer, config)
                answer_ids = [*tokenizer.encode(answer_text([line(known)])), end_of_turn]
                yield TaughtQuestion(
                    patches=patches, input_ids=prompt.input_ids, answer_ids=np.array(answer_ids)
                )


def _known(rendered: Rendered) -> list[KnownObject]:
    height, width = rendered.depth_m.shape
    scale = 1000 / np.array([width, height, width, height])
    return [
        KnownObject(
            name=truth.solid.name,
            xyxy_norm1000=truth.xyxy_px * scale,
            bbox_3d=bbox_3d_of(truth.box.T_frame_box, truth.box.size_m),
        )
        for index, truth in enumerate(rendered.truth)
        if is_worth_asking(rendered, index)
    ]


@torch.no_grad()
def said_by_reference(model: ReferenceModel, question: TaughtQuestion) -> Said:
    """From one pass of torch over prompt and answer."""
    patches, told = question.patches, question.answer_ids[:-1]
    visual = encode_pictures(model, torch.from_numpy(patches.pixel_values), patches.grid_thw)
    hidden = prompt_hidden_states(
        model,
        np.concatenate([question.input_ids, told]),
        patches.pixel_values,
        patches.grid_thw,
    )
    logits = model.logits(hidden[0, -len(told) - 1 :])
    return Said(image_embeds=visual.image_embeds.numpy(), logits=logits.numpy())


class EngineSpeaker:
    """Engines, told the answers. Mutable (their cache); owned by one comparison."""

    def __init__(self, engines: Engines, directory: Path) -> None:
        config, manifest = load_model_config(directory), engines.manifest
        self._encoder = VisionEncoder(
            engines.vision, config.vision, max_visual_tokens=manifest.max_visual_tokens
        )
        self._decoder = Decoder(
            engines.decoder,
            engines.lm_head,
            engines.embed_tokens,
            config,
            cache_length=manifest.cache_length,
            stop_token_ids=(),
        )
        self._seen: tuple[Patches, VisualEmbeds] | None = None

    def said(self, question: TaughtQuestion) -> Said:
        """What the engines say; a picture is encoded once for all questions about it in turn."""
        if self._seen is None or self._seen[0] is not question.patches:
            self._seen = question.patches, self._encoder.encode(question.patches)
        visual = self._seen[1]
        first = self._decoder.prefill(question.input_ids, (visual,))
        rest = self._decoder.decode(question.answer_ids[:-1])
        return Said(image_embeds=visual.image_embeds, logits=np.concatenate([first[None], rest]))


def agreement(pairs: Sequence[tuple[Said, Said]]) -> Agreement:
    """Of what an engine said with what the reference said to the same questions, in that order."""
    got = np.concatenate([said.logits for said, _ in pairs])
    truth = np.concatenate([reference.logits for _, reference in pairs])
    off = np.linalg.norm(got - truth, axis=1)
    size = np.linalg.norm(truth, axis=1)
    return Agreement(
        tokens=len(truth),
        max_abs=float(np.abs(got - truth).max()),
        max_rel=float((off / size).max()),
        mean_rel=float(np.linalg.norm(off) / np.linalg.norm(size)),
        top1=float((got.argmax(axis=1) == truth.argmax(axis=1)).mean()),
        # Python's own min would pass over what is no number, unless it came first.
        image_cosine=float(
            np.min([_least_cosine(said.image_embeds, ref.image_embeds) for said, ref in pairs])
        ),
    )


def _least_cosine(a: Float32, b: Float32) -> float:
    """Of two rows of (V, D) each."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    cosines = (x * y).sum(axis=1) / np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    return float(cosines.min())
