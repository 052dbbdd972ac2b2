# SPDX-License-Identifier: Apache-2.0
"""Chats become the ids that transformers' own Qwen3-VL processor makes of them.

The processor is built without its video half, which needs torchvision: pictures go through it
whole, of videos it gets the grid and the frame numbers and makes times and placeholders of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.video_utils import VideoMetadata

from qwen3vl_ros.image.preprocess import patches_from_image, preprocess_config_from_dict
from qwen3vl_ros.language.chat import Chat, Picture, Role, Video
from qwen3vl_ros.language.chat_template import ChatStyle, prompt_from_chat
from qwen3vl_ros.language.tokenizer import Tokenizer
from qwen3vl_ros.model_config import ModelConfig
from qwen3vl_ros.offline.tiny_tokenizer import PREPROCESSOR
from qwen3vl_ros.scene.tools import plain_json
from tests.language.test_chat_template import (
    ASKED,
    CALL,
    CHATS,
    GRASP,
    as_messages,
    chats,
    template_of,
    transformers_tokenizer,
    turn,
)

ASKING = [name for name, chat in CHATS.items() if chat.messages[-1].role is not Role.ASSISTANT]
styles = pytest.mark.parametrize("style", ChatStyle, ids=lambda style: style.value)


class WithoutTorchvision(Qwen3VLProcessor):
    """transformers looks its video classes up to check them, and cannot without torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> type:
        return type(argument)


@pytest.fixture(scope="module")
def processor(tokenizer_directory: Path) -> Qwen3VLProcessor:
    kept = ("size", "patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    return WithoutTorchvision(
        image_processor=Qwen2VLImageProcessorPil(**{name: PREPROCESSOR[name] for name in kept}),
        tokenizer=transformers_tokenizer(tokenizer_directory),
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
    )


def rendered(processor: Qwen3VLProcessor, chat: Chat, style: ChatStyle) -> str:
    functions = [
        {"name": t.name, "description": t.description, "parameters": plain_json(t.parameters)}
        for t in chat.tools
    ]
    return processor.apply_chat_template(
        list(as_messages(chat)),
        chat_template=template_of(style),
        tools=[{"type": "function", "function": function} for function in functions] or None,
        add_generation_prompt=True,
        add_vision_id=chat.label_visuals,
    )


def expanded(processor: Qwen3VLProcessor, text: str, chat: Chat) -> str:
    """The text with a placeholder for every visual token, as the processor writes it."""
    visuals: Sequence[Picture | Video] = tuple(chat.visuals())
    pictures = np.array([(1, *v.grid_hw) for v in visuals if isinstance(v, Picture)])
    videos = [v for v in visuals if isinstance(v, Video)]
    grids = np.array([(len(v.times_s), *v.grid_hw) for v in videos])
    # Both frames of a patch at its time; 100 frames a second hit every time of these chats.
    metadata = [
        VideoMetadata(
            total_num_frames=1000,
            fps=100,
            frames_indices=[round(100 * time_s) for time_s in video.times_s for _ in range(2)],
        )
        for video in videos
    ]
    images = {"image_grid_thw": pictures}
    clips = {"video_grid_thw": grids, "video_metadata": metadata}
    (done,), _ = processor.get_text_with_replacements(
        [text],
        [processor.replace_image_token(images, i) for i in range(len(pictures))],
        [processor.replace_video_token(clips, i) for i in range(len(videos))],
    )
    return done


def their_ids(processor: Qwen3VLProcessor, chat: Chat, style: ChatStyle) -> list[int]:
    text = rendered(processor, chat, style)
    # transformers 5.10 and later keep this pair around the blocks of a video; 4.57 to 5.8 do not.
    text = text.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    return list(processor.tokenizer(expanded(processor, text, chat))["input_ids"])


