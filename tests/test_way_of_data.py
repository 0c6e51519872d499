"""The way of the data, from the command to an outcome: few modules, and hardly ever back up."""

from __future__ import annotations

import sys
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import pytest

import telltale.engine.choosing
from telltale.cli.commands import main
from tests.studies import search_arguments
from tests.test_layout import PACKAGE, ROOT, imports_of, modules_of

if TYPE_CHECKING:
    from pathlib import Path

MOST_MODULES, MOST_CLIMBS = 8, 3


def way_here() -> list[str]:
    """The modules of telltale on the call stack, the outermost first."""
    frame = sys._getframe(1)
    names: list[str] = []
    while frame is not None:
        names.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back  # type: ignore[assignment]
    ours = [name for name in reversed(names) if name.startswith("telltale.")]
    return [name for name, _ in groupby(ours)]


def below() -> dict[str, set[str]]:
    """For each module, all that it imports, straight or by way of others."""
    modules = modules_of(PACKAGE)
    found = {
        name: set(imports_of(file.read_text(encoding="utf-8"), modules))
        for name, file in modules.items()
    }
    while True:
        more = {name: seen.union(*(found[one] for one in seen)) for name, seen in found.items()}
        if more == found:
            return found
        found = more


@pytest.fixture
def way(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The way to the first outcome of a candidate's measurement."""
    ways: list[list[str]] = []
    judge = telltale.engine.choosing.judge

    def watched(*args: Any) -> Any:
        ways.append(way_here())
        return judge(*args)

    monkeypatch.setattr(telltale.engine.choosing, "judge", watched)
    arguments = search_arguments(tiny_folder, tmp_path / "study", "--max-removed", "1")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    return next(one for one in ways if "telltale.searches.greedy" in one)


def test_the_way_to_an_outcome_is_short_and_goes_down(way: list[str]) -> None:
    beneath = below()
    assert way[0] == "telltale.cli.commands"
    assert len(set(way)) <= MOST_MODULES, way
    climbs = [(a, b) for a, b in pairwise(way) if a in beneath[b]]
    assert len(climbs) <= MOST_CLIMBS, climbs


def test_the_picture_of_the_architecture_shows_that_way(way: list[str]) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    picture = text.split("## The way of the data", 1)[1].split("```", 2)[1]
    places = [
        picture.find(f"{name.removeprefix('telltale.').replace('.', '/')}.py")
        for name in dict.fromkeys(way)
    ]
    assert -1 not in places, list(zip(way, places, strict=False))
    assert places == sorted(places)
