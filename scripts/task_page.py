# SPDX-License-Identifier: Apache-2.0
"""Write docs/tasks.md anew; with --check, only say whether it is old.

Every prompt and every value on the page comes out of the package; only the answers are written
here, in the style of the model. A test runs the check.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np

from qwen3vl_ros.language.answers import read_answer
from qwen3vl_ros.language.chat import Message, Picture, Role, Video, message_from_step
from qwen3vl_ros.language.chat_template import ChatStyle, chat_text
from qwen3vl_ros.language.parsing import Answer
from qwen3vl_ros.language.prompt import chat_from_query, prompt_text
from qwen3vl_ros.language.tool_calls import parse_step
from qwen3vl_ros.scene.detections import SPATIAL_TASKS, VIDEO_TASKS, Query, Task, TextLevel
from qwen3vl_ros.scene.geometry import OrientedBox
from qwen3vl_ros.scene.tools import Tool

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"
WIDTH, HEIGHT, DURATION_S = 640, 480, 60.0
GRASP = Tool(
    name="grasp",
    description="Close the gripper around what is at a pixel.",
    parameters={
        "type": "object",
        "properties": {"uv_px": {"type": "array"}},
        "required": ("uv_px",),
    },
)


def fenced(*lines: str) -> str:
    """A list of objects as the model writes it."""
    return "```json\n[\n\t" + ",\n\t".join(lines) + "\n]\n```"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One section: what the task is for, what is asked, what the model may say."""

    about: str
    query: Query
    answer: str
    show_chat: bool = False


EXAMPLES = (
    Example(
        about="Every instance of the given categories, as 2D boxes.",
        query=Query(task=Task.DETECT, categories=("mug", "laptop")),
        answer=fenced(
            '{"bbox_2d": [100, 200, 300, 400], "label": "mug"}',
            '{"bbox_2d": [450, 100, 900, 700], "label": "laptop"}',
        ),
    ),
    Example(
        about="Every object that matches a description, as 2D boxes.",
        query=Query(task=Task.REFER, text="the red mug left of the laptop"),
        answer=fenced('{"bbox_2d": [100, 200, 300, 400], "label": "the red mug"}'),
    ),
    Example(
        about="A point on every object, or place, that matches a description.",
        query=Query(task=Task.POINT, text="the handle of the drawer"),
        answer=fenced('{"point_2d": [512, 250], "label": "point_1"}'),
    ),
    Example(
        about="Every instance of one category, as the model's own 3D boxes: metres in the camera "
        "optical frame.",
        query=Query(task=Task.DETECT_3D, text="bottle"),
        answer=fenced('{"bbox_3d":[0.1,0.05,1.5,0.08,0.25,0.08,0,0.5,0],"label":"bottle"}'),
    ),
    Example(
        about="Every line of text, or every word, read and boxed.",
        query=Query(task=Task.SPOT_TEXT, text_level=TextLevel.WORD),
        answer=fenced(
            '{"bbox_2d": [100, 200, 180, 240], "text_content": "EMERGENCY"}',
            '{"bbox_2d": [190, 200, 240, 240], "text_content": "EXIT"}',
        ),
    ),
    Example(
        about="How many, by a point on each. The number is `Count.number`; a reading that is not "
        "complete says at least so many.",
        query=Query(task=Task.COUNT, text="every bolt"),
        answer=fenced(
            '{"point_2d": [120, 500], "label": "point_1"}',
            '{"point_2d": [480, 510], "label": "point_2"}',
        ),
    ),
    Example(
        about="Any question; the answer is words.",
        query=Query(task=Task.ASK, text="Is the drawer open?"),
        answer="No, it is closed.",
    ),
    Example(
        about="A question about several pictures, which are numbered for it.",
        query=Query(task=Task.COMPARE, text="What has changed from Picture 1 to Picture 2?"),
        answer="The mug is gone from the table.",
        show_chat=True,
    ),
    Example(
        about="When something happens in a video, or in stills with their times.",
        query=Query(task=Task.LOCATE_MOMENT, text="a person opens the door"),
        answer="12.5 - 18.0 seconds",
    ),
    Example(
        about="Everything that happens in a video.",
        query=Query(task=Task.LIST_EVENTS),
        answer='{\n    "00:03.00 - 00:08.50": "A person enters.",\n'
        '    "00:12.50 - 00:18.00": "The person opens the drawer."\n}',
    ),
    Example(
        about="Where something is at each time, as 2D boxes.",
        query=Query(task=Task.TRACK, text="the forklift"),
        answer=fenced(
            '{"time": 0.0, "bbox_2d": [100, 200, 300, 400], "label": ""}',
            '{"time": 1.0, "bbox_2d": [150, 200, 350, 400], "label": ""}',
        ),
        show_chat=True,
    ),
    Example(
        about="A question for which the model may ask to see a part of a picture larger. "
        "`zoom_from_call` turns the call into a box in pixels; the crop goes back as the answer "
        "of the tool, and the model goes on. Its index counts the user's pictures only, and its "
        "boxes are always on those, never on a crop.",
        query=Query(task=Task.ZOOM, text="What does the label on the far shelf say?"),
        answer='I need a closer look.\n<tool_call>\n{"name": "image_zoom_in_tool", "arguments": '
        '{"bbox_2d": [574, 301, 660, 468], "label": "label on the shelf", "img_idx": 0}}\n'
        "</tool_call>",
        show_chat=True,
    ),
    Example(
        about="An instruction, carried out by calling the tools that are offered. Nothing here "
        "runs a tool, and a call's arguments are untrusted.",
        query=Query(task=Task.ACT, text="Take the mug.", tools=(GRASP,)),
        answer='I reach for the mug.\n<tool_call>\n{"name": "grasp", "arguments": {"uv_px": '
        "[128, 144]}}\n</tool_call>",
    ),
)

