# SPDX-License-Identifier: Apache-2.0
"""An engine directory becomes three running graphs, or is refused.

The only place that asks for an engine's flavour; everything above sees `Engine`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..model_config import load_model_config
from .engine import Engine, Running
from .engine_memory import check_memory, memory_needed
from .flavours import PLAN_RUNTIMES
from .machine import Machine, check_machine, onnxruntime_notes, onnxruntime_version
from .manifest import EMBEDDING_FILE, GRAPH_FILES, Manifest, verify_engine_dir
from .precision_name import precision_name
from .rebuild import rebuild_advice

_LOG = logging.getLogger(__name__)

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
        running: where passes of the decoder run; what did not start is of all graphs.
        notes: what differs between where the engine was made and here, and is no hindrance.
    """

    manifest: Manifest
    vision: Engine
    decoder: Engine
    lm_head: Engine
    embed_tokens: npt.NDArray[np.floating]
    running: Running
    notes: tuple[str, ...] = ()


def load_engines(
    directory: Path,
    *,
    threads: int = 0,
    spinning: bool = False,
    providers: Sequence[str] | None = None,
    allow_fallback: bool = False,
) -> Engines:
    """Check an engine directory and load its graphs for one sequence at a time.

    No runtime sees a graph before every file has the hash, and the machine the facts, that the
    manifest names. Where the graphs run is said in one line of the log.

    Args:
        directory: an engine directory.
        threads: CPU threads of a pass; 0 takes every core.
        spinning: let waiting threads keep their cores busy.
        providers: ONNX Runtime's execution providers (`providers.PROVIDERS`), in order; None takes
            what is installed.
        allow_fallback: run without a provider that does not start, and say so.

    Raises:
        ConfigError: the engine's config cannot be read.
        EngineError: see `verify_engine_dir`, `check_memory` and `check_machine`; or a provider
            does not start, a graph cannot be loaded, or the directory was replaced meanwhile.
        MissingDependency: the runtime of this flavour is not installed.
    """
    identity = _identity(directory)
    try:
        manifest = verify_engine_dir(directory)
        if lies_on_host(manifest, providers):
            _check_host_memory(directory, manifest)
        load = partial(
            _load,
            manifest=manifest,
            threads=threads,
            spinning=spinning,
            providers=providers,
            allow_fallback=allow_fallback,
        )
        engines = _loaded(directory, manifest, load)
    except EngineError as error:
        if _identity(directory) == identity:
            raise
        raise _replaced(directory) from error
    # Graphs are opened by name, one after the other: some could be of another engine by now.
    if _identity(directory) != identity:
        raise _replaced(directory)
    _LOG.info("%s: %s, %s", directory, manifest.precision, engines.running)
    for note in engines.notes:
        _LOG.warning("%s: %s", directory, note)
    return engines


def _loaded(directory: Path, manifest: Manifest, load: Callable[[Path], Engine]) -> Engines:
    if manifest.flavour in PLAN_RUNTIMES:
        check_machine(manifest, _this_machine(manifest.flavour), directory)
        notes: tuple[str, ...] = ()
    else:
        version = onnxruntime_version()
        notes = onnxruntime_notes(manifest, version) if version else ()
    vision, decoder, lm_head = (load(directory / name) for name in GRAPH_FILES[manifest.flavour])
    # Each graph starts its providers anew: the last may find a GPU's memory full.
    missing = dict.fromkeys(
        name for each in (vision, decoder, lm_head) for name in each.running.missing
    )
    running = replace(decoder.running, missing=tuple(missing))
    if missing:
        notes = (*notes, _fallback_note(running))
    try:
        table = np.load(directory / EMBEDDING_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{EMBEDDING_FILE} is not a plain array: {error}; export the engine again: {directory}"
        ) from error
    return Engines(
        manifest=manifest,
        vision=vision,
        decoder=decoder,
        lm_head=lm_head,
        embed_tokens=table,
        running=running,
        notes=notes,
    )


def lies_on_host(manifest: Manifest, providers: Sequence[str] | None) -> bool:
    """Whether an engine runs in the host's memory, with these providers (see `load_engines`).

    Raises:
        EngineError: a provider is not installed.
    """
    if manifest.flavour in PLAN_RUNTIMES:
        return False
    from .onnxruntime_engine import runs_on_host

    return runs_on_host(providers)


def _check_host_memory(directory: Path, manifest: Manifest) -> None:
    """Raise where an engine does not fit into the host's memory."""
    need = memory_needed(manifest, load_model_config(directory))
    check_memory(
        need.total,
        str(need),
        of="the engine",
        advice=f"export it with fewer bits (--precision) or a shorter --cache-length: {directory}",
    )


def _fallback_note(running: Running) -> str:
    return (
        f"{' and '.join(running.missing)} did not start, the engine runs on "
        f"{', '.join(running.on)}, as falling back was allowed"
    )


def _identity(directory: Path) -> tuple[int, int] | None:
    """Of what stands at this path now; a build puts another directory there."""
    try:
        status = directory.stat()
    except (OSError, ValueError):  # nothing there, or no path at all: said where it is read
        return None
    return status.st_dev, status.st_ino


def _replaced(directory: Path) -> EngineError:
    return EngineError(
        f"another engine took this one's place while it was being loaded; load it again: "
        f"{directory}"
    )


def _this_machine(flavour: str) -> Machine:
    from .tensorrt_engine import this_machine

    return this_machine(flavour)


def _load(
    path: Path,
    *,
    manifest: Manifest,
    threads: int,
    spinning: bool,
    providers: Sequence[str] | None,
    allow_fallback: bool,
) -> Engine:
    # Runtimes are heavy and optional; a machine has the one its engines are for.
    if manifest.flavour in PLAN_RUNTIMES:
        from .tensorrt_engine import TensorRTEngine

        return TensorRTEngine(path, flavour=manifest.flavour)
    from .onnxruntime_engine import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(
        path,
        lengths={"B": 1, "cache_length": manifest.cache_length},
        threads=threads,
        spinning=spinning,
        providers=providers,
        allow_fallback=allow_fallback,
    )
    # Said twice: by the name, which memory is counted by, and by the graph. Which floats a cache
    # holds no name tells alone: TensorRT's graphs can be run here, too (`offline/cpu_twin.py`).
    wanted = precision_name(manifest.precision).cache_dtype
    other = [spec for spec in engine.resident if spec.dtype != wanted]
    if other and np.int8 in (wanted, other[0].dtype):
        raise EngineError(
            f"manifest.json has precision '{manifest.precision}', whose cache is {wanted}, and "
            f"{path.name} keeps {other[0].name} as {other[0].dtype}; "
            f"{rebuild_advice(path.parent, manifest)}",
            field="precision",
        )
    return engine
