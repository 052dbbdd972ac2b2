# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl doctor`: whether an engine is whole, fits this machine, and says what it should."""

from __future__ import annotations

import argparse
import json

from .command import Commands, add_command, add_running_options, loaded_engine
from .examination import Examination, Level, examine

_VERDICTS = {
    Level.OK: "ok: the engine is whole and says what its checkpoint's reference says",
    Level.WARN: "warn: the engine runs; see above for what is not as it should be",
    Level.FAIL: "fail: do not use this engine here",
}


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "doctor", doctor)
    add_running_options(parser)
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")


def doctor(options: argparse.Namespace) -> int:
    """Say whether an engine is whole, fits into memory, and answers as the reference does."""
    examination = examine(
        options.engines, lambda: loaded_engine(options), providers=options.providers
    )
    if options.json:
        print(json.dumps(examination.as_json(), indent=2))
    else:
        _print(examination)
    return int(examination.verdict is Level.FAIL)


def _print(examination: Examination) -> None:
    print(f"{'engine':9} {examination.engine_dir}")
    for one in examination.findings:
        mark = "" if one.level is Level.OK else f"{one.level.value.upper()}: "
        print(f"{one.step:9} {mark}{one.text}")
    print(f"{'verdict':9} {_VERDICTS[examination.verdict]}")
