# SPDX-License-Identifier: Apache-2.0
"""The decoder over its cache says what the torch reference says, and keeps count."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from qwen3vl_ros.errors import ContextError, QueryError
from qwen3vl_ros.image.preprocess import Patches
from qwen3vl_ros.model.decoder import Decoder, StopReason
from qwen3vl_ros.model.vision import VisualEmbeds
from qwen3vl_ros.offline.reference_generation import generate_greedy, prompt_hidden_states
from qwen3vl_ros.runtime.engine import Engine


def relative_error(got: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(got - truth).max() / np.abs(truth).max())


def unseen(visual: VisualEmbeds) -> VisualEmbeds:
    """The same rows as of another picture, so that a prompt about it is prefilled whole."""
    return dataclasses.replace(visual)


class Counting:
    """An `Engine` that counts the rows it is fed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.rows: list[int] = []
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.rows.append(feeds["token_embeds"].shape[1])
        return self._engine.run(feeds)


@pytest.fixture
def counted(engines, config) -> tuple[Decoder, Counting]:
    counting = Counting(engines.decoder)
    decoder = Decoder(
        counting,
        engines.lm_head,
        engines.embed_tokens,
        config,
        cache_length=engines.manifest.cache_length,
        stop_token_ids=(),
    )
    return decoder, counting


@pytest.fixture(scope="module")
def visual(vision_encoder, question):
    return vision_encoder.encode(question.patches)


@pytest.fixture(scope="module")
def reference_answer(reference, question) -> list[int]:
    """64 tokens after the question, by torch."""
    patches = question.patches
    return generate_greedy(
        reference, question.input_ids, patches.pixel_values, patches.grid_thw, max_new_tokens=64
    )


def test_the_logits_after_a_prompt_with_a_picture_are_the_references(
    decoder, visual, reference, question
):
    got = decoder.prefill(question.input_ids, [visual])
    patches = question.patches
    with torch.no_grad():
        hidden = prompt_hidden_states(
            reference, question.input_ids, patches.pixel_values, patches.grid_thw
        )
        truth = reference.logits(hidden)[0, -1].numpy()
    assert relative_error(got, truth) < 1e-4


def test_the_logits_after_text_alone_are_the_references(decoder, reference):
    input_ids = np.arange(20, 40)
    got = decoder.prefill(input_ids, [])
    with torch.no_grad():
        truth = reference.logits(prompt_hidden_states(reference, input_ids))[0, -1].numpy()
    assert relative_error(got, truth) < 1e-4


def test_sixty_four_greedy_tokens_are_the_references(decoder, visual, question, reference_answer):
    generation = decoder.generate(question.input_ids, [visual], max_new_tokens=64)
    assert list(generation.token_ids) == reference_answer
    assert len(set(reference_answer)) > 10, "an answer that repeats itself proves little"


@pytest.mark.parametrize("width", [1, 2, 7], ids="{}-at-a-time".format)
def test_tokens_appended_to_the_cache_are_as_if_they_had_been_in_the_prompt(
    decoder, visual, question, reference_answer, width
):
    answer = np.array(reference_answer[:21])
    decoder.prefill(question.input_ids, [visual])
    passes = [decoder.decode(answer[i : i + width]) for i in range(0, len(answer), width)]
    got = np.concatenate(passes)
    truth = np.stack(
        [
            decoder.prefill(
                np.concatenate([question.input_ids, answer[: n + 1]]), [unseen(visual)]
            )
            for n in range(len(answer))
        ]
    )
    assert got.shape == truth.shape
    assert relative_error(got, truth) < 1e-4


def test_one_question_leaves_nothing_behind_for_the_next(decoder, visual, question):
    """Rows of the last answer stay in the cache; they are overwritten before anyone looks."""
    first = decoder.generate(question.input_ids, [visual], max_new_tokens=8)
    decoder.generate(np.arange(100, 180), [], max_new_tokens=40)
    again = decoder.generate(question.input_ids, [visual], max_new_tokens=8)
    assert first.token_ids == again.token_ids
    assert first.logprobs.tolist() == again.logprobs.tolist()


def test_an_answer_ends_at_an_end_token_and_the_book_is_kept(
    decoder_stopping, visual, question, reference_answer
):
    end = next(token for token in reference_answer if token != reference_answer[0])
    length = reference_answer.index(end) + 1
    generation = decoder_stopping(end).generate(question.input_ids, [visual], max_new_tokens=64)
    assert list(generation.token_ids) == reference_answer[:length]
    assert generation.stop_reason is StopReason.END_TOKEN
    # The first token comes out of the prefill.
    assert generation.passes == length - 1
    assert generation.prompt_tokens == len(question.input_ids)
    assert generation.logprobs.shape == (length,)
    assert (generation.logprobs <= 0).all()


def test_the_log_probability_of_a_token_is_the_softmax_of_its_logits(decoder, visual, question):
    logits = decoder.prefill(question.input_ids, [visual]).astype(np.float64)
    generation = decoder.generate(question.input_ids, [visual], max_new_tokens=1)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert generation.passes == 0
    assert np.exp(generation.logprobs[0]) == pytest.approx(probabilities.max(), rel=1e-5)
    assert generation.stop_reason is StopReason.MAX_NEW_TOKENS


def test_the_prefill_is_told_of_before_the_first_token(decoder, visual, question):
    heard = []
    decoder.generate(
        question.input_ids,
        [visual],
        max_new_tokens=2,
        on_prefilled=lambda: heard.append("prefilled"),
    )
    assert heard == ["prefilled"]


