# SPDX-License-Identifier: Apache-2.0
"""This project's ONNX Runtime engine, as one of the peers.

python -m benchmarks.with_qwen3vl_ros ENGINE_DIRECTORY
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from qwen3vl_ros.model_config import load_model_config
from qwen3vl_ros.offline.computer import versions_of
from qwen3vl_ros.offline.engine_passes import EnginePasses
from qwen3vl_ros.runtime.loading import load_engines

from .peer import answer, cores_to_use


class Qwen3VLRos:
    """A `Peer`."""

    def __init__(self, directory: Path) -> None:
        self._engines = load_engines(directory, threads=cores_to_use())
        self._passes = EnginePasses(self._engines, load_model_config(directory))

    def facts(self) -> Mapping[str, object]:
        manifest = self._engines.manifest
        return {
            "versions": versions_of(("onnxruntime", "numpy")),
            "weights": manifest.precision,
            "tower": manifest.vision_precision,
            "running": str(self._engines.running),
        }

    def encode(self, image_tokens: int) -> None:
        self._passes.encode(image_tokens=image_tokens)

    def prefill(self, image_tokens: int, text_tokens: int) -> None:
        self._passes.prefill(image_tokens=image_tokens, text_tokens=text_tokens)

    def fill(self, cached_tokens: int) -> None:
        # Zeros take as long to attend to as any numbers.
        pass

    def decode(self, cached_tokens: int, passes: int) -> None:
        for _ in range(passes):
            self._passes.append(rows=1, cached_tokens=cached_tokens)


if __name__ == "__main__":
    answer(Qwen3VLRos(Path(sys.argv[1])))
