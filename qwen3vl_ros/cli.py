# SPDX-License-Identifier: Apache-2.0
"""The `qwen3vl` command: ground a picture, export engines, evaluate, train the tiny checkpoint.

Knows every room below ROS and does none of their work: each command reads its arguments, calls
one room and shows what came back. The workshop (torch, exporters, Open3D rendering) is imported
by the commands that need it, so that `qwen3vl ground` runs where only the runtime is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from tqdm import tqdm

from .errors import FrameError, MissingDependency, Qwen3VLError
from .image.drawing import annotated_image
from .perception import Perception
from .runtime.loading import tiny_engine_directory
from .scene.camera import Frame
from .scene.detections import SPATIAL_TASKS, Grounding, Query, Task

CHECKPOINT = Path("engines/tiny/checkpoint")  # of the tree one works in
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked."""
    options = _parser().parse_args(arguments)
    run = cast(Callable[[argparse.Namespace], int], options.run)
    try:
        return run(options)
    except Qwen3VLError as error:
        print(f"qwen3vl {options.command}: {error}", file=sys.stderr)
        return EXIT_FAILED


def ground(options: argparse.Namespace) -> int:
    """Find something in one picture."""
    is_file = options.image.is_file()  # OpenCV would log of its own that it is not
    pixels = cv2.imread(str(options.image), cv2.IMREAD_COLOR) if is_file else None
    if pixels is None:
        raise FrameError(f"cannot read a picture, expected a PNG or JPEG file: {options.image}")
    frame = Frame(
        image=np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8),
        stamp_ns=0,
        frame_id="camera",
    )
    task = Task(options.task)
    query = (
        Query(task=task, categories=tuple(part.strip() for part in options.query.split(",")))
        if task is Task.DETECT
        else Query(task=task, text=options.query)
    )
    perception = Perception.load(options.engines, threads=options.threads)
    grounding = perception.ground(frame, query)
    print(json.dumps(grounding_as_json(grounding), indent=2))
    if options.draw:
        _write_drawn(frame, grounding, options.draw)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write the engines of a checkpoint, one directory a precision."""
    with _workshop("export"):
        from .offline.export import export_checkpoint

    for precision in options.precision:
        target = options.output / f"onnxruntime-{precision}"
        export_checkpoint(
            options.checkpoint, target, precision=precision, cache_length=options.cache_length
        )
        print(f"{precision}: {target}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print how right the engines are on held-out scenes, and write it as JSON."""
    from .offline.evaluation import AbsentResult, ObjectResult, as_rows, summary
    from .offline.evaluation import evaluate as results_by_scene

    perception = Perception.load(options.engines, threads=options.threads)
    objects: list[ObjectResult] = []
    absent: list[AbsentResult] = []
    scenes = results_by_scene(perception, scenes=options.scenes)
    for found, missing in tqdm(scenes, total=options.scenes, unit="scene", disable=None):
        objects.extend(found)
        absent.extend(missing)
    numbers = summary(objects, absent)
    for name, value in numbers.items():
        print(f"{name:28} {_shown(value)}")
    report: Mapping[str, object] = {
        "engines": str(options.engines),
        "scenes": options.scenes,
        "summary": numbers,
        "objects": as_rows(objects),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False)
    options.output.write_text(text + "\n", encoding="utf-8")
    print(f"every result: {options.output}")
    return 0


def train_tiny(options: argparse.Namespace) -> int:
    """Render scenes, train the tiny checkpoint on them, and write it."""
    with _workshop("train-tiny"):
        from .offline.tiny_training import train_tiny_checkpoint

    train_tiny_checkpoint(
        options.output,
        work=options.work,
        scenes=options.scenes,
        seed=options.seed,
        threads=options.threads or 2,
    )
    return 0


