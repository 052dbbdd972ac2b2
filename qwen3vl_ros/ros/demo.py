# SPDX-License-Identifier: Apache-2.0
"""The demo: a synthetic camera and the node as real processes, asked for things by name.

Reads top to bottom: start both, see what is there, ask for three things that are and one that is
not, hold the answers against the truth at the same stamps, print a table, write `demo.json` and
`demo.png`. Does what an outside user would: topics, TF and the service ~/set_query. Every wait
has a deadline; whatever happens, the processes end with it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException

from ..errors import MissingDependency, Qwen3VLError
from ..runtime.manifest import Manifest, read_manifest
from ..synthetic.questions import NAMES
from .demo_findings import RIGHT_IOU, Finding, as_json, table
from .demo_processes import ChildProcess, isolated_environment
from .demo_questions import MAX_LOOKS, Demo, DemoFailed
from .demo_witness import Witness
from .parameters import NodeParameters, engine_directory
from .synthetic_parameters import MOTIONS

MAP_FRAME, BASE_FRAME = "map", "base_link"
SEED = 4  # a scene whose objects stand apart


def absent_thing(present: set[str]) -> str:
    """A name the model knows, of a colour that nothing in the scene has."""
    colours = {name.split()[0] for name in present}
    return next(name for name in reversed(NAMES) if name.split()[0] not in colours)


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, flush=True)


def picture_of_findings() -> Callable[..., None]:
    """`draw_demo`, asked for before anything starts: it needs matplotlib, which is no other's.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from .demo_picture import draw_demo
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "matplotlib",
            needed_for="the demo's picture",
            install="make setup (or pip install -r requirements/demo.txt)",
        ) from error
    return draw_demo


def run(options: argparse.Namespace) -> int:
    """Runs the demo; 0 when everything that is there was found."""
    engine_dir = engine_directory(NodeParameters(engine_dir=options.engine_dir))
    out: Path = options.out
    logs = out / "demo_log"
    children: list[ChildProcess] = []
    try:
        draw_demo = picture_of_findings()
        manifest = read_manifest(engine_dir)
        logs.mkdir(parents=True, exist_ok=True)
        environment = isolated_environment(os.environ, log=logs / "ros")
        os.environ.update(environment)
        rclpy.init()
        with ExitStack() as cleanup:
            cleanup.callback(rclpy.try_shutdown)
            for child in _children(options, engine_dir, logs, environment):
                children.append(cleanup.enter_context(child))
            witness = Witness(map_frame=MAP_FRAME, base_frame=BASE_FRAME)
            cleanup.callback(witness.destroy_node)
            try:
                findings = _ask_all(Demo(witness, children, options))
            except DemoFailed as failure:
                # Now, because what they say when they are told to stop is no news.
                tails = (f"last lines of {child.log}:\n{child.tail()}" for child in children)
                raise DemoFailed("\n\n".join([str(failure), *tails])) from failure
        _report(findings, manifest, engine_dir, options, draw_demo=draw_demo)
    except (DemoFailed, Qwen3VLError) as failure:
        print(f"\nthe demo failed: {failure}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        print("\nstopped", file=sys.stderr)
        return 1
    missed = [f.name for f in findings if f.truth is not None and not f.is_right_in_kind]
    if missed:
        print(f"\nnot found in {MAX_LOOKS} pictures: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


def _children(
    options: argparse.Namespace, engine_dir: Path, logs: Path, environment: Mapping[str, str]
) -> Iterator[ChildProcess]:
    camera = {
        "seed": options.seed,
        "solids": options.solids,
        "motion": options.motion,
        "map_frame": MAP_FRAME,
        "base_frame": BASE_FRAME,
    }
    node = {
        "engine_dir": engine_dir,
        "target_frame": BASE_FRAME,
        # Nothing in 3D is better than something in a frame that was not asked for.
        "tf_fallback": "drop",
        # Patient, because a busy machine hands over late.
        "pairing_wait_s": 1.0,
        "tf_timeout_s": 2.0,
    }
    for name, module, parameters in (
        ("synthetic camera", "qwen3vl_ros.ros.synthetic_camera", camera),
        ("node", "qwen3vl_ros.ros.node", node),
    ):
        arguments = ["--ros-args"]
        for key, value in parameters.items():
            arguments += ["-p", f"{key}:={value}"]
        log = logs / f"{name.replace(' ', '_')}.log"
        say(f"starting the {name} (log: {log})")
        yield ChildProcess(name, module, arguments, log=log, environment=environment)


def _ask_all(demo: Demo) -> list[Finding]:
    names, present = demo.things_in_sight()
    say(f"the camera sees: {', '.join(sorted(present))}")
    demo.wait_for_node()
    findings = []
    for name in [*names, absent_thing(present)]:
        is_there = name in present
        say(f"asking for: {name}" + ("" if is_there else " (which is not there)"))
        findings.append(demo.ask(name, is_there=is_there))
    return findings


def _report(
    findings: Sequence[Finding],
    manifest: Manifest,
    engine_dir: Path,
    options: argparse.Namespace,
    *,
    draw_demo: Callable[..., None],
) -> None:
    say("\n" + table(findings, frame_id=BASE_FRAME) + "\n")
    there = [finding for finding in findings if finding.truth is not None]
    absent = [finding for finding in findings if finding.truth is None]
    right = [finding for finding in there if finding.is_right]
    silent = [finding for finding in absent if finding.is_right]
    say(f"{len(right)} of {len(there)} found where they are (2D IoU at least {RIGHT_IOU:g}),")
    say(f"{len(silent)} of {len(absent)} that are not there rightly not found")
    seconds = float(np.median([finding.answer_s for finding in findings]))
    report = {
        "target_frame": BASE_FRAME,
        "scene_seed": options.seed,
        "engine": {
            "directory": str(engine_dir),
            "model_type": manifest.model_type,
            "flavour": manifest.flavour,
            "precision": manifest.precision,
            "weights_sha256": manifest.weights_sha256,
        },
        "answer_median_s": round(seconds, 3),
        "there": len(there),
        "found_where_they_are": len(right),
        "not_there": len(absent),
        "rightly_not_found": len(silent),
        "findings": [as_json(finding) for finding in findings],
    }
    file = options.out / "demo.json"
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    picture = options.out / "demo.png"
    subtitle = (
        f"{manifest.model_type}, {manifest.precision} {manifest.flavour} engine, "
        f"{seconds:.1f} s a picture"
    )
    draw_demo(findings, picture, frame_id=BASE_FRAME, subtitle=subtitle)
    say(f"written: {picture}, {file}")


def main(arguments: Sequence[str] | None = None) -> None:
    """What `python -m qwen3vl_ros.ros.demo` runs."""
    parser = argparse.ArgumentParser(
        prog="python -m qwen3vl_ros.ros.demo", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="where files are written")
    parser.add_argument("--engine-dir", default="", help="engine directory; default: the tiny one")
    parser.add_argument("--seed", type=int, default=SEED, help="of the scene")
    parser.add_argument("--solids", type=int, default=4, help="objects in the scene")
    parser.add_argument("--motion", choices=MOTIONS, default="moving", help="of the robot")
    # Generous: what comes is seen at once, what never comes costs this once.
    parser.add_argument("--start-timeout", type=float, default=120.0, metavar="S")
    parser.add_argument("--answer-timeout", type=float, default=60.0, metavar="S")
    sys.exit(run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
