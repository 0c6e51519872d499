"""Messages name parameters; the command prints their options."""

from __future__ import annotations

import ast
import inspect
import logging
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

import telltale
from telltale import api
from telltale.cli.commands import app, main
from telltale.cli.naming import NAMED, SPELLED, WITHOUT_OPTION, OptionsFormatter, with_options
from telltale.tasks.datafile import Fields

SOURCE = Path(telltale.__file__).parent
# The commands that take what a public function takes.
COMMANDS = {
    "load_task": ["search", "stability", "eval"],
    "search": ["search"],
    "compare": ["compare"],
    "stability": ["stability"],
    "evaluate": ["eval"],
    "explain": ["explain"],
    "export": ["export"],
    "bench": ["bench"],
    "plan": ["search"],
    "preview": ["tasks"],
    "transfer": ["transfer"],
    "tune": ["tune"],
}
OPTION = re.compile(r"(?<![\w/-])--[a-z{]")
# Files whose texts are no messages: what they write names options.
WRITES_OPTIONS = {
    "evidence/calibration.py": "texts of a result",
    "evidence/cautions.py": "texts of a result",
    "evidence/pareto.py": "texts of a result",
    "evidence/transfers.py": "the command that a warning has",
    "report/repeating.py": "the command of a study",
    "report/template.py": "variables of CSS",
    "report/svg.py": "variables of CSS",
    "support/wheels.py": "options of pip",
}


def parameters() -> list[tuple[str, str]]:
    return [
        (function, name)
        for function in api.__all__
        for name, one in inspect.signature(getattr(api, function)).parameters.items()
        if one.kind is not one.VAR_KEYWORD
    ]


def options_of(command: str) -> set[str]:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    of = commands[command].params
    return {word for one in of for word in (*one.opts, one.metavar or "")}


@pytest.mark.parametrize(("function", "name"), parameters())
def test_every_parameter_has_an_option_or_is_a_stated_exception(function: str, name: str) -> None:
    printed = with_options(f"`{name}`")
    if name in WITHOUT_OPTION:
        assert printed == f"`{name}`"
        return
    for command in COMMANDS[function]:
        assert printed in options_of(command)


@pytest.mark.parametrize("field", [one.name for one in fields(Fields)])
def test_every_field_of_the_data_has_an_option(field: str) -> None:
    assert with_options(f"`fields.{field}`") in options_of("eval")


def test_no_exception_is_stated_for_nothing() -> None:
    named = {name for _, name in parameters()} | {f"fields.{one.name}" for one in fields(Fields)}
    assert set(SPELLED) | WITHOUT_OPTION <= named | {"figures"}
    assert SPELLED["figures"] in options_of("report")


def literals(tree: ast.Module) -> list[tuple[int, str]]:
    """A module's texts but for docstrings, with ``{}`` where an f-string is filled in."""
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, text)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in said
        if isinstance(text := _text(node), str)
    ]


def _text(node: ast.Constant | ast.JoinedStr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    return "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)  # type: ignore[misc]


FILES = [
    str(file.relative_to(SOURCE))
    for file in sorted(SOURCE.rglob("*.py"))
    if file.parent.name != "cli"
]


@pytest.mark.parametrize("file", [name for name in FILES if name not in WRITES_OPTIONS])
def test_no_text_below_the_command_names_an_option(file: str) -> None:
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    assert [found for found in literals(tree) if OPTION.search(found[1])] == []


def test_files_that_name_options_do_so() -> None:
    for file in WRITES_OPTIONS:
        tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
        assert any(OPTION.search(text) for _, text in literals(tree)), file


def test_every_name_in_backticks_is_one_that_the_command_translates() -> None:
    named = [
        (file, found[0])
        for file in FILES
        for _, text in literals(ast.parse((SOURCE / file).read_text(encoding="utf-8")))
        for found in NAMED.finditer(text)
    ]
    assert len(named) > 50
    assert [found for found in named if with_options(found[1]) == found[1]] == []


def test_only_a_parameter_in_backticks_is_translated() -> None:
    said = "`held_out` 3, held_out, `use_cache`, `telltale tasks`, `fields`, ``limit``x, `guards` a"
    assert with_options(said) == (
        "--held-out 3, held_out, `use_cache`, `telltale tasks`, `fields`, `--limit`x, --guard a"
    )


def test_the_command_names_the_option_in_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["search", "m", "capitals", "--out", str(tmp_path / "s"), "--held-out", "5"])
    assert "telltale: --held-out must be at least 20, got 5" in capsys.readouterr().err


def test_the_command_names_the_option_in_a_line_of_the_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    file = tmp_path / "data.csv"
    file.write_text("question,choice_1,choice_2,answer\nq,x,y,1\nr,x,y,2\ns,x,x,1\n")
    with pytest.raises(SystemExit, match="0"):
        main(["tasks", "--data", str(file), "--skip-bad-rows", "--show", "1"])
    assert "leave such rows out with --skip-bad-rows" in capsys.readouterr().err


def test_log_lines_of_other_libraries_are_not_translated() -> None:
    lines = {
        name: OptionsFormatter("%(message)s").format(
            logging.LogRecord(name, logging.INFO, "", 0, "`dtype` is %s", ("float32",), None)
        )
        for name in ("telltale.api", "transformers")
    }
    assert lines == {"telltale.api": "--dtype is float32", "transformers": "`dtype` is float32"}
