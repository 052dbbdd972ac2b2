# SPDX-License-Identifier: Apache-2.0
"""What exporting and compiling for TensorRT-RTX costs; writes docs/bench/tensorrt_2b.json.

    .venv/bin/python scripts/measure_builds.py --checkpoint DIR --work DIR

Every step is `qwen3vl build` in a process of its own, so that its peak memory is its own. The
recipe is rtx-ada's with another precision and architecture; plans are deleted once measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qwen3vl_ros.offline.computer import computer_facts
from qwen3vl_ros.offline.recipes import recipes_directory

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("int4", "float16")
ARCHITECTURES = ("sm_86", "sm_89", "sm_120")
PACKAGES = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs", "onnx", "onnx-ir", "torch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="10 GB free, for float16 of 2B")
    parser.add_argument("--precision", nargs="+", default=PRECISIONS)
    parser.add_argument("--architecture", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/bench/tensorrt_2b.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    exports: list[dict[str, object]] = []
    builds: list[dict[str, object]] = []
    report = {
        "command": "scripts/measure_builds.py --checkpoint 2B --work DIR",
        "checkpoint": "qwen3vl random-checkpoint --size 2B: the true shape, random weights",
        **computer_facts(PACKAGES),
        "exports": exports,
        "builds": builds,
    }
    for precision in options.precision:
        recipe = written_recipe(options.work, precision, options.architecture[0])
        graphs = options.work / f"{recipe.stem}-graphs"
        source = ["--checkpoint", str(options.checkpoint), "--graphs-only"]
        effort = run(["--recipe", str(recipe), "--output", str(options.work), *source])
        sizes = {"graphs_gb": gigabytes(graphs), "weights_gb": weights(graphs)}
        exports.append({"precision": precision, **effort, **sizes})
        for architecture in options.architecture:
            recipe = written_recipe(options.work, precision, architecture)
            engine = options.work / recipe.stem
            effort = run(
                ["--recipe", str(recipe), "--output", str(options.work), "--graphs", str(graphs)]
            )
            plans = {f"{plan.stem}_gb": gigabytes(plan) for plan in engine.glob("*.plan")}
            build: dict[str, object] = {
                "precision": precision,
                "gpu_architecture": architecture,
                **effort,
                **plans,
            }
            builds.append(build)
            print(json.dumps(build), flush=True)
            shutil.rmtree(engine)
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(report, indent=2) + "\n")
        shutil.rmtree(graphs)


def written_recipe(directory: Path, precision: str, architecture: str) -> Path:
    values = json.loads((recipes_directory() / "rtx-ada.json").read_text())
    values |= {"precision": precision, "gpu_architecture": architecture}
    file = directory / f"2b-{precision}-{architecture}.json"
    file.write_text(json.dumps(values))
    return file


def run(arguments: Sequence[str]) -> dict[str, float]:
    """Wall and processor time, and the most memory that was resident, of one command."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "qwen3vl_ros.cli", "build", *arguments]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return {
        "wall_s": round(time.monotonic() - begun, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_resident_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def weights(graphs: Path) -> dict[str, float]:
    return {data.name.split(".")[0]: gigabytes(data) for data in sorted(graphs.glob("*.data"))}


def gigabytes(path: Path) -> float:
    files = path.iterdir() if path.is_dir() else (path,)
    return round(sum(file.stat().st_size for file in files) / 1e9, 3)


if __name__ == "__main__":
    main()
