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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from ..errors import Qwen3VLError
from ..msg import Query
from ..runtime.manifest import Manifest, read_manifest
from ..srv import SetQuery
from ..synthetic.questions import NAMES
from .demo_findings import RIGHT_IOU, Finding, as_json, table
from .demo_picture import draw_demo
from .demo_processes import ChildProcess, isolated_environment
from .demo_witness import Witness, finding_from_heard, plain_things
from .parameters import NodeParameters, engine_directory
from .synthetic_parameters import MOTIONS

MAP_FRAME, BASE_FRAME = "map", "base_link"
OBJECTS = 3
SEED = 4  # a scene whose objects stand apart
# The robot moves and the model errs: a thing that is there is looked for in up to so many
# pictures, and how many it took is reported.
MAX_LOOKS = 5

T = TypeVar("T")


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Demo:
    """The running demo: a witness, and the processes it listens to."""

    def __init__(
        self, witness: Witness, children: Sequence[ChildProcess], options: argparse.Namespace
    ) -> None:
        self._witness = witness
        self._start_s: float = options.start_timeout
        self._answer_s: float = options.answer_timeout
        self._children = children
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(witness)
        self._questions = 0

    def until(self, condition: Callable[[], T | None], waiting_for: str, timeout_s: float) -> T:
        """Listens until `condition` gives something; that.

        Raises:
            DemoFailed: too late, or a process has ended.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value is not None and value is not False:
                return value
            for child in self._children:
                if child.exit_code is not None:
                    raise DemoFailed(f"the {child.name} ended with exit code {child.exit_code}")
            if self._witness.engine_fault:
                raise DemoFailed(f"the node reports: {self._witness.engine_fault}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {timeout_s:g} s for {waiting_for}")
            self._executor.spin_once(timeout_sec=0.05)
            self._witness.look_up_transforms()

    def things_in_sight(self) -> tuple[list[str], set[str]]:
        """Names to ask for, the largest first, and the names of all that was seen."""

        def look() -> list[str] | None:
            latest = self._witness.latest(lambda heard: heard.is_scene_known)
            names = plain_things(latest[1]) if latest is not None else []
            return names[:OBJECTS] if len(names) >= OBJECTS else None

        names = self.until(look, f"{OBJECTS} things in plain sight of the camera", self._start_s)
        return names, self._witness.names_seen()

    def wait_for_node(self) -> None:
        """Until the node is active, which it says by its diagnostics and its service."""
        self.until(
            lambda: self._witness.engine_is_active and self._witness.set_query.service_is_ready(),
            "the node to load its engine and become active",
            self._start_s,
        )

    def ask(self, name: str, *, is_there: bool) -> Finding:
        """What the node finds when asked for `name`."""
        self._questions += 1
        query_id = f"demo-{self._questions}"
        request = SetQuery.Request(query=Query(task=Query.REFER, text=name, id=query_id))
        future = self._witness.set_query.call_async(request)
        self.until(future.done, f"~/set_query to answer about '{name}'", self._answer_s)
        response = future.result()
        if not response.success:
            raise DemoFailed(f"the node refused to look for '{name}': {response.message}")

        def judge() -> Finding | None:
            finding = self._finding(name, query_id, is_there=is_there)
            if finding is None or not is_there:
                return finding
            is_final = finding.is_right_in_kind or finding.pictures >= MAX_LOOKS
            return finding if is_final else None

        try:
            return self.until(judge, f"an answer about '{name}'", self._answer_s)
        except DemoFailed as failure:
            raise DemoFailed(f"{failure}{self._last_trouble(query_id)}") from failure

    def _finding(self, name: str, query_id: str, *, is_there: bool) -> Finding | None:
        """The first finding that is right in kind, or else the last one; None while none is in."""
        last: Finding | None = None
        answered = [item for item in self._witness.answers_to(query_id) if item[1].is_answered]
        for pictures, (stamp_ns, heard) in enumerate(answered, start=1):
            finding = finding_from_heard(name, stamp_ns, heard, pictures=pictures)
            # A thing that is there may be out of the picture for a moment.
            if finding is None or (is_there and finding.truth is None):
                continue
            last = finding
            if finding.is_right_in_kind:
                break
        return last

    def _last_trouble(self, query_id: str) -> str:
        messages = [
            heard.status.message
            for _, heard in self._witness.answers_to(query_id)
            if heard.status is not None and heard.status.message
        ]
        return f"; the node last said: {messages[-1]}" if messages else ""


def absent_thing(present: set[str]) -> str:
    """A name the model knows, of a colour that nothing in the scene has."""
    colours = {name.split()[0] for name in present}
    return next(name for name in reversed(NAMES) if name.split()[0] not in colours)


def say(text: str) -> None:
    """A line for the person who watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(options: argparse.Namespace) -> int:
    """Runs the demo; 0 when everything that is there was found."""
    engine_dir = engine_directory(NodeParameters(engine_dir=options.engine_dir))
    out: Path = options.out
    logs = out / "demo_log"
    children: list[ChildProcess] = []
    try:
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
        _report(findings, manifest, engine_dir, options)
    except (DemoFailed, Qwen3VLError) as failure:
        sys.stderr.write(f"\nthe demo failed: {failure}\n")
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        sys.stderr.write("\nstopped\n")
        return 1
    missed = [f.name for f in findings if f.truth is not None and not f.is_right_in_kind]
    if missed:
        sys.stderr.write(f"\nnot found in {MAX_LOOKS} pictures: {', '.join(missed)}\n")
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
    findings: Sequence[Finding], manifest: Manifest, engine_dir: Path, options: argparse.Namespace
) -> None:
    say("\n" + table(findings, frame_id=BASE_FRAME) + "\n")
    there = [finding for finding in findings if finding.truth is not None]
    right = [finding for finding in there if finding.is_right]
    say(f"{len(right)} of {len(there)} found where they are (2D IoU at least {RIGHT_IOU:g})")
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