HEAD = """\
# Every task, by example

*Made by `scripts/task_page.py` out of the package itself; do not edit.*

A `Query` becomes the words Qwen3-VL was trained on (`language/prompt.py` says where each string
comes from), the model answers in text, and `read_answer` reads it, strictly. The pictures below
are 640 x 480 pixels, the videos 60 s long. Three things hold for every task:

- An answer that cannot be read is an `AnswerError` that carries the text. It is never "nothing":
  nothing is what the model itself says with an empty list.
- An answer whose tail is missing is read as far as it goes and is not `complete`.
- What was dropped or mended (a box said twice, a corner outside the picture) is in `notes`.

{spatial} are questions of place in one picture: `Perception.ground` answers
them with a `Grounding`, 3D boxes included. `Perception.ask` answers all others with a `Response`,
whose `value` is what is shown below and whose `stamp_ns` is that of the first frame shown. The
command line takes every task; `--json` prints either as JSON (`scene/as_json.py`). The node takes
questions of place as its standing question or by the action `~/ground`, all others by `~/ask`.
"""

THINKING = """\
## Thinking checkpoints

Their prompt ends with an opened thought, and their answer begins after the last `</think>`; words
that never close it are an `AnswerError`. Which kind a checkpoint is, `load_chat_style` reads from
its chat template. The whole prompt of the `ask` query above:

{chat}

An answer, and its value:

{answer}

{value}
"""


def page() -> str:
    """The text of docs/tasks.md."""
    spatial = ", ".join(f"`{task.value}`" for task in SPATIAL_TASKS)
    parts = [HEAD.format(spatial=spatial)]
    assert [example.query.task for example in EXAMPLES] == list(Task), "one for each task"
    parts += [section(example) for example in EXAMPLES]
    ask = next(example for example in EXAMPLES if example.query.task is Task.ASK)
    thought = f"The front is flush with the frame.\n</think>\n\n{ask.answer}"
    parts.append(
        THINKING.format(
            chat=block(chat_of(ask.query, ChatStyle.THINKING)),
            answer=block(thought),
            value=block(value_of(ask.query, thought, thinking=True), "python"),
        )
    )
    return "\n".join(parts)


