# SPDX-License-Identifier: Apache-2.0
"""The tokenizer cut from Qwen's segments its texts as Qwen's does, and loads in transformers."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, Qwen2Tokenizer

from qwen3vl_ros.errors import MissingDependency
from qwen3vl_ros.image.preprocess import load_preprocess_config
from qwen3vl_ros.language.tokenizer import Tokenizer, load_tokenizer
from qwen3vl_ros.offline import tiny_tokenizer
from qwen3vl_ros.offline.tiny_tokenizer import (
    SPECIAL_TOKENS,
    VISIBLE_TOKENS,
    WORD_PATTERN,
    WrittenTokenizer,
    merges_of_word,
    qwen_ranks,
    write_tiny_tokenizer,
)
from qwen3vl_ros.offline.tiny_vocabulary import TEXTS_ALWAYS_KEPT

CORPUS = [
    "Locate every object that matches the description "
    '"the third-nearest turquoise espresso machine, isn\'t it?" in the image.',
    '\t{"bbox_2d": [1, 22, 333, 1000], "label": "teapot"},\n',
    "  indented\r\n\n\ttabs and  blanks \n",
    "caf\u00e9 cafe\u0301 椅子 🤖 Ünïcode",
    "abababab aaaaaaaaaaaaaaaaaaaa ================ ))))))))",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WrittenTokenizer]:
    directory = tmp_path_factory.mktemp("tiny")
    return directory, write_tiny_tokenizer(CORPUS, directory)


@pytest.fixture(scope="module")
def tokenizer(written: tuple[Path, WrittenTokenizer]) -> Tokenizer:
    return load_tokenizer(written[0])


@pytest.fixture(scope="module")
def full() -> tiktoken.Encoding:
    """The real thing: all 151,643 ranks, in an implementation that is not ours."""
    return tiktoken.Encoding(
        "qwen",
        pat_str=WORD_PATTERN,
        mergeable_ranks=dict(qwen_ranks()),
        special_tokens={token: 151643 + i for i, token in enumerate(SPECIAL_TOKENS)},
    )


def pieces_of_full(full: tiktoken.Encoding, text: str) -> list[bytes]:
    ids = full.encode(unicodedata.normalize("NFC", text), allowed_special="all")
    return [full.decode_single_token_bytes(i) for i in ids]


def test_texts_it_was_cut_for_segment_exactly_as_with_all_of_qwens_ranks(tokenizer, full):
    for text in (*CORPUS, *TEXTS_ALWAYS_KEPT):
        pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]
        assert pieces == pieces_of_full(full, text), text


known_words = st.sampled_from(
    [" red", " mug", " nearest", " turquoise", " the", " left", "7", "0"]
)


@settings(deadline=None, max_examples=60)
@given(words=st.lists(known_words, max_size=12))
def test_new_sentences_of_its_words_segment_alike_too(tokenizer, full, words):
    text = "".join(words)
    pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]
    assert pieces == pieces_of_full(full, text)


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=60))
def test_any_other_text_comes_back_whole(tokenizer, text):
    back = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)
    assert back == unicodedata.normalize("NFC", text)


def test_the_vocabulary_is_small_dense_and_ends_in_the_added_tokens(written, tokenizer):
    names = [tokenizer.token(i) for i in range(written[1].vocab_size)]
    added = (*SPECIAL_TOKENS, *VISIBLE_TOKENS)
    assert 800 <= len(names) <= 2000
    assert tokenizer.vocab_size == len(names)
    assert tuple(names[-len(added) :]) == added
    assert sum(len(tokenizer.token_bytes(i)) == 1 for i in range(len(names))) == 256


def test_numbers_are_spelled_digit_by_digit(tokenizer):
    ids = tokenizer.encode('{"bbox_2d": [123, 45], "label": "box 10"}')
    numbers = [tokenizer.token(i) for i in ids if any(map(str.isdigit, tokenizer.token(i)))]
    assert numbers == list("21234510")


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("```json\n[\n", 4),
        ('\t{"bbox_2d": [123, 456, 789, 100], "label": "chair"},\n', 33),
        ('\t{"bbox_2d": [123, 456, 789, 1000], "label": "chair"},\n', 34),
    ],
    ids=["fence", "three-digits", "four-digits"],
)
def test_an_answer_costs_as_many_tokens_as_with_qwens_own(tokenizer, full, line, tokens):
    assert len(tokenizer.encode(line)) == len(full.encode(line)) == tokens


def test_ids_for_the_model_config_are_those_of_the_tokens(written, tokenizer):
    _, ids = written
    assert ids.image_token_id == tokenizer.token_id("<|image_pad|>")
    assert ids.video_token_id == tokenizer.token_id("<|video_pad|>")
    assert ids.vision_start_token_id == tokenizer.token_id("<|vision_start|>")
    assert ids.vision_end_token_id == tokenizer.token_id("<|vision_end|>")
    assert tokenizer.eos_token_ids == (ids.eos_token_id, ids.pad_token_id)


def test_the_same_texts_in_any_order_give_the_same_files(written, tmp_path):
    write_tiny_tokenizer(reversed(CORPUS + CORPUS), tmp_path)
    for file in written[0].iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_transformers_loads_it_unchanged_and_encodes_alike(written, tokenizer):
    theirs = AutoTokenizer.from_pretrained(written[0])
    assert isinstance(theirs, Qwen2Tokenizer)
    assert (theirs.eos_token, theirs.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert (theirs.bos_token, theirs.unk_token) == (None, None)
    for text in (*CORPUS, "<|im_start|>user\nred<think> 12<|im_end|>"):
        ids = theirs(text)["input_ids"]
        assert ids == tokenizer.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)


def test_the_processor_configs_say_what_ours_and_transformers_read(written):
    directory, ids = written
    config = load_preprocess_config(directory)
    theirs = AutoImageProcessor.from_pretrained(directory)
    assert (config.min_pixels, config.max_pixels) == (16384, 76800)
    assert (theirs.size.shortest_edge, theirs.size.longest_edge) == (16384, 76800)
    assert (theirs.patch_size, theirs.merge_size, theirs.temporal_patch_size) == (16, 2, 2)
    assert tuple(theirs.image_mean) == config.image_mean
    generation = GenerationConfig.from_pretrained(directory)
    assert generation.eos_token_id == [ids.eos_token_id, ids.pad_token_id]
    assert generation.do_sample is False


BLOCK = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"


@pytest.mark.parametrize(
    ("messages", "options", "rendered"),
    [
        pytest.param(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "hi"}]}],
            {"add_generation_prompt": True},
            f"<|im_start|>user\n{BLOCK}hi<|im_end|>\n<|im_start|>assistant\n",
            id="image-then-text",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": "a "}, {"image": "x.png"}]}],
            {},
            f"<|im_start|>user\na {BLOCK}<|im_end|>\n",
            id="parts-in-list-order",
        ),
        pytest.param(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            {"add_generation_prompt": True},
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
            "<|im_start|>assistant\n",
            id="system",
        ),
        pytest.param(
            [
                {"role": "user", "content": " one\n"},
                {"role": "assistant", "content": [{"type": "text", "text": "[]"}]},
                {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "two"}]},
            ],
            {"add_generation_prompt": True},
            "<|im_start|>user\n one\n<|im_end|>\n<|im_start|>assistant\n[]<|im_end|>\n"
            f"<|im_start|>user\n{FILM}two<|im_end|>\n<|im_start|>assistant\n",
            id="several-turns",
        ),
        pytest.param(
            [
                {"role": "user", "content": [{"type": "image"}, {"type": "image"}]},
                {"role": "user", "content": [{"type": "video"}, {"type": "image_url"}]},
            ],
            {"add_vision_id": True},
            f"<|im_start|>user\nPicture 1: {BLOCK}Picture 2: {BLOCK}<|im_end|>\n"
            f"<|im_start|>user\nVideo 1: {FILM}<|im_end|>\n",
            id="numbered",
        ),
    ],
)
def test_the_chat_template_has_the_shape_of_qwen3_vl_instruct(
    written, messages, options, rendered
):
    theirs = AutoTokenizer.from_pretrained(written[0])
    assert theirs.apply_chat_template(messages, tokenize=False, **options) == rendered


def test_joins_are_made_lowest_rank_first():
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5}
    assert merges_of_word(b"abc", ranks) == [(b"b", b"c"), (b"a", b"bc")]


def test_all_of_qwens_ranks_are_there():
    ranks = qwen_ranks()
    assert sorted(ranks.values()) == list(range(151643))
    assert sum(len(token) == 1 for token in ranks) == 256


def test_without_the_ranks_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tiny_tokenizer, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"needs 'dashscope'.*make setup"):
        qwen_ranks.__wrapped__()


def test_configs_are_plain_json_without_a_path(written):
    for file in written[0].glob("*.json"):
        assert str(written[0]) not in json.dumps(json.loads(file.read_text(encoding="utf-8")))
