"""``--help`` lists a command's options in sections, those that are used most first."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import typer

from telltale.cli.commands import app, main
from telltale.cli.help import SECTIONS, InSections

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
IN_SECTIONS = (
    *("search", "compare", "stability", "eval", "explain", "transfer", "tune", "bench", "tasks"),
)
MOST_USED = [
    "--out",
    "--data",
    "--shots",
    "--limit",
    "--held-out",
    "--objective",
    "--tolerance",
    "--max-removed",
    "--device",
    "--dtype",
]


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def listed(text: str) -> dict[str, list[str]]:
    """The options of every section of a help text, in the order in which they stand."""
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\w[\w ]*):", line):
            sections[heading[1]] = []
        elif option := re.match(r"  (?:-\w, )?(--[\w-]+)", line):
            sections[list(sections)[-1]].append(option[1])
    return sections


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_stands_in_one_section(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [option for options in listed(help_of(command, capsys)).values() for option in options]
    every = [one.opts[-1] for one in COMMANDS[command].params if one.opts[-1].startswith("-")]
    assert len(every) >= 1 or command == "show"
    assert sorted(shown) == sorted([*every, "--help"])


@pytest.mark.parametrize("command", IN_SECTIONS)
def test_sections_have_one_order_and_none_is_empty(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {name: options for name, options in listed(help_of(command, capsys)).items() if options}
    assert list(found) == [name for name in SECTIONS if name in found]
    assert next(iter(found)) == "Most used"
    assert list(found)[-1] == "Model and machine"
    assert found["Model and machine"][-1] == "--help"


def test_search_has_every_section_and_the_ten_most_used_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = listed(help_of("search", capsys))
    assert list(found) == [
        "Arguments",
        "Most used",
        "Examples",
        "Asking",
        "Search",
        "Targets",
        "Evidence",
        "Model and machine",
    ]
    assert found["Most used"] == MOST_USED
    assert listed(help_of("stability", capsys))["Most used"] == MOST_USED


def test_an_option_is_in_the_table_once_and_some_command_has_it() -> None:
    listed_once = [option for options in SECTIONS.values() for option in options.split()]
    assert len(listed_once) == len(set(listed_once))
    grouped = (one for name in IN_SECTIONS for one in COMMANDS[name].params)
    every = {one.opts[-1] for one in grouped if one.param_type_name == "option"}
    assert set(listed_once) == {*every, "--help"}


def test_commands_with_few_options_have_no_sections() -> None:
    many = [name for name, one in COMMANDS.items() if len(one.params) > 7]
    assert many == list(IN_SECTIONS)
    assert many == [name for name, one in COMMANDS.items() if isinstance(one, InSections)]


def test_help_needs_no_rich() -> None:
    program = (
        "import sys, telltale.cli.commands\n"
        "try:\n"
        "    telltale.cli.commands.main(['search', '--help'])\n"
        "except SystemExit:\n"
        "    sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0
