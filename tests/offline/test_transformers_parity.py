# SPDX-License-Identifier: Apache-2.0
"""The reference model is transformers' Qwen3-VL, number for number.

Both sides get the same weights (through a checkpoint that we write and transformers loads) and
the same pictures. Each does its own preprocessing of images and its own positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import GenerationConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen3vl_ros.image.positions import text_positions, text_rotary
from qwen3vl_ros.image.preprocess import PreprocessConfig, patches_from_image
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.checkpoint import load_checkpoint, write_checkpoint
from qwen3vl_ros.offline.reference_generation import (
    encode_pictures,
    generate_greedy,
    prompt_hidden_states,
    visual_rows,
)
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.tiny import tiny_config

LOGITS_TOLERANCE = 1e-4  # float32, absolute; the logits themselves are of the order of 1
TINY_CHECKPOINT = Path(__file__).parents[2] / "engines" / "tiny" / "checkpoint"
WEIGHTS = ["random weights, tied head", "random weights, own head", "tiny checkpoint"]

PREPROCESS = PreprocessConfig(
    patch_size=16,
    temporal_patch_size=2,
    merge_size=2,
    min_pixels=4 * 32 * 32,
    max_pixels=20 * 32 * 32,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One set of weights, in our model and in transformers'."""

    ours: ReferenceModel
    theirs: Qwen3VLForConditionalGeneration


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Token ids and pictures, ours and as transformers wants them."""

    input_ids: npt.NDArray[np.int64]
    pixel_values: npt.NDArray[np.float32] | None
    grid_thw: npt.NDArray[np.int64] | None
    theirs: dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=WEIGHTS)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    random_model: Callable[..., ReferenceModel],
) -> Pair:
    if request.param == "tiny checkpoint":
        directory = TINY_CHECKPOINT
    else:
        directory = tmp_path_factory.mktemp("checkpoint")
        tied = request.param == "random weights, tied head"
        model = random_model(vocabulary_of_tiny(tie_word_embeddings=tied))
        write_checkpoint(model, directory, torch.float32)
    theirs = Qwen3VLForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    return Pair(ours=load_checkpoint(directory), theirs=theirs.eval())


def vocabulary_of_tiny(*, tie_word_embeddings: bool) -> ModelConfig:
    return tiny_config(
        vocab_size=800,
        image_token_id=790,
        video_token_id=791,
        vision_start_token_id=792,
        vision_end_token_id=793,
        tie_word_embeddings=tie_word_embeddings,
    )


def words(count: int, seed: int) -> list[int]:
    """Ids of ordinary tokens."""
    return np.random.default_rng(seed).integers(0, 256, count).tolist()


def picture(width: int, height: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prompt_of(kind: str, config: ModelConfig) -> Prompt:
    return {
        "text": text_prompt,
        "one image": lambda config: image_prompt(config, [(160, 96)]),
        "two images": lambda config: image_prompt(config, [(160, 96), (70, 130)]),
        "video": video_prompt,
    }[kind](config)


def text_prompt(config: ModelConfig) -> Prompt:
    ids = np.array(words(40, seed=0))
    return prompt_from(ids, config, pixel_values=None, grid_thw=None, theirs={})


def image_prompt(config: ModelConfig, sizes_wh: list[tuple[int, int]]) -> Prompt:
    """Words, an image, words, an image, ... words."""
    images = [picture(*size, seed=seed) for seed, size in enumerate(sizes_wh)]
    patches = [patches_from_image(image, PREPROCESS) for image in images]
    ids = words(5, seed=0)
    for seed, one in enumerate(patches):
        tokens = int(one.grid_thw.prod()) // 4
        ids += [config.vision_start_token_id, *[config.image_token_id] * tokens]
        ids += [config.vision_end_token_id, *words(4, seed=seed + 1)]
    size = {"shortest_edge": PREPROCESS.min_pixels, "longest_edge": PREPROCESS.max_pixels}
    processor = Qwen2VLImageProcessorPil(
        patch_size=16, size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    theirs = processor(images, return_tensors="pt")
    return prompt_from(
        np.array(ids),
        config,
        pixel_values=np.concatenate([one.pixel_values for one in patches]),
        grid_thw=np.concatenate([one.grid_thw for one in patches]),
        theirs={"pixel_values": theirs.pixel_values, "image_grid_thw": theirs.image_grid_thw},
    )


def video_prompt(config: ModelConfig) -> Prompt:
    """Three temporal patches of two frames each; before each, a timestamp, which is text."""
    frames = [patches_from_image(picture(96, 64, seed), PREPROCESS) for seed in range(6)]
    _, h, w = frames[0].grid_thw[0].tolist()
    values = np.stack([frame.pixel_values.reshape(h * w, 3, 2, 256) for frame in frames])
    # The first of the two temporal slices is the earlier frame, the second is the later.
    values = np.stack([values[0::2, :, :, 0], values[1::2, :, :, 0]], axis=3)
    pixel_values = values.reshape(3 * h * w, 1536)
    grid_thw = np.array([[3, h, w]], np.int64)
    ids = words(3, seed=0)
    for second in range(3):
        ids += words(7, seed=second + 1)
        ids += [config.vision_start_token_id, *[config.video_token_id] * (h * w // 4)]
        ids += [config.vision_end_token_id]
    theirs = {
        "pixel_values_videos": torch.from_numpy(pixel_values),
        "video_grid_thw": torch.from_numpy(grid_thw),
    }
    return prompt_from(
        np.array(ids + words(6, seed=9)),
        config,
        pixel_values=pixel_values,
        grid_thw=grid_thw,
        theirs=theirs,
    )


def prompt_from(
    ids: npt.NDArray[np.int64],
    config: ModelConfig,
    *,
    pixel_values: npt.NDArray[np.float32] | None,
    grid_thw: npt.NDArray[np.int64] | None,
    theirs: dict[str, torch.Tensor],
) -> Prompt:
    batch = torch.from_numpy(ids)[None]
    kinds = (batch == config.image_token_id) + 2 * (batch == config.video_token_id)
    theirs = {
        "input_ids": batch,
        "attention_mask": torch.ones_like(batch),
        "mm_token_type_ids": kinds.int(),
        **theirs,
    }
    return Prompt(input_ids=ids, pixel_values=pixel_values, grid_thw=grid_thw, theirs=theirs)


def our_logits(model: ReferenceModel, prompt: Prompt) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(
            prompt_hidden_states(model, prompt.input_ids, prompt.pixel_values, prompt.grid_thw)
        )


def their_logits(pair: Pair, prompt: Prompt) -> torch.Tensor:
    pair.theirs.model.rope_deltas = None  # transformers keeps the last prompt's
    with torch.no_grad():
        return pair.theirs(**prompt.theirs).logits


@pytest.mark.parametrize("kind", ["text", "one image", "two images", "video"])
def test_logits_are_those_of_transformers(pair: Pair, kind: str) -> None:
    prompt = prompt_of(kind, pair.ours.config)
    ours, theirs = our_logits(pair.ours, prompt), their_logits(pair, prompt)
    assert theirs.std() > 0.5  # flat logits would agree whatever the model did
    torch.testing.assert_close(ours, theirs, atol=LOGITS_TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["two images", "video"])
def test_sixty_four_greedy_tokens_are_those_of_transformers(pair: Pair, kind: str) -> None:
    prompt = prompt_of(kind, pair.ours.config)
    ours = generate_greedy(
        pair.ours, prompt.input_ids, prompt.pixel_values, prompt.grid_thw, max_new_tokens=64
    )
    pair.theirs.model.rope_deltas = None
    pair.theirs.generation_config = GenerationConfig()
    theirs = pair.theirs.generate(**prompt.theirs, do_sample=False, max_new_tokens=64)
    assert ours == theirs[0, len(prompt.input_ids) :].tolist()
    assert len(ours) == 64


@pytest.fixture(scope="module")
def model(random_model: Callable[..., ReferenceModel]) -> ReferenceModel:
    """Random weights in the tiny shape, for tests that break something on purpose."""
    return random_model(vocabulary_of_tiny(tie_word_embeddings=True))


def broken_logits(
    model: ReferenceModel,
    prompt: Prompt,
    *,
    deepstack_order: Sequence[int | None] = (0, 1, 2),
    axis_order: Sequence[int] = (0, 1, 2),
) -> torch.Tensor:
    """Logits with deepstack taps exchanged or dropped (None), or position axes exchanged."""
    assert prompt.pixel_values is not None
    assert prompt.grid_thw is not None
    position_ids, _ = text_positions(prompt.input_ids, prompt.grid_thw, model.config)
    cos, sin = text_rotary(position_ids[list(axis_order)], model.config.text)
    ids = torch.from_numpy(prompt.input_ids)[None]
    with torch.no_grad():
        visual = encode_pictures(model, torch.from_numpy(prompt.pixel_values), prompt.grid_thw)
        nothing = torch.zeros_like(visual.image_embeds)
        deepstack = [
            nothing if tap is None else visual.deepstack_embeds[tap] for tap in deepstack_order
        ]
        hidden = model.language_model(
            model.language_model.embed_tokens(ids),
            torch.from_numpy(cos)[None],
            torch.from_numpy(sin)[None],
            visual_rows(ids, model.config),
            visual.image_embeds,
            torch.stack(deepstack),
        )
        return model.logits(hidden)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param({"deepstack_order": [None, 1, 2]}, id="first deepstack tap dropped"),
        pytest.param({"deepstack_order": [0, None, 2]}, id="second deepstack tap dropped"),
        pytest.param({"deepstack_order": [0, 1, None]}, id="third deepstack tap dropped"),
        pytest.param({"deepstack_order": [1, 0, 2]}, id="deepstack taps exchanged"),
        pytest.param({"axis_order": [0, 2, 1]}, id="rows taken for columns"),
        pytest.param({"axis_order": [1, 0, 2]}, id="rows taken for time"),
    ],
)
def test_parity_would_notice_a_mistake(model: ReferenceModel, mistake: dict[str, list]) -> None:
    """The tolerance is only worth something if wrong models are far outside it."""
    prompt = prompt_of("one image", model.config)
    right = our_logits(model, prompt)
    torch.testing.assert_close(broken_logits(model, prompt), right, atol=1e-6, rtol=0)
    difference = (broken_logits(model, prompt, **mistake) - right)[0, -1].abs().max()
    assert difference > 100 * LOGITS_TOLERANCE