def section(example: Example) -> str:
    """One task."""
    query = example.query
    lines = [
        f"## `{query.task.value}`",
        "",
        example.about,
        "",
        block(written(query), "python"),
        "",
        block(command_of(query), "bash"),
        "",
    ]
    if example.show_chat:
        lines += ["The whole prompt:", "", block(chat_of(query, ChatStyle.INSTRUCT)), ""]
    elif prompt_text(query) != query.text:
        lines += ["Prompt:", "", block(prompt_text(query)), ""]
    else:
        lines += ["The prompt is the text as it stands.", ""]
    lines += ["An answer, and its value:", "", block(example.answer), ""]
    lines += [block(value_of(query, example.answer), "python"), ""]
    if query.task is Task.ZOOM:
        lines += [
            "And how the conversation goes on, with the crop:",
            "",
            block(zoomed(example)),
            "",
        ]
    return "\n".join(lines)


def command_of(query: Query) -> str:
    """The same question on the command line."""
    shown = "--video clip/" if query.task in VIDEO_TASKS else "--image desk.jpg"
    if query.task is Task.COMPARE:
        shown = "--image before.jpg after.jpg"
    words = query.text or ",".join(query.categories)
    asked = f" --query {shlex.quote(words)}" if words else ""
    if query.text_level is not TextLevel.LINE:
        asked += f" --text-level {query.text_level.value}"
    if query.tools:
        asked += " --tools tools.json"
    return f"qwen3vl ground {shown} --task {query.task.value}{asked}"


def chat_of(query: Query, style: ChatStyle) -> str:
    """The prompt with everything around it, one placeholder for each picture."""
    visuals: list[Picture | Video] = [Picture(grid_hw=(2, 2))]
    if query.task is Task.COMPARE:
        visuals *= 2
    if query.task in VIDEO_TASKS:
        visuals = [Picture(grid_hw=(2, 2), time_s=time_s) for time_s in (0.0, 1.0)]
    return chat_text(chat_from_query(query, visuals), style)


def zoomed(example: Example) -> str:
    """The turns after the question, once the crop is there."""
    step = parse_step(example.answer, ended=True).value
    crop = Message(role=Role.TOOL, parts=(Picture(grid_hw=(2, 2)),))
    chat = chat_from_query(example.query, [Picture(grid_hw=(2, 2))])
    text = chat_text(chat.continued(message_from_step(step), crop), ChatStyle.INSTRUCT)
    return text.removeprefix(chat_text(chat, ChatStyle.INSTRUCT, open_turn=False))


def value_of(query: Query, answer: str, *, thinking: bool = False) -> str:
    """What the answer is read as, as Python would write it."""
    reading = read_answer(
        answer, query, width=WIDTH, height=HEIGHT, duration_s=DURATION_S, thinking=thinking
    )
    assert reading.complete, "the examples are whole"
    assert not reading.notes, "the examples are well-formed"
    return written(reading.objects if isinstance(reading, Answer) else reading.value)


def written(value: object) -> str:
    """A value as Python would write it: defaults and places in the text left out."""
    if isinstance(value, OrientedBox):
        return f"OrientedBox(center_m={written(value.center_m)}, size_m={written(value.size_m)})"
    if dataclasses.is_dataclass(value):
        given = [
            f"{field.name}={written(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if field.name != "number_spans" and not is_default(value, field)
        ]
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, np.ndarray):
        return repr(value.tolist())
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return "(\n" + "".join(f"    {written(item)},\n" for item in value) + ")"
    return repr(value)


def is_default(value: object, field: dataclasses.Field[object]) -> bool:
    """Whether a field says nothing that its default does not."""
    given = getattr(value, field.name)
    return given is None or (not isinstance(given, np.ndarray) and given == field.default)


def block(text: str, language: str = "text") -> str:
    """Text set off from the page; it may hold fences of its own."""
    return f"````{language}\n{text}\n````"


def main(arguments: Sequence[str]) -> int:
    """0 when the page is as it should be, or was made so."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    new = page()
    if "--check" in arguments:
        if new != old:
            print("docs/tasks.md is old; run: python scripts/task_page.py", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
