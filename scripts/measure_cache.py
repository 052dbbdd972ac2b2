#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Passes of two engines' decoders in turns, in one process: what another cache costs and gains.

    .venv/bin/python scripts/measure_cache.py ENGINES/onnxruntime-int4-128 \
        ENGINES/onnxruntime-int4-128-cache8 --threads 2

Prints CPU seconds of all threads, medians over rounds, and the first engine's over the second's.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline.engine_passes import EnginePasses
from qwen3vl_ros.offline.taking_turns import effort_of, in_turns, median_cpu, median_ratio
from qwen3vl_ros.runtime.loading import load_engines

PASSES = 3  # in a row, of those that are short


def main() -> None:
    parser = argparse.ArgumentParser(description="Decoder passes of two engines, in turns.")
    parser.add_argument("engines", nargs=2, type=Path)
    parser.add_argument("--image-tokens", type=int, nargs="*", default=[300, 1024])
    parser.add_argument("--text-tokens", type=int, default=32)
    parser.add_argument("--cached-tokens", type=int, nargs="*", default=[512, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    passes = [
        EnginePasses(load_engines(path, threads=options.threads), load_model_config(path))
        for path in options.engines
    ]
    stages: dict[str, tuple[Callable[[EnginePasses], None], int]] = {}
    for tokens in options.cached_tokens:
        stages[f"one token behind {tokens}"] = (partial(_appended, cached_tokens=tokens), PASSES)
    for tokens in options.image_tokens:
        name = f"prefill {tokens} + {options.text_tokens}"
        prefill = partial(_prefilled, image_tokens=tokens, text_tokens=options.text_tokens)
        stages[name] = (prefill, 1)
    for name, (stage, times) in stages.items():
        for each in passes:
            stage(each)  # a size's first pass makes its buffers
        turns = in_turns(
            {
                n: partial(effort_of, partial(stage, each), times=times)
                for n, each in enumerate(passes)
            },
            rounds=options.rounds,
        )
        first, second = (median_cpu(turns[n]) for n in (0, 1))
        ratio = median_ratio(*([effort.cpu_s for effort in turns[n]] for n in (0, 1)))
        load = os.getloadavg()[0]
        print(
            f"{name}: {first:.3f} and {second:.3f} s, {ratio:.2f} x, load {load:.1f}", flush=True
        )


def _appended(passes: EnginePasses, *, cached_tokens: int) -> None:
    passes.append(rows=1, cached_tokens=cached_tokens)


def _prefilled(passes: EnginePasses, *, image_tokens: int, text_tokens: int) -> None:
    passes.prefill(image_tokens=image_tokens, text_tokens=text_tokens)


if __name__ == "__main__":
    main()