def grounding_as_json(grounding: Grounding) -> Mapping[str, object]:
    """A grounding as plain JSON values: pixels, metres, rotation as a 3x3 matrix."""
    return {
        "task": grounding.query.task.value,
        "text": grounding.query.text,
        "categories": list(grounding.query.categories),
        "complete": grounding.complete,
        "detections_2d": [
            {"label": d.label, "score": round(d.score, 4), "xyxy_px": d.xyxy_px.round(2).tolist()}
            for d in grounding.detections_2d
        ],
        "points": [
            {"label": p.label, "score": round(p.score, 4), "uv_px": p.uv_px.round(2).tolist()}
            for p in grounding.points
        ],
        "detections_3d": [
            {
                "label": d.label,
                "score": round(d.score, 4),
                "source": d.source.value,
                "center_m": d.box.center_m.round(4).tolist(),
                "size_m": d.box.size_m.round(4).tolist(),
                "rotation": d.box.T_frame_box[:3, :3].round(5).tolist(),
            }
            for d in grounding.detections_3d
        ],
        "notes": list(grounding.notes),
        "answer": grounding.answer_text,
    }


@contextmanager
def _workshop(command: str) -> Iterator[None]:
    """Says what to install where the workshop's imports fail."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependency(
            error.name or "torch",
            needed_for=f"qwen3vl {command}",
            install="make setup (or pip install -e '.[workshop]')",
        ) from error


def _shown(value: float | int | None) -> str:
    if value is None:
        return "not given often enough"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"is {value}, expected at least 1")
    return value


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"is '{path}', expected a path that ends in {', '.join(PICTURE_SUFFIXES)}"
        )
    return path


def _write_drawn(frame: Frame, grounding: Grounding, path: Path) -> None:
    drawn = annotated_image(
        frame.image, detections_2d=grounding.detections_2d, points=grounding.points
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)):
        raise FrameError(f"cannot write the drawn picture to '{path}'; may this user write there?")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qwen3vl", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = _command(commands, "ground", ground)
    one.add_argument("--image", type=Path, required=True, help="PNG or JPEG")
    one.add_argument(
        "--query", required=True, help="what to look for; categories apart by commas for detect"
    )
    one.add_argument(
        "--task",
        choices=[task.value for task in SPATIAL_TASKS],
        default=Task.REFER.value,
        help="question",
    )
    one.add_argument(
        "--draw", type=_picture, help="write the picture with what was found drawn on it"
    )
    _engine_options(one)

    one = _command(commands, "export", export)
    one.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="Hugging Face directory")
    one.add_argument(
        "--output", type=Path, default=CHECKPOINT.parent, help="parent of the engines"
    )
    one.add_argument(
        "--precision", nargs="+", default=["float32", "int4"], choices=["float32", "int4"]
    )

    one.add_argument(
        "--cache-length",
        type=_positive,
        metavar="TOKENS",
        help="of prompt and answer together; by default the largest picture and some words fit",
    )

    one = _command(commands, "evaluate", evaluate)
    one.add_argument("--scenes", type=_positive, default=200, help="held-out scenes to ask about")
    one.add_argument(
        "--output", type=Path, default=Path("out/evaluation.json"), help="every result, as JSON"
    )
    _engine_options(one)

    one = _command(commands, "train-tiny", train_tiny)
    one.add_argument("--output", type=Path, default=CHECKPOINT, help="checkpoint directory")
    one.add_argument("--work", type=Path, default=Path("out"), help="cached scenes and states")
    one.add_argument(
        "--scenes", type=_positive, default=7400, help="scenes to render and learn from"
    )
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--threads", type=int, default=0, help="0 means two")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
    parser.set_defaults(run=run)
    return parser


def _engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engines",
        type=Path,
        default=tiny_engine_directory(),
        help="engine directory; by default the tiny engine of this package",
    )
    parser.add_argument("--threads", type=int, default=0, help="of the runtime; 0 means all cores")


if __name__ == "__main__":
    sys.exit(main())