@styles
@pytest.mark.parametrize("name", ASKING)
def test_the_ids_are_those_of_the_processor(
    processor: Qwen3VLProcessor, tokenizer: Tokenizer, config: ModelConfig, name: str, style
):
    prompt = prompt_from_chat(CHATS[name], style, tokenizer, config)
    assert prompt.text == rendered(processor, CHATS[name], style)
    assert prompt.input_ids.tolist() == their_ids(processor, CHATS[name], style)


asking_chats = st.one_of(
    chats.filter(lambda chat: chat.messages[-1].role in (Role.USER, Role.TOOL)),
    chats.map(lambda chat: chat.continued(ASKED)),
)


@settings(deadline=None, max_examples=100)
@given(chat=asking_chats, style=st.sampled_from(ChatStyle))
def test_the_ids_of_any_chat_are_those_of_the_processor(
    processor: Qwen3VLProcessor, tokenizer: Tokenizer, config: ModelConfig, chat: Chat, style
):
    ours = prompt_from_chat(chat, style, tokenizer, config).input_ids
    assert ours.tolist() == their_ids(processor, chat, style)


@styles
def test_around_a_video_the_processor_of_today_has_one_more_pair_and_nothing_else(
    processor: Qwen3VLProcessor, tokenizer: Tokenizer, config: ModelConfig, style
):
    """If this fails, transformers or Qwen decided, and `chat_template.py` has to follow."""
    chat = CHATS["video"]
    text = expanded(processor, rendered(processor, chat, style), chat)
    theirs = list(processor.tokenizer(text)["input_ids"])
    ours = prompt_from_chat(chat, style, tokenizer, config).input_ids.tolist()
    first = ours.index(tokenizer.token_id("<"))  # of "<0.2 seconds>"
    last = len(ours) - ours[::-1].index(config.vision_end_token_id)
    start, end = config.vision_start_token_id, config.vision_end_token_id
    assert theirs == [*ours[:first], start, *ours[first:last], end, *ours[last:]]


SIZES = {"first": (96, 64), "second": (640, 480), "third": (424, 240)}


@styles
@pytest.mark.parametrize("label", [False, True], ids=["bare", "numbered"])
def test_pictures_and_words_become_the_ids_of_one_call_of_the_processor(
    processor: Qwen3VLProcessor, tokenizer: Tokenizer, config: ModelConfig, label: bool, style
):
    """From pixels to ids: three pictures of different sizes, one of them a tool's answer."""
    random = np.random.default_rng(0)
    pixels = {
        name: random.integers(0, 256, (height, width, 3), np.uint8)
        for name, (width, height) in SIZES.items()
    }
    preprocess = preprocess_config_from_dict(PREPROCESSOR)
    shown = {
        name: Picture(
            grid_hw=tuple(patches_from_image(array, preprocess).grid_thw[0, 1:].tolist())
        )
        for name, array in pixels.items()
    }
    chat = Chat(
        messages=(
            turn(Role.SYSTEM, "Be brief."),
            turn(Role.USER, shown["first"], "Like", shown["second"], "?"),
            turn(Role.ASSISTANT, "I look.", calls=(CALL,), thought="Hard to see."),
            turn(Role.TOOL, shown["third"]),
        ),
        tools=(GRASP,),
        label_visuals=label,
    )
    messages = list(as_messages(chat))
    parts = [part for told in messages for part in told["content"] if isinstance(part, dict)]
    slots = [part for part in parts if part["type"] == "image"]
    for slot, array in zip(slots, pixels.values(), strict=True):
        slot["image"] = Image.fromarray(array)
    function = {
        "name": GRASP.name,
        "description": GRASP.description,
        "parameters": plain_json(GRASP.parameters),
    }
    theirs = processor.apply_chat_template(
        messages,
        chat_template=template_of(style),
        tools=[{"type": "function", "function": function}],
        add_generation_prompt=True,
        add_vision_id=label,
        tokenize=True,
        return_dict=True,
    )
    ours = prompt_from_chat(chat, style, tokenizer, config)
    assert ours.input_ids.tolist() == list(np.ravel(theirs["input_ids"]))
