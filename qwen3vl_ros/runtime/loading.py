# SPDX-License-Identifier: Apache-2.0
"""An engine directory becomes three running graphs, or is refused.

The only place that asks for an engine's flavour; everything above sees `Engine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .engine import Engine
from .manifest import EMBEDDING_FILE, GRAPH_FILES, Manifest, verify_engine_dir

TINY_ENGINE = Path("engines") / "tiny" / "onnxruntime-int4"


def tiny_engine_directory() -> Path:
    """Of the engine that comes with the package: in the source tree, or where it is installed.

    colcon and CMake put the modules to PREFIX/lib/python3.x/site-packages and data to
    PREFIX/share/qwen3vl_ros. Where there is none, the place in the source tree, which the loader
    then says is missing.
    """
    package = Path(__file__).resolve().parents[1]
    in_source_tree = package.parent / TINY_ENGINE
    installed = (prefix / "share" / package.name / TINY_ENGINE for prefix in package.parents)
    return next((path for path in (in_source_tree, *installed) if path.is_dir()), in_source_tree)


@dataclass(frozen=True, kw_only=True, slots=True)
class Engines:
    """What an engine directory holds, loaded.

    Attributes:
        manifest: checked against the files.
        vision, decoder, lm_head: the three graphs (docs: graph contracts).
        embed_tokens: (vocab_size, D) float32 or float16, mapped from its file, read only.
    """

    manifest: Manifest
    vision: Engine
    decoder: Engine
    lm_head: Engine
    embed_tokens: npt.NDArray[np.floating]


def load_engines(
    directory: Path, *, threads: int = 0, providers: Sequence[str] | None = None
) -> Engines:
    """Check an engine directory and load its graphs for one sequence at a time.

    Args:
        directory: an engine directory.
        threads: CPU threads of a pass; 0 takes every core.
        providers: ONNX Runtime's execution providers, in order; None takes what is installed.

    Raises:
        EngineError: see `verify_engine_dir`; or a graph cannot be loaded.
        MissingDependency: the runtime of this flavour is not installed.
    """
    manifest = verify_engine_dir(directory)
    paths = [directory / name for name in GRAPH_FILES[manifest.flavour]]
    lengths = {"B": 1, "cache_length": manifest.cache_length}
    vision, decoder, lm_head = (
        _load(
            path,
            flavour=manifest.flavour,
            lengths=lengths,
            threads=threads,
            providers=providers,
        )
        for path in paths
    )
    try:
        table = np.load(directory / EMBEDDING_FILE, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise EngineError(
            f"{EMBEDDING_FILE} is not a plain array: {error}; export the engine again: {directory}"
        ) from error
    return Engines(
        manifest=manifest, vision=vision, decoder=decoder, lm_head=lm_head, embed_tokens=table
    )


def _load(
    path: Path,
    *,
    flavour: str,
    lengths: dict[str, int],
    threads: int,
    providers: Sequence[str] | None,
) -> Engine:
    # Runtimes are heavy and optional; a machine has the one its engines are for.
    if flavour == "tensorrt":
        from .tensorrt_engine import TensorRTEngine

        return TensorRTEngine(path, lengths=lengths)
    from .onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, lengths=lengths, threads=threads, providers=providers)