def test_prompt_and_answer_that_do_not_fit_are_refused_before_any_work(decoder, engines):
    room = engines.manifest.cache_length
    decoder.generate(np.arange(20), [], max_new_tokens=2)
    with pytest.raises(
        ContextError, match=f"need a cache of {room + 1}, the engine's holds {room}"
    ):
        decoder.generate(np.arange(20), [], max_new_tokens=room - 19)


def test_the_cache_may_be_filled_to_its_last_row_and_no_further(decoder, engines):
    room = engines.manifest.cache_length
    generation = decoder.generate(np.arange(room - 3) % 200, [], max_new_tokens=3)
    assert len(generation.token_ids) == 3
    decoder.decode(np.array([1]))
    with pytest.raises(ContextError, match=f"{room + 1} tokens do not fit"):
        decoder.decode(np.array([1]))


def test_a_prompt_whose_image_tokens_are_not_the_pictures_is_refused(decoder, visual, question):
    with pytest.raises(QueryError, match="visual tokens"):
        decoder.prefill(question.input_ids[1:8], [visual])


def test_a_second_question_about_a_picture_is_prefilled_from_where_it_differs(
    counted, visual, question
):
    """5 words, 12 image tokens and 2 of 6 words are alike; 4 words and 3 more are not."""
    decoder, counting = counted
    decoder.generate(question.input_ids, [visual], max_new_tokens=3)
    other = np.concatenate([question.input_ids[:-4], np.arange(150, 157)])
    counting.rows.clear()
    got = decoder.prefill(other, [visual])
    assert counting.rows == [7]
    np.testing.assert_allclose(got, decoder.prefill(other, [unseen(visual)]), atol=1e-4)
    assert counting.rows == [7, len(other)]


def test_the_same_question_again_has_the_same_logits_from_two_rows(counted, visual, question):
    decoder, counting = counted
    first = decoder.prefill(question.input_ids, [visual])
    again = decoder.prefill(question.input_ids, [visual])
    assert counting.rows == [len(question.input_ids), 2]
    np.testing.assert_allclose(again, first, atol=1e-4)


@pytest.mark.parametrize("changed", ["picture", "word before it"])
def test_what_comes_after_a_difference_is_prefilled_whole(counted, visual, question, changed):
    decoder, counting = counted
    decoder.prefill(question.input_ids, [visual])
    input_ids = question.input_ids.copy()
    input_ids[4] += changed == "word before it"
    decoder.prefill(input_ids, [unseen(visual) if changed == "picture" else visual])
    assert counting.rows == [len(input_ids)] * 2


def test_a_chat_goes_on_in_the_cache_and_shows_another_picture(
    counted, visual, vision_encoder, question, reference
):
    """Turn 1: picture, answer. Turn 2 shows a second picture; its logits are the references."""
    decoder, counting = counted
    answer = decoder.generate(question.input_ids, [visual], max_new_tokens=9).token_ids
    other = dataclasses.replace(question.patches, pixel_values=question.patches.pixel_values[::-1])
    chat = np.concatenate([question.input_ids, answer, question.input_ids])
    counting.rows.clear()
    got = decoder.prefill(chat, [visual, vision_encoder.encode(other)])
    # The last token of the answer was never fed: it ended the answer.
    assert counting.rows == [1 + len(question.input_ids)]
    both = np.concatenate([question.patches.pixel_values, other.pixel_values])
    grids = np.concatenate([question.patches.grid_thw, other.grid_thw])
    with torch.no_grad():
        truth = reference.logits(prompt_hidden_states(reference, chat, both, grids))[0, -1]
    assert relative_error(got, truth.numpy()) < 1e-4


def test_an_answer_may_be_ended_by_who_listens_and_the_next_one_is_right(
    decoder, visual, question, reference_answer
):
    class Enough(Exception):
        pass

    heard: list[int] = []

    def listen(token: int) -> None:
        heard.append(token)
        if len(heard) == 3:
            raise Enough

    with pytest.raises(Enough):
        decoder.generate(question.input_ids, [visual], max_new_tokens=64, on_token=listen)
    assert heard == reference_answer[:3]
    again = decoder.generate(question.input_ids, [visual], max_new_tokens=64)
    assert list(again.token_ids) == reference_answer


def test_the_logits_after_a_video_and_a_picture_are_the_references(
    decoder, vision_encoder, config, reference, question
):
    """Three temporal patches with their times between them, then a picture of another shape."""
    rng = np.random.default_rng(3)
    video = Patches(
        pixel_values=rng.uniform(-1, 1, (3 * 16, config.vision.patch_dim)).astype(np.float32),
        grid_thw=np.array([[3, 4, 4]], np.int64),
    )
    frame = np.full(4, config.video_token_id)
    times = rng.integers(0, 200, (3, 5))
    input_ids = np.concatenate(
        [np.concatenate([time, frame]) for time in times] + [question.input_ids]
    )
    visuals = [vision_encoder.encode(video), vision_encoder.encode(question.patches)]
    got = decoder.prefill(input_ids, visuals)
    both = np.concatenate([video.pixel_values, question.patches.pixel_values])
    grids = np.concatenate([video.grid_thw, question.patches.grid_thw])
    with torch.no_grad():
        truth = reference.logits(prompt_hidden_states(reference, input_ids, both, grids))[0, -1]
    assert relative_error(got, truth.numpy()) < 1e-4
