# SPDX-License-Identifier: Apache-2.0
"""The line on stderr for work that cannot say how much of it is left."""

from __future__ import annotations

from qwen3vl_ros.commands.elapsed import elapsed_line


class Terminal:
    """A stream that remembers what was written."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.written: list[str] = []
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)

    def flush(self) -> None:
        pass


def test_a_log_gets_a_line_for_each_new_work():
    log = Terminal(is_terminal=False)
    with elapsed_line(log) as report:
        report("vision.plan", "reading the graph")
        report("vision.plan", "building engine, 1 of 6")
        report("decoder.plan", "reading the graph")
    assert log.written == [
        "vision.plan: reading the graph, 0 s\n",
        "decoder.plan: reading the graph, 0 s\n",
    ]


def test_a_terminal_is_left_without_the_line():
    terminal = Terminal(is_terminal=True)
    with elapsed_line(terminal) as report:
        report("vision.plan", "reading the graph")
    assert terminal.written[-1] == "\r\x1b[K"
