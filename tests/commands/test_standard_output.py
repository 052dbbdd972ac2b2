# SPDX-License-Identifier: Apache-2.0
"""What is printed where nobody reads it, as when `head` has enough."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qwen3vl_ros.commands.standard_output import EXIT_UNREAD


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ground", "--help"], id="argparse"),
        pytest.param(["doctor", "--engines", "nowhere"], id="a command"),
    ],
)
def test_nobody_reads_and_nobody_is_told(arguments):
    """It once ended with the traceback of a BrokenPipeError."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end) as deaf:
        ended = subprocess.run(
            [sys.executable, "-m", "qwen3vl_ros.cli", *arguments],
            env={name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=deaf,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert (ended.returncode, ended.stderr) == (EXIT_UNREAD, "")
