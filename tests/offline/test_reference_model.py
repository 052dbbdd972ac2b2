# SPDX-License-Identifier: Apache-2.0
"""What training and comparison rely on: batches, caches, masks, gradients, seeds.

That the numbers are Qwen3-VL's is shown in `test_transformers_parity.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qwen3vl_ros.errors import ContextError
from qwen3vl_ros.image.positions import text_rotary
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.family import RELEASED
from qwen3vl_ros.offline.reference_decoder import KVCache
from qwen3vl_ros.offline.reference_generation import (
    encode_pictures,
    generate_greedy,
    prompt_hidden_states,
)
from qwen3vl_ros.offline.reference_model import ReferenceModel, init_weights


@pytest.fixture(scope="module")
def small(
    small_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> ReferenceModel:
    return random_model(small_config)


def rope_of(count: int, model: ReferenceModel) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = text_rotary(np.tile(np.arange(count), (3, 1)), model.config.text)
    return torch.from_numpy(cos)[None], torch.from_numpy(sin)[None]


def token_embeds(model: ReferenceModel, count: int, batch: int = 1) -> torch.Tensor:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (batch, count)))
    return model.language_model.embed_tokens(ids)


def test_a_batch_of_images_is_each_image_by_itself(small: ReferenceModel) -> None:
    one_by_one = np.array([[1, 4, 6], [1, 4, 6]])
    together = np.array([[2, 4, 6]])
    pixels = torch.randn(48, 1536, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        apart = encode_pictures(small, pixels, one_by_one)
        batched = encode_pictures(small, pixels, together)
    assert batched.image_embeds.shape == (12, 24)
    assert batched.deepstack_embeds.shape == (3, 12, 24)
    torch.testing.assert_close(batched.image_embeds, apart.image_embeds)
    torch.testing.assert_close(batched.deepstack_embeds, apart.deepstack_embeds)


@pytest.mark.parametrize("passes", [[9], [4, 5], [1, 7, 1], [1] * 9], ids=str)
def test_passes_over_a_cache_equal_one_pass_without(
    small: ReferenceModel, passes: list[int]
) -> None:
    decoder = small.language_model
    with torch.no_grad():
        embeds, (cos, sin) = token_embeds(small, 9), rope_of(9, small)
        cache = KVCache(decoder.config, batch=1, capacity=9, like=embeds)
        outputs, start = [], 0
        for count in passes:
            now = slice(start, start + count)
            outputs.append(decoder(embeds[:, now], cos[:, now], sin[:, now], cache=cache))
            start += count
        whole = decoder(embeds, cos, sin)
    assert cache.length == 9
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-5, rtol=0)


def test_a_full_cache_refuses_another_token(small: ReferenceModel) -> None:
    cache = KVCache(small.config.text, batch=1, capacity=3, like=small.head_weight)
    with torch.no_grad(), pytest.raises(ContextError, match=r"4 tokens do not fit a cache of 3"):
        small.language_model(token_embeds(small, 4), *rope_of(4, small), cache=cache)


def test_without_a_mask_attention_is_causal(small: ReferenceModel) -> None:
    causal = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        embeds, rope = token_embeds(small, 7, batch=2), rope_of(7, small)
        unmasked = small.language_model(embeds, *rope)
        masked = small.language_model(embeds, *rope, attention_mask=causal)
    torch.testing.assert_close(masked, unmasked, atol=1e-5, rtol=0)


def test_a_mask_can_hide_one_answer_from_the_next(small: ReferenceModel) -> None:
    """Training packs several questions behind one image: 2 shared tokens, then 3 and 3."""
    mask = torch.ones(8, 8, dtype=torch.bool).tril()
    mask[5:, 2:5] = False
    embeds, (cos, sin) = token_embeds(small, 8), rope_of(8, small)
    second = [0, 1, 5, 6, 7]
    with torch.no_grad():
        packed = small.language_model(embeds, cos, sin, attention_mask=mask[None, None])
        alone = small.language_model(embeds[:, second], cos[:, second], sin[:, second])
    torch.testing.assert_close(packed[:, second], alone, atol=1e-5, rtol=0)


def test_layer_outputs_hold_every_layer_before_the_final_norm(small: ReferenceModel) -> None:
    layer_outputs: list[torch.Tensor] = []
    with torch.no_grad():
        hidden = small.language_model(
            token_embeds(small, 5), *rope_of(5, small), layer_outputs=layer_outputs
        )
        assert len(layer_outputs) == 4
        torch.testing.assert_close(small.language_model.norm(layer_outputs[-1]), hidden)


def test_every_weight_learns(
    small_config: ModelConfig, random_model: Callable[..., ReferenceModel]
) -> None:
    """A detached tensor or a merger that is never called would leave a gradient empty."""
    model = random_model(small_config)
    ids = np.array([1, 2, 62, *[60] * 6, 63, 3, 4])
    pixels = np.random.default_rng(0).standard_normal((24, 1536)).astype(np.float32)
    hidden = prompt_hidden_states(model, ids, pixels, np.array([[1, 4, 6]]))
    target = torch.from_numpy(ids[1:])
    torch.nn.functional.cross_entropy(model.logits(hidden[0, :-1]), target).backward()
    idle = [n for n, w in model.named_parameters() if w.grad is None or not w.grad.any()]
    assert idle == []


def test_in_half_precision_the_answer_stays_close(small_config: ModelConfig) -> None:
    whole, half = ReferenceModel(small_config), ReferenceModel(small_config)
    for model in (whole, half):
        init_weights(model, seed=0, std=0.12)
    half.to(torch.bfloat16)
    with torch.no_grad():
        rope = rope_of(6, whole)
        expected = whole.language_model(token_embeds(whole, 6), *rope)
        hidden = half.language_model(token_embeds(half, 6), *rope)
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(hidden.float(), expected, atol=0.05, rtol=0.05)


def test_generation_ends_with_a_stop_id(small: ReferenceModel) -> None:
    ids = np.array([1, 2, 3])
    free = generate_greedy(small, ids, max_new_tokens=8)
    stop = free[3]
    ended = generate_greedy(small, ids, max_new_tokens=8, stop_ids=frozenset({stop}))
    assert ended == free[: free.index(stop) + 1]


def test_a_seed_fixes_every_weight(small_config: ModelConfig) -> None:
    first, second, other = (ReferenceModel(small_config) for _ in range(3))
    for model, seed in ((first, 7), (second, 7), (other, 8)):
        init_weights(model, seed=seed)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.head_weight, other.head_weight)
    assert first.head_weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(first.language_model.norm.weight, torch.ones(24))


@pytest.mark.parametrize("boundary", [4, 11, 14], ids="cache ends at {}".format)
def test_a_conversation_continues_over_the_cache_of_its_beginning(
    small: ReferenceModel, boundary: int
) -> None:
    """Before the first picture, inside it, and between the two."""
    ids = np.array([1, 2, 3, 62, *[60] * 6, 63, 4, 5, 6, 62, *[60] * 4, 63, 7, 8])
    grids = np.array([[1, 4, 6], [1, 4, 4]])
    pixels = np.random.default_rng(0).standard_normal((40, 1536)).astype(np.float32)
    with torch.no_grad():
        whole = prompt_hidden_states(small, ids, pixels, grids)
        cache = KVCache(small.config.text, batch=1, capacity=len(ids), like=small.head_weight)
        # The beginning is put there by hand: the same keys and values, whoever computed them.
        full = KVCache(small.config.text, batch=1, capacity=len(ids), like=small.head_weight)
        prompt_hidden_states(small, ids, pixels, grids, cache=full)
        cache.keys[..., :boundary, :] = full.keys[..., :boundary, :]
        cache.values[..., :boundary, :] = full.values[..., :boundary, :]
        cache.length = boundary
        if boundary == 14:
            pixels[:24] = np.nan  # a picture whose rows are all there is not looked at again
        rest = prompt_hidden_states(small, ids, pixels, grids, cache=cache)
    assert cache.length == len(ids)
    torch.testing.assert_close(rest, whole[:, boundary:], atol=1e-5, rtol=0)


def test_an_answer_continues_over_the_cache_of_an_earlier_turn(small: ReferenceModel) -> None:
    ids = np.array([1, 2, 62, *[60] * 6, 63, 3])
    pixels = np.random.default_rng(0).standard_normal((24, 1536)).astype(np.float32)
    grid = np.array([[1, 4, 6]])
    cache = KVCache(small.config.text, batch=1, capacity=64, like=small.head_weight)
    answer = generate_greedy(small, ids, pixels, grid, max_new_tokens=5, cache=cache)
    assert cache.length == len(ids) + 4
    talk = np.concatenate([ids, answer, [9, 10, 11]])
    over_cache = generate_greedy(small, talk, pixels, grid, max_new_tokens=8, cache=cache)
    assert over_cache == generate_greedy(small, talk, pixels, grid, max_new_tokens=8)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("2B", 2_127_532_032),
        ("4B", 4_437_815_808),
        ("8B", 8_767_123_696),
        ("32B", 33_357_390_064),
        ("30B-A3B", 31_070_754_032),
        ("235B-A22B", 235_670_022_896),
    ],
)
def test_released_sizes_have_their_number_of_parameters(size: str, parameters: int) -> None:
    """The 8B count is half the bytes in the published index of its bfloat16 shards."""
    with torch.device("meta"):
        model = ReferenceModel(RELEASED[size])
    assert sum(weight.numel() for weight in model.parameters()) == parameters
