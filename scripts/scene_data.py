# SPDX-License-Identifier: Apache-2.0
"""Write rendered scenes as a data set in COCO's, RefCOCO's and Omni3D's format.

The small one of the tests is `--output tests/evaluation/data --scenes 3 --size 320x240 --suffix
.jpg`; docs/evaluation.md evaluates a larger one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qwen3vl_ros.synthetic.dataset import HELD_OUT_SEED
from qwen3vl_ros.synthetic.scene_data import RenderedScene
from qwen3vl_ros.synthetic.scene_files import write_scene_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT, pixels")
    parser.add_argument("--suffix", choices=[".png", ".jpg"], default=".png")
    parser.add_argument("--first-seed", type=int, default=HELD_OUT_SEED)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    seeds = range(options.first_seed, options.first_seed + options.scenes)
    scenes = [RenderedScene.of(seed, width=width, height=height) for seed in seeds]
    write_scene_data(options.output, scenes, suffix=options.suffix)
    print(f"{len(scenes)} scenes: {options.output}")


if __name__ == "__main__":
    main()
