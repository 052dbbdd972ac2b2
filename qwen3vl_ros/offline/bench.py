# SPDX-License-Identifier: Apache-2.0
"""How fast one engine is on this machine, stage by stage, and how near to what memory allows.

Is told what to measure (`bench_plan.py`) and how to compare (`taking_turns.py`); what comes out
are plain values. All stages take turns with a plain read of memory, so that a pass is held against
the bandwidth of its own minute.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..errors import ContextError
from ..model_config import TextConfig, load_model_config
from ..runtime.engine import Engine
from ..runtime.loading import Engines, load_engines
from ..runtime.manifest import Manifest
from ..runtime.onnxruntime_engine import OnnxRuntimeEngine
from .bench_plan import LARGER, BenchPlan, Stage, stages_of
from .computer import computer_facts, load_average
from .engine_passes import EnginePasses
from .memory_floor import ReadProbe, bytes_of_cache, bytes_of_weights, share_of_floor
from .precisions import precision_from_name
from .taking_turns import Effort, effort_of, in_turns, median_cpu, median_ratio, median_wall

PACKAGES = ("onnxruntime", "numpy")
SWEEPS = 3  # of memory, in its turn
READ = Stage(kind="read")
OnTurn = Callable[[str, int, int], None]


def bench(
    directory: Path, plan: BenchPlan, *, on_turn: OnTurn | None = None
) -> Mapping[str, object]:
    """Measure an engine directory.

    Args:
        directory: of an engine for ONNX Runtime.
        plan: what to measure.
        on_turn: called with a stage's name, turns that are over and turns in all.

    Returns:
        plain values, ready for JSON; `bench_report.py` prints them.

    Raises:
        EngineError: the engine cannot be loaded, or a picture is too large for it.
        ContextError: something of the plan does not fit its cache.
    """
    load_before = load_average()
    engines = load_engines(directory, threads=plan.threads)
    _refuse_what_does_not_fit(plan, engines.manifest.cache_length)
    config, cache_length = load_model_config(directory), engines.manifest.cache_length
    # One more copy of the weights in memory; nothing else could show what the room costs.
    roomier = OnnxRuntimeEngine(
        directory / "decoder.onnx",
        lengths={"B": 1, "cache_length": LARGER * cache_length},
        threads=plan.threads,
    )
    decoders: Mapping[int, Engine] = {
        cache_length: engines.decoder,
        LARGER * cache_length: roomier,
    }
    weights = bytes_of_weights(directory, config.text)
    passes = EnginePasses(engines, config)
    tasks = {
        stage: _task(stage, plan, passes, decoders) for stage in stages_of(plan, cache_length)
    }
    for task in tasks.values():
        task()  # a size's first pass makes its buffers
    probe = ReadProbe(threads=plan.threads, megabytes=plan.read_megabytes)
    tasks[READ] = partial(effort_of, probe, times=SWEEPS)
    total = plan.rounds * len(tasks)
    turns = in_turns(
        tasks,
        rounds=plan.rounds,
        on_turn=lambda stage, over: None if on_turn is None else on_turn(str(stage), over, total),
    )
    return {
        **computer_facts(PACKAGES),
        "load_average": {"before": load_before, "after": load_average()},
        "running": str(engines.running),
        "engine": _engine_facts(engines, config.text, weights),
        "plan": asdict(plan),
        "read_bandwidth_gb_s": round(probe.nbytes / median_wall(turns[READ]) / 1e9, 2),
        "stages": [
            {
                "stage": stage.kind,
                **stage.sizes(),
                **_times(turns[stage]),
                **_against(stage, turns, probe.nbytes, engines.manifest, config.text, weights),
            }
            for stage in tasks
            if stage is not READ
        ],
    }


def _task(
    stage: Stage, plan: BenchPlan, passes: EnginePasses, decoders: Mapping[int, Engine]
) -> Callable[[], Effort]:
    sizes = stage.sizes()
    if stage.kind == "vision":
        return partial(effort_of, lambda: passes.encode(image_tokens=sizes["image_tokens"]))
    if stage.kind == "prefill":
        return partial(
            effort_of,
            lambda: passes.prefill(
                image_tokens=sizes["image_tokens"], text_tokens=plan.text_tokens
            ),
        )
    return partial(
        effort_of,
        lambda: passes.append(
            rows=sizes["rows"],
            cached_tokens=sizes["cached_tokens"],
            decoder=decoders[sizes["cache_length"]],
        ),
        times=plan.passes,
    )


def _refuse_what_does_not_fit(plan: BenchPlan, cache_length: int) -> None:
    needed = {
        f"a picture of {tokens} tokens in a prompt": tokens + plan.text_tokens
        for tokens in plan.image_tokens
    } | {
        f"{rows} rows behind {tokens} tokens": tokens + rows
        for tokens in plan.cached_tokens
        for rows in (plan.windows if tokens == plan.cached_tokens[0] else (1,))
    }
    what, most = max(needed.items(), key=lambda item: item[1])
    if most > cache_length:
        raise ContextError(
            f"{what} need a cache of {most}, the engine's holds {cache_length}; measure fewer, or "
            "export the engine again with a larger --cache-length"
        )


def _engine_facts(
    engines: Engines, text: TextConfig, bytes_of_weights: int | None
) -> Mapping[str, object]:
    manifest = engines.manifest
    return {
        "flavour": manifest.flavour,
        "precision": manifest.precision,
        "model_type": manifest.model_type,
        "layers": text.num_hidden_layers,
        "hidden_size": text.hidden_size,
        "cache_length": manifest.cache_length,
        "weights_sha256": manifest.weights_sha256,
        "bytes_of_weights_a_pass": bytes_of_weights,
    }


def _times(efforts: Sequence[Effort]) -> Mapping[str, object]:
    return {
        "wall_s": median_wall(efforts),
        "cpu_s": median_cpu(efforts),
        "wall_s_by_round": [round(effort.wall_s, 6) for effort in efforts],
    }


def _against(
    stage: Stage,
    turns: Mapping[Stage, Sequence[Effort]],
    probe_bytes: int,
    manifest: Manifest,
    text: TextConfig,
    weights: int | None,
) -> Mapping[str, object]:
    """A pass of decoding beside its floor, beside one row, and beside the smaller cache.

    In CPU time, too: on a machine with other work that says more than the clock.
    """
    if stage.kind != "decode" or stage.cached_tokens is None or stage.cache_length is None:
        return {}
    one_row = Stage(
        kind="decode",
        rows=1,
        cached_tokens=stage.cached_tokens,
        cache_length=manifest.cache_length,
    )
    wall, cpu = _ratios(turns[stage], turns[one_row])
    if stage.rows != 1:
        return {"over_one_row": wall, "over_one_row_cpu": cpu}
    against: dict[str, object] = {}
    if stage != one_row:
        against |= {"over_smaller_cache": wall, "over_smaller_cache_cpu": cpu}
    if weights is not None:
        itemsize = precision_from_name(manifest.precision).cached.itemsize
        cache = bytes_of_cache(text, tokens=stage.cached_tokens, itemsize=int(itemsize))
        against["bytes_read"] = weights + cache
        share = partial(share_of_floor, bytes_read=weights + cache, probe_bytes=probe_bytes)
        pairs = list(zip(turns[stage], turns[READ], strict=True))
        against["share_of_floor"] = statistics.median(
            share(pass_s=one.wall_s, probe_s=read.wall_s) for one, read in pairs
        )
        against["share_of_floor_cpu"] = statistics.median(
            share(pass_s=one.cpu_s, probe_s=read.cpu_s) for one, read in pairs
        )
    return against


def _ratios(above: Sequence[Effort], below: Sequence[Effort]) -> tuple[float, float]:
    """Median ratio by the clock, and of CPU time."""
    return (
        median_ratio([a.wall_s for a in above], [b.wall_s for b in below]),
        median_ratio([a.cpu_s for a in above], [b.cpu_s for b in below]),
    )
