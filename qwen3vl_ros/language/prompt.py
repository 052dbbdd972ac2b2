# SPDX-License-Identifier: Apache-2.0
"""A query becomes the words Qwen3-VL was trained on, and the conversation that asks it.

Knows each task's prompt; the conversation's text and token ids are `chat_template.py`'s. Knows no
pixels: of a picture it needs the grid only.

Prompts, word for word, for the model has seen these strings and no other wording of ours would do
as well:

REFER, POINT, DETECT_3D, LOCATE_MOMENT  technical report (arXiv 2511.21631, appendix)
DETECT                                  ODinW evaluation of QwenLM/Qwen3-VL
LIST_EVENTS, TRACK                      QwenLM/Qwen3-VL cookbooks/video_understanding.ipynb
SPOT_TEXT                               QwenLM/Qwen3-VL cookbooks/ocr.ipynb, by three copies of
                                        its words in public repositories, for lines and for
                                        words; that cell of the notebook was not read (the
                                        one for Qwen2.5-VL ends after "in JSON format.")
COUNT                                   POINT's: no prompt of its own is published; the cookbooks
                                        point at every object and count the points
ASK, COMPARE, ZOOM, ACT                 the asker's own words; ZOOM's tool as QwenLM/Qwen-Agent
                                        describes it (tools/image_zoom_in_qwen3vl.py)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import QueryError
from ..model_config import ModelConfig
from ..scene.detections import VIDEO_TASKS, Query, Task
from ..scene.tools import Tool
from .chat import Chat, Message, Picture, Role, Video
from .chat_template import ChatStyle, Prompt, prompt_from_chat
from .tokenizer import Tokenizer

REFER_PROMPT = (
    'Locate every object that matches the description "{text}" in the image. '
    "Report bbox coordinates in JSON format."
)
DETECT_PROMPT = (
    "Locate every instance that belongs to the following categories: '{categories}'. "
    "Report bbox coordinates in JSON format."
)
POINT_PROMPT = (
    "Locate {text} in this image. Output the point coordinates in JSON format.\n"
    'For example:\n[\n{{"point_2d": [x, y], "label": "point_1"}}\n]'
)
DETECT_3D_PROMPT = (
    "Locate the {text} in the provided image and output their positions and dimensions using 3D "
    'bounding boxes. The results must be in the JSON format: [{{"bbox_3d":[x_center, y_center, '
    'z_center, x_size, y_size, z_size, roll, pitch, yaw],"label":"category"}}].'
)

SPOT_TEXT_PROMPT = (
    "Spotting all the text in the image with {level}-level, and output in JSON format as "
    "[{{'bbox_2d': [x1, y1, x2, y2], 'text_content': 'text'}}, ...]."
)
LOCATE_MOMENT_PROMPT = (
    "Give you a textual query: {text}\nWhen does the described content occur in the video?\n"
    "Please return the timestamp in seconds."
)
LIST_EVENTS_PROMPT = (
    "Localize a series of activity events in the video, output the start and end timestamp for "
    "each event, and describe each event with sentences. Provide the result in json format with "
    "'mm:ss.ff' format for time depiction."
)
TRACK_PROMPT = (
    'Given the query "{text}", for each frame, detect and localize the visual content described '
    "by the given textual query in JSON format. If the visual content does not exist in a frame, "
    'skip that frame. Output Format: [{{"time": 1.0, "bbox_2d": [x_min, y_min, x_max, y_max], '
    '"label": ""}}, {{"time": 2.0, "bbox_2d": [x_min, y_min, x_max, y_max], "label": ""}}, ...].'
)
ZOOM_TOOL = Tool(
    name="image_zoom_in_tool",
    description=(
        "Zoom in on a specific region of an image by cropping it based on a bounding box (bbox) "
        "and an optional object label"
    ),
    parameters={
        "type": "object",
        "properties": {
            "bbox_2d": {
                "type": "array",
                "items": {"type": "number"},
                "minItems": 4,
                "maxItems": 4,
                "description": (
                    "The bounding box of the region to zoom in, as [x1, y1, x2, y2], where "
                    "(x1, y1) is the top-left corner and (x2, y2) is the bottom-right corner"
                ),
            },
            "label": {
                "type": "string",
                "description": "The name or label of the object in the specified bounding box",
            },
            "img_idx": {
                "type": "number",
                "description": "The index of the zoomed-in image (starting from 0)",
            },
        },
        "required": ("bbox_2d", "label", "img_idx"),
    },
)

_TEMPLATES = {
    Task.REFER: REFER_PROMPT,
    Task.POINT: POINT_PROMPT,
    Task.DETECT_3D: DETECT_3D_PROMPT,
    Task.COUNT: POINT_PROMPT,
    Task.LOCATE_MOMENT: LOCATE_MOMENT_PROMPT,
    Task.TRACK: TRACK_PROMPT,
}

# What stands around a question about pictures, as every Instruct checkpoint has it.
CHAT_BEFORE_TEXT = "<|im_start|>user\n"
CHAT_AFTER_TEXT = "<|im_end|>\n<|im_start|>assistant\n"


def prompt_text(query: Query) -> str:
    """The trained prompt of the query's task.

    >>> prompt_text(Query(task=Task.DETECT, categories=("mug", "red box"))).split(":")[1]
    " 'mug, red box'. Report bbox coordinates in JSON format."
    """
    if query.task is Task.DETECT:
        return DETECT_PROMPT.format(categories=", ".join(map(_one_line, query.categories)))
    if query.task is Task.SPOT_TEXT:
        return SPOT_TEXT_PROMPT.format(level=query.text_level.value)
    if query.task is Task.LIST_EVENTS:
        return LIST_EVENTS_PROMPT
    if query.task in _TEMPLATES:
        return _TEMPLATES[query.task].format(text=_one_line(query.text))
    return query.text.strip()


def _one_line(text: str) -> str:
    # The trained prompts hold one line of plain words; a pasted newline would end it early.
    return " ".join(text.split())


def chat_from_query(query: Query, visuals: Sequence[Picture | Video]) -> Chat:
    """The conversation that asks `query` about the visuals: they come first, then the words.

    Several pictures of a COMPARE query are numbered, so that its words can say "Picture 2".

    Raises:
        QueryError: the task needs other visuals.
    """
    is_video = len(visuals) == 1 and isinstance(visuals[0], Video)
    are_timed = bool(visuals) and all(
        isinstance(visual, Picture) and visual.time_s is not None for visual in visuals
    )
    if query.task in VIDEO_TASKS and not (is_video or are_timed):
        raise QueryError(
            f"{query.task.query} is about {len(visuals)} pictures, expected one video, "
            "or stills with their times"
        )
    if query.task is Task.COMPARE and len(visuals) < 2:
        raise QueryError(
            f"a 'compare' query is about {len(visuals)} pictures, expected at least two; ask "
            "about one with an 'ask' query"
        )
    return Chat(
        messages=(Message(role=Role.USER, parts=(*visuals, prompt_text(query))),),
        tools=(ZOOM_TOOL,) if query.task is Task.ZOOM else query.tools,
        label_visuals=query.task is Task.COMPARE,
    )


def prompt_from_query(
    query: Query,
    grid_thw: npt.NDArray[np.int64],
    tokenizer: Tokenizer,
    config: ModelConfig,
    *,
    style: ChatStyle = ChatStyle.INSTRUCT,
) -> Prompt:
    """The chat turn that asks `query` about still pictures.

    Args:
        query: what to ask.
        grid_thw: (G, 3) int64, one row for each picture (see `image/positions.py`).
        tokenizer: the checkpoint's.
        config: the checkpoint's.
        style: the checkpoint's kind.

    Raises:
        QueryError: the query holds one of the checkpoint's control tokens, or its task needs
            other pictures.
    """
    pictures = [
        Picture(grid_hw=(h, w))
        for _, h, w in np.asarray(grid_thw, np.int64).reshape(-1, 3).tolist()
    ]
    return prompt_from_chat(chat_from_query(query, pictures), style, tokenizer, config)
