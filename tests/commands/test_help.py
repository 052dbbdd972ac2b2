# SPDX-License-Identifier: Apache-2.0
"""`--help` of every command: what an option does, and what holds where it is not given."""

from __future__ import annotations

import argparse

import pytest

from qwen3vl_ros import cli


def parser_of(command) -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser().add_subparsers()
    command.add(commands)
    (parser,) = commands.choices.values()
    return parser


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.__name__)
def test_every_option_has_words_and_says_its_default_where_it_has_one(command):
    parser = parser_of(command)
    for option in parser._actions:
        formatter = parser._get_formatter()
        formatter.add_argument(option)
        words = formatter.format_help()
        assert option.help, f"{option.option_strings} has no help"
        default = option.default
        has_one = default not in (None, "", argparse.SUPPRESS) and default is not False
        assert ("default" in words) or not has_one, words
        assert not any(nothing in words for nothing in ("None", "False", "SUPPRESS"))


def test_a_default_is_told_once_and_as_it_would_be_typed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rows of a pass behind the fewest (default: 1 2 8 32)" in said
    assert "of the runtime; 0 means all cores (default: 0)" in said
    assert "by default the tiny engine of this package" in said
    assert "tiny engine of this package (default" not in said
