# SPDX-License-Identifier: Apache-2.0
"""Texts that the tiny tokenizer segments as Qwen's does, whatever it is cut for.

The prompts of all tasks, the answers in native style, and plain words of rooms, robots and
tables, so that new questions do not force a new cut (a cut changes every token id;
`carrying_over.py` keeps what is known of those that stay). Data only.
"""

from __future__ import annotations

from ..language.prompt import CHAT_AFTER_TEXT, CHAT_BEFORE_TEXT, prompt_text
from ..scene.detections import SPATIAL_TASKS, Query, Task, TextLevel

COLOURS = """
red green blue yellow orange purple pink brown black white gray grey cyan magenta turquoise beige
"""
SHAPES = """
box ball cylinder cone ring mug bottle cube sphere block cup bowl plate can torus pyramid disc tube
"""
THINGS = """
object thing chair table desk laptop keyboard mouse monitor screen phone book pen paper bag person
door window wall floor shelf drawer cabinet handle knife fork spoon apple banana tool hammer
screwdriver drill cable box pallet crate barrel robot gripper arm camera tray marker button switch
"""
RELATIONS = """
left right top bottom front back behind above below under near nearest far farthest closest
furthest next between beside inside outside middle center on in of to from at by with without and
or the a an largest smallest biggest big small large tall tallest short shortest high highest low
lowest second first third last only other same different leftmost rightmost topmost lowest all
every any one two three four five six seven eight nine ten not no yes is are there it its that this
which what where how many much color colour shape size object objects image picture find locate
show point count pick
moves moved moving move stays stayed stopped started turned fell appeared disappeared changed
nothing something nearer closer away toward towards forward backward before after during
while until when happens happened seconds second time times video frame frames written
reads says read word words text letters side corner edge half part whole empty full
open closed upright lying held reach
"""
SHORT_ANSWERS = """
Yes No None One Two Three Four Five Six Seven Eight Nine Ten Left Right Red Green Blue Yellow
Orange Purple Pink Brown Black White Gray Cyan On In At The A There It They
Nothing Something From Between Behind Above Below Next Nearest Farthest Largest Smallest
Picture Video
"""
# What may be painted on things: labels of packages, of doors, of a kitchen and of a workshop.
PAINTED = """
TEA SALT RICE MILK GLUE TOOLS NUTS OPEN SUGAR FLOUR COFFEE BEANS PASTA SOUP OIL SOAP WATER BOLTS
SCREWS NAILS TAPE PAINT FUSE WIRE PARTS BOX FRAGILE UP DOWN PUSH PULL STOP GO EXIT ENTER ON OFF
LEFT RIGHT HOT COLD A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
"""
WITH_A_DESCRIPTION = (Task.COUNT, Task.LOCATE_MOMENT, Task.TRACK)
SENTENCES = (
    "the red box left of the blue ball",
    "the nearest mug, the one to the right of the green bottle.",
    "How many objects are there? There are no objects; there is nothing in the image.",
    "What's the robot's largest cylinder between two cones?",
)
ANSWERS = (
    '```json\n[\n\t{"bbox_2d": [12, 345, 678, 1000], "label": "red box"},\n\t',
    '{"bbox_2d": [0, 9, 99, 100], "label": "ball"}\n]\n```',
    '```json\n[\n\t{"point_2d": [512, 30], "label": "blue mug"},\n\t',
    '{"point_2d": [1, 2], "label": "point_1"}\n]\n```',
    '\t{"bbox_3d": [-0.12, 0.05, 1.5, 0.1, 0.2, 0.3, 0, -0.5, 0.75], "label": "cone"},\n',
    '\t{"bbox_3d":[-1.0,-2.55,3,0.1,-0.2,0.3,0,0,-1],"label":"ring"}\n]\n```',
    "```json\n[]\n```",
    '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"point_2d": [1, 2], "label": "b"}]',
    '{"bbox_2d":[1,2,3,4],"label":"a"},{"point_2d":[1,2],"label":"b"}',
    "<12.5 seconds>",
    "12.5 - 18.0 seconds",
    '[{"time": 1.0, "bbox_2d": [12, 345, 678, 1000], "label": "red box"},\n',
    '```json\n[\n\t{"bbox_2d": [12, 345, 678, 1000], "text_content": "TEA"},\n\t',
    '{"bbox_2d": [0, 9, 99, 100], "text_content": "SALT"}\n]\n```',
    '```json\n{"00:01.50 - 00:02.00": "The red box moves to the left."}\n```',
    "Picture 1: Picture 2: Video 1: ",
)


def _prompts() -> list[str]:
    words = "the red box"
    queries = [Query(task=task, text=words) for task in SPATIAL_TASKS if task is not Task.DETECT]
    queries.append(Query(task=Task.DETECT, categories=(words, "ball")))
    queries += [Query(task=Task.SPOT_TEXT, text_level=level) for level in TextLevel]
    queries += [Query(task=task, text=words) for task in WITH_A_DESCRIPTION]
    queries.append(Query(task=Task.LIST_EVENTS))
    return [CHAT_BEFORE_TEXT + prompt_text(query) + CHAT_AFTER_TEXT for query in queries]


def _spellings(word: str) -> list[str]:
    """A word at the start of a string and after a space, one and many."""
    many = word + ("es" if word.endswith(("x", "s", "ch")) else "s")
    return [word, f" {word}", f" {many}", many]


TEXTS_ALWAYS_KEPT: tuple[str, ...] = (
    *_prompts(),
    *(f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")),
    *ANSWERS,
    *SENTENCES,
    *(text for word in (COLOURS + THINGS + RELATIONS).split() for text in (word, f" {word}")),
    *(text for word in SHAPES.split() for text in _spellings(word)),
    *(text for word in SHORT_ANSWERS.split() for text in (word, f"{word}.", f" {word}")),
    *(text for word in PAINTED.split() for text in (word, f'"{word}"', f" {word}")),
)
