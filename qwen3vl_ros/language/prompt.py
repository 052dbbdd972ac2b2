# SPDX-License-Identifier: Apache-2.0
"""A query becomes the words Qwen3-VL was trained on, and the words become token ids.

Knows the four tasks' prompts and the chat shape of the Instruct checkpoints; runs no template
engine (a test holds the result against the checkpoint's own chat template). Knows no pixels: of
a picture it needs the grid only.

Prompts: technical report (arXiv 2511.21631, appendix) and the ODinW evaluation of QwenLM/Qwen3-VL,
word for word; the model has seen these strings and no other wording of ours would do as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import QueryError
from ..model_config import ModelConfig
from ..scene.detections import Query, Task
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

CHAT_BEFORE_TEXT = "<|im_start|>user\n"
CHAT_AFTER_TEXT = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A question as the decoder reads it.

    Attributes:
        input_ids: (T,) int64, the image token repeated for every token of a picture.
        text: the same in words, with one image token for each picture.
    """

    input_ids: npt.NDArray[np.int64]
    text: str


def prompt_text(query: Query) -> str:
    """The trained prompt of the query's task.

    >>> prompt_text(Query(task=Task.DETECT, categories=("mug", "red box"))).split(":")[1]
    " 'mug, red box'. Report bbox coordinates in JSON format."
    """
    if query.task is Task.DETECT:
        return DETECT_PROMPT.format(categories=", ".join(map(_one_line, query.categories)))
    template = {
        Task.REFER: REFER_PROMPT,
        Task.POINT: POINT_PROMPT,
        Task.DETECT_3D: DETECT_3D_PROMPT,
    }[query.task]
    return template.format(text=_one_line(query.text))


def _one_line(text: str) -> str:
    # The trained prompts hold one line of plain words; a pasted newline would end it early.
    return " ".join(text.split())


def prompt_from_query(
    query: Query, grid_thw: npt.NDArray[np.int64], tokenizer: Tokenizer, config: ModelConfig
) -> Prompt:
    """The chat turn that asks `query` about the pictures: image blocks first, then the words.

    Args:
        grid_thw: (G, 3) int64, one row for each still picture (see `image/positions.py`).

    Raises:
        QueryError: the query holds one of the checkpoint's control tokens.
    """
    words = prompt_text(query)
    control = tokenizer.control_token_in(words)
    if control is not None:
        raise QueryError(
            f"the query holds the model's control token '{control}', which would break out of "
            "the question; ask in plain words"
        )
    start = tokenizer.token(config.vision_start_token_id)
    end = tokenizer.token(config.vision_end_token_id)
    block = start + tokenizer.token(config.image_token_id) + end
    after = words + CHAT_AFTER_TEXT
    # Control tokens cut the text before anything else does, so that the parts can be encoded one
    # by one and thousands of image tokens need not be written out and read back.
    ids = tokenizer.encode(CHAT_BEFORE_TEXT)
    for t, h, w in np.asarray(grid_thw, np.int64).reshape(-1, 3).tolist():
        image_tokens = t * h * w // config.vision.spatial_merge_size**2
        ids.append(config.vision_start_token_id)
        ids.extend([config.image_token_id] * image_tokens)
        ids.append(config.vision_end_token_id)
    ids.extend(tokenizer.encode(after))
    return Prompt(
        input_ids=np.array(ids, np.int64),
        text=CHAT_BEFORE_TEXT + block * len(grid_thw) + after,
    )
