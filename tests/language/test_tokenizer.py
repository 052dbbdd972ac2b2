# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back, and where each token stands."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3vl_ros.errors import CheckpointError
from qwen3vl_ros.language.tokenizer import TextStream, Tokenizer, load_tokenizer
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.config_writing import config_dict


def test_each_digit_is_a_token(tokenizer: Tokenizer):
    assert [tokenizer.token(i) for i in tokenizer.encode("1024")] == ["1", "0", "2", "4"]


def test_control_tokens_are_one_token_each_and_hidden_when_decoding(tokenizer: Tokenizer):
    ids = tokenizer.encode("<|im_start|>red<|im_end|>")
    assert ids[0] == tokenizer.token_id("<|im_start|>")
    assert ids[-1] == tokenizer.token_id("<|im_end|>")
    assert tokenizer.decode(ids) == "red"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|im_start|>red<|im_end|>"


def test_an_answer_ends_at_the_end_of_the_turn_or_of_the_text(tokenizer: Tokenizer):
    names = [tokenizer.token(i) for i in tokenizer.eos_token_ids]
    assert names == ["<|im_end|>", "<|endoftext|>"]


def test_a_single_end_token_may_be_given_bare(tokenizer_directory: Path, tmp_path: Path):
    shutil.copy(tokenizer_directory / "tokenizer.json", tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert load_tokenizer(tmp_path).eos_token_ids == (7,)


def test_spans_point_at_the_characters_of_each_token(tokenizer: Tokenizer):
    ids = tokenizer.encode('<|im_start|>[12, 7], "red box"<|im_end|>')
    text, spans = tokenizer.decode_with_spans(ids)
    pieces = [text[start:stop] for start, stop in spans]
    assert pieces == ["", "[", "1", "2", ",", " ", "7", "],", ' "', "red", " box", '"', ""]


def test_a_character_of_several_tokens_belongs_to_the_last(tokenizer: Tokenizer):
    ids = tokenizer.encode("椅1")
    text, spans = tokenizer.decode_with_spans(ids)
    assert len(ids) == 4
    assert text == "椅1"
    assert spans == [(0, 0), (0, 0), (0, 1), (1, 2)]


def test_text_comes_as_soon_as_a_character_is_whole(tokenizer: Tokenizer):
    """Each token is decoded once: it was once the whole answer again for each of its tokens,
    3 minutes for 8,000 tokens.
    """
    stream = TextStream(tokenizer)
    ids = tokenizer.encode("<|im_start|>椅1椅")[:-1]
    assert [stream.add(token_id) for token_id in ids] == ["", "", "", "椅", "1", "", ""]
    assert stream.end() == "\N{REPLACEMENT CHARACTER}"


def test_a_character_cut_in_the_middle_is_marked(tokenizer: Tokenizer):
    ids = tokenizer.encode("1椅")[:-1]
    text, spans = tokenizer.decode_with_spans(ids)
    assert text == tokenizer.decode(ids) == "1\ufffd"
    assert spans[-1] == (1, 2)


@settings(deadline=None)
@given(data=st.data())
def test_spans_cover_what_decode_says_for_any_ids(tokenizer: Tokenizer, data: st.DataObject):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    text, spans = tokenizer.decode_with_spans(ids)
    assert text == tokenizer.decode(ids)
    assert "".join(text[start:stop] for start, stop in spans) == text


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_comes_back_in_normal_form(tokenizer: Tokenizer, text: str):
    back = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)
    assert back == unicodedata.normalize("NFC", text)


def test_control_tokens_in_foreign_text_are_seen(tokenizer: Tokenizer):
    assert tokenizer.control_token_in("a mug<|im_end|>") == "<|im_end|>"
    assert tokenizer.control_token_in("<think>") == "<think>"
    assert tokenizer.control_token_in("a mug < |im_end|>") is None


def test_unknown_tokens_and_ids_are_refused(tokenizer: Tokenizer):
    with pytest.raises(CheckpointError, match="no token '<nothing>'"):
        tokenizer.token_id("<nothing>")
    with pytest.raises(CheckpointError, match="no id 999999"):
        tokenizer.token(999999)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tokenizer.json", None),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "not json"),
        ("generation_config.json", None),
        ("generation_config.json", "{}"),
        ("generation_config.json", json.dumps({"eos_token_id": None})),
        ("generation_config.json", "[]"),
    ],
    ids=["gone", "empty", "no-json", "no-generation", "no-eos", "null-eos", "list"],
)
def test_a_broken_tokenizer_is_a_checkpoint_error(
    tokenizer_directory: Path, tmp_path: Path, file: str, text: str | None
):
    directory = tmp_path / "broken"
    shutil.copytree(tokenizer_directory, directory)
    (directory / file).unlink() if text is None else (directory / file).write_text(text)
    with pytest.raises(CheckpointError):
        load_tokenizer(directory)


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json"])
def test_a_missing_file_is_named_and_where_to_take_it_from(
    tokenizer_directory: Path, tmp_path: Path, name: str
):
    shutil.copytree(tokenizer_directory, tmp_path / "half")
    (tmp_path / "half" / name).unlink()
    with pytest.raises(
        CheckpointError, match=f"no {name}, which .* download the checkpoint whole"
    ):
        load_tokenizer(tmp_path / "half")


@pytest.fixture
def checkpoint(tokenizer_directory: Path, config: ModelConfig, tmp_path: Path) -> Path:
    """The tokenizer beside the config of the model that it is of."""
    directory = tmp_path / "checkpoint"
    shutil.copytree(tokenizer_directory, directory)
    (directory / "config.json").write_text(json.dumps(config_dict(config)))
    return directory


def test_a_tokenizer_beside_its_models_config_is_read(checkpoint: Path):
    assert load_tokenizer(checkpoint).token_id("<|im_end|>")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "config.json",
            {"image_token_id": 7},
            r"<\|image_pad\|> is \d+ in tokenizer\.json and 7 in",
        ),
        ("config.json", {"video_token_id": 8}, r"<\|video_pad\|> is \d+ .* 8 in config\.json"),
        ("config.json", {"vision_end_token_id": 9}, r"<\|vision_end\|> is"),
        ("generation_config.json", {"eos_token_id": [7, 99999]}, r"ends answers with \[99999\]"),
    ],
    ids=["image", "video", "vision-end", "end-of-answer"],
)
def test_a_tokenizer_of_another_model_is_refused(
    checkpoint: Path, file: str, changes: dict[str, object], message: str
):
    values = json.loads((checkpoint / file).read_text())
    (checkpoint / file).write_text(json.dumps(values | changes))
    with pytest.raises(CheckpointError, match=f"are of two models .*{message}.* one checkpoint"):
        load_tokenizer(checkpoint)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(checkpoint: Path):
    values = json.loads((checkpoint / "tokenizer.json").read_text())
    last = max(token["id"] for token in values["added_tokens"])
    more = {**values["added_tokens"][-1], "id": last + 1, "content": "<|more|>"}
    values["added_tokens"].append(more)
    (checkpoint / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=rf"has {last + 2} tokens .* room for {last + 1}"):
        load_tokenizer(checkpoint)
