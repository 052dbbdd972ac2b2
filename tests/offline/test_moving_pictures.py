# SPDX-License-Identifier: Apache-2.0
"""Two pictures and clips are taught as they will be asked: same tokens, rows and answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qwen3vl_ros.image.preprocess import patches_from_pictures, preprocess_config_from_dict
from qwen3vl_ros.language.chat_template import ChatStyle, prompt_from_chat
from qwen3vl_ros.language.prompt import chat_from_query
from qwen3vl_ros.offline.losses import Trainee, answer_loss, encode, init_trainee
from qwen3vl_ros.offline.moving_pictures import draw_clips, draw_pairs
from qwen3vl_ros.offline.packing import IGNORE, QuestionPacker
from qwen3vl_ros.offline.pictures import pair_rows
from qwen3vl_ros.offline.reference_model import ReferenceModel
from qwen3vl_ros.offline.stages import Recipe, stages_of
from qwen3vl_ros.offline.tiny_tokenizer import PREPROCESSOR
from qwen3vl_ros.synthetic import clip_shards
from qwen3vl_ros.synthetic.clip_shards import cache_clips, moving_room_of_clip, read_clips

CLIPS = 6
CONFIG = preprocess_config_from_dict(PREPROCESSOR)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_shards, "CLIPS", CLIPS)
        list(cache_clips(directory, count=CLIPS, config=CONFIG, processes=1))
        return read_clips(directory, count=CLIPS)


@pytest.fixture(scope="module")
def packer(tokenizer_and_config):
    return QuestionPacker(*tokenizer_and_config)


def test_a_cached_clip_knows_what_moves_in_it(clips):
    for seed in range(CLIPS):
        moving, move = moving_room_of_clip(seed), clips.move(seed)
        assert clips.times_s[seed].tolist() == list(moving.times_s)
        if not moving.moves:
            assert move is None
            continue
        index, start_s, end_s = move
        assert (index, start_s, end_s) == (
            moving.moves[0].index, moving.moves[0].start_s, moving.moves[0].end_s
        )  # fmt: skip
        for frame in (0, -1):
            known = clips.known(seed, frame)[index]
            assert known is None or known.name == moving.room.solids[index].name
    assert clips.move(CLIPS - 1) is None  # every sixth stands still


@pytest.mark.parametrize("draw", [draw_pairs, draw_clips], ids=["pairs", "clips"])
def test_what_is_packed_is_what_will_be_asked(clips, packer, tokenizer_and_config, draw):
    tokenizer, config = tokenizer_and_config
    shown, asked = draw(clips, batch=2, rng=np.random.default_rng(0))
    batch = packer.pack(shown, asked)
    for row, (question,) in enumerate(asked):
        chat = chat_from_query(question.query, shown.visuals)
        prompt = prompt_from_chat(chat, ChatStyle.INSTRUCT, tokenizer, config).input_ids
        assert batch.input_ids[row, : len(prompt)].tolist() == prompt.tolist()
        learned = batch.labels[row][batch.labels[row] != IGNORE].tolist()
        text = tokenizer.decode(learned, skip_special_tokens=False)
        assert text == question.words + "<|im_end|>"


def test_two_frames_make_the_rows_that_the_preprocessor_makes_of_them():
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    levels = np.tile(np.arange(256, dtype=np.float32) / 127.5 - 1, (3, 1))
    expected = patches_from_pictures(list(frames), CONFIG, height=64, width=96, levels=levels)
    rows = pair_rows(torch.from_numpy(frames.astype(np.float32) / 127.5 - 1)[None])[0]
    np.testing.assert_allclose(rows.numpy(), expected.pixel_values, atol=1e-6)


def test_a_question_looks_at_what_moved_in_every_picture_of_it(clips, packer):
    for draw, pictures in ((draw_pairs, 2), (draw_clips, 4)):
        shown, asked = draw(clips, batch=3, rng=np.random.default_rng(1))
        batch = packer.pack(shown, asked)
        V = shown.coverage.shape[2] // pictures
        for row, (question,) in enumerate(asked):
            first = batch.looks_at[row][batch.starts[row]][0]
            parts = first.reshape(pictures, V).sum(dim=1)
            assert bool(parts[0] > 0) == bool(question.targets)


def test_the_rows_of_a_sequence_are_those_of_its_pictures_end_to_end(clips, tokenizer_and_config):
    model = ReferenceModel(tokenizer_and_config[1])
    init_trainee(Trainee(model), seed=0)
    shown, _ = draw_pairs(clips, batch=2, rng=np.random.default_rng(2))
    second = replace(
        shown,
        visuals=shown.visuals[:1],
        pixel_values=shown.pixel_values[3:],
        grid_thw=shown.grid_thw[:1],
        slots=shown.slots[:1],
    )
    with torch.no_grad():
        image, taps = encode(model.visual, shown)
        alone, _ = encode(model.visual, second)
    V = alone.shape[1]
    assert image.shape[:2] == (2, 2 * V)
    assert taps.shape[1:3] == (2, 2 * V)
    torch.testing.assert_close(image[1, V:], alone[0], atol=1e-5, rtol=1e-5)


def test_a_decoder_learns_from_what_moves_too(clips, packer, tokenizer_and_config):
    trainee = Trainee(ReferenceModel(tokenizer_and_config[1]))
    init_trainee(trainee, seed=0)
    stages = stages_of(trainee, packer, Recipe(decoder_batch=2), clips)
    decoder = next(stage for stage in stages if stage.name == "decoder")
    for seed in range(3):
        loss, found = decoder.moving_step(np.random.default_rng(seed))
        assert loss.requires_grad
        assert 0 < found["answer"] < 20
    assert not [stage for stage in stages if stage.moving_step and stage.name != "decoder"]
    assert stages_of(trainee, packer, Recipe(), None)[2].moving_step is None


def test_a_batch_of_clips_is_answered_with_the_loss_of_each(clips, packer, tokenizer_and_config):
    model = ReferenceModel(tokenizer_and_config[1])
    init_trainee(Trainee(model), seed=0)
    shown, asked = draw_clips(clips, batch=2, rng=np.random.default_rng(3))
    with torch.no_grad():
        answered, looking, _ = answer_loss(
            model, packer.pack(shown, asked), *encode(model.visual, shown)
        )
    assert torch.isfinite(answered)
    assert looking > 0
