# SPDX-License-Identifier: Apache-2.0
"""Answers as models write them, and their values as nested lists, to compare with at sight.

In a picture of 1000 x 500 pixels, x is a pixel and y half a one; the video takes 60 s.
"""

from __future__ import annotations

from qwen3vl_ros.language.answers import AnyReading, read_answer
from qwen3vl_ros.language.parsing import Answer, AnswerObject
from qwen3vl_ros.scene.answers import Count, Moment, Step, TextSpan, TimedBox
from qwen3vl_ros.scene.detections import TASKS_WITHOUT_TEXT, Query, Task
from qwen3vl_ros.scene.tools import Tool

OFFERED = {Task.ACT: (Tool(name="grasp", description="Close.", parameters={}),)}


def query_of(task: Task, max_objects: int = 20) -> Query:
    return Query(
        task=task,
        text="" if task in TASKS_WITHOUT_TEXT or task is Task.DETECT else "it",
        categories=("it",) if task is Task.DETECT else (),
        tools=OFFERED.get(task, ()),
        max_objects=max_objects,
    )


def read(text: str, task: Task, *, max_objects: int = 20, **more: bool) -> AnyReading:
    return read_answer(
        text, query_of(task, max_objects), width=1000, height=500, duration_s=60.0, **more
    )


def plain(reading: AnyReading) -> object:
    """A value as nested lists, to compare with at sight."""
    value = reading.objects if isinstance(reading, Answer) else reading.value
    if isinstance(value, Count):
        return value.uv_px.tolist()
    if isinstance(value, Step):
        return [value.words, *([call.name, dict(call.arguments)] for call in value.calls)]
    if isinstance(value, str):
        return value
    return [one(item) for item in value]


def one(item: object) -> list[object]:
    if isinstance(item, TextSpan):
        return [item.text, item.xyxy_px.tolist()]
    if isinstance(item, Moment):
        return [item.start_s, item.end_s, item.label]
    if isinstance(item, TimedBox):
        return [item.time_s, item.xyxy_px.tolist(), item.label]
    assert isinstance(item, AnswerObject)
    if item.box is not None:
        return [item.label, item.box.T_frame_box[:3, 3].tolist(), item.box.size_m.tolist()]
    place = item.xyxy_px if item.uv_px is None else item.uv_px
    return [item.label, place.tolist()]


def text_span(numbers: str = "[0, 200, 400, 300]", text: str = "EXIT") -> str:
    return f'{{"bbox_2d": {numbers}, "text_content": "{text}"}}'


def point(numbers: str = "[10, 20]", label: str = "point_1") -> str:
    return f'{{"point_2d": {numbers}, "label": "{label}"}}'


def timed(time: str = "1.0", numbers: str = "[0, 200, 400, 300]", label: str = "") -> str:
    return f'{{"time": {time}, "bbox_2d": {numbers}, "label": "{label}"}}'


def box(numbers: str = "[0, 200, 400, 300]", label: str = "cup") -> str:
    return f'{{"bbox_2d": {numbers}, "label": "{label}"}}'


def box_3d(numbers: str = "[1, 0, 4, 2, 1, 1, 0, 0.5, 0]", label: str = "car") -> str:
    return f'{{"bbox_3d": {numbers}, "label": "{label}"}}'


def listed(*objects: str) -> str:
    """As Qwen3-VL writes a list of objects."""
    return "```json\n[\n\t" + ",\n\t".join(objects) + "\n]\n```"


def call(name: str = "grasp", arguments: str = '{"force_n": 2}') -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


EXIT, EXIT_AGAIN = ["EXIT", [0, 100, 400, 150]], ["Way out", [0, 100, 400, 150]]
STAMP, CLOCK = '"<1.0 seconds>"', '"00:02.00"'
BOX = [1.0, [0, 100, 400, 150], ""]
TEXTS = f"```json\n[\n\t{text_span()},\n\t{text_span(text='Way out')}\n]\n```"
EVENTS = '{\n    "00:23.00 - 00:48.00": "trim the fat",\n    "00:56.00 - 01:28.00": "season"\n}'
EVENTS_READ = [[23.0, 48.0, "trim the fat"], [56.0, 60.0, "season"]]
GRASP = ["grasp", {"force_n": 2}]
