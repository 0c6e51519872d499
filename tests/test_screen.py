"""What a person sees in a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from telltale import screen
from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.reading import StoredStudy
from telltale.screen import ScreenWatcher, unfinished
from telltale.searches import Round

WHOLE = LayerPath.whole(3)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a terminal."""
    written = io.StringIO()
    monkeypatch.setattr(
        screen,
        "console",
        lambda **_: Console(file=written, force_terminal=True, width=140, color_system=None),
    )
    return written


def measured(path: LayerPath, right: int) -> Measurement:
    outcomes = tuple(Outcome(i, (), 0, float(i < right)) for i in range(10))
    return Measurement(Batch(tuple(range(10))), path, outcomes)


def test_a_terminal_shows_accuracy_layers_removed_and_the_time_left(terminal: io.StringIO) -> None:
    with ScreenWatcher(max_removed=2) as watcher:
        watcher.phase("search")
        watcher.expect(1)
        watcher.measured(measured(WHOLE, 7), remembered=False)
        watcher.expect(3)
        for layer in range(3):
            watcher.measured(measured(WHOLE.without(layer), 6 + layer), remembered=False)
        watcher._progress.refresh()
        watcher.round_done(Round(removed=2, accepted=True, candidates={0: 0.6, 1: 0.7, 2: 0.8}))
        watcher.expect(2)
        watcher._progress.refresh()
    text = terminal.getvalue()
    assert "round 1, whole model 70.0%" in text
    assert "left in this round, at most" in text
    assert "round 1: layer 2 left out 80.0% on the search set (whole model 70.0%)" in text
    assert "round 2, without 2: 80.0%" in text


def test_durations_are_told_in_the_two_largest_units() -> None:
    assert [screen._duration(s) for s in (5.4, 65, 3600 * 5 + 120)] == [
        "5 s",
        "1 min 05 s",
        "5 h 02 min",
    ]


def test_an_unfinished_study_is_told_round_by_round() -> None:
    out = Console(file=io.StringIO(), width=100, color_system=None)
    asked = {"model": {"name": "a-model"}, "task": {"name": "capitals"}}
    rounds = (Round(4, True, {4: 0.75}), Round(1, False, {1: 0.5}))
    unfinished(StoredStudy(None, None, asked, rounds), out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "a-model on capitals" in text
    assert "round 1: layer 4 left out, 75.0% on the search set" in text
    assert "round 2: layer 1 falls below the floor, 50.0%" in text
    assert "give its command again to go on" in text


def test_a_search_that_shares_nothing_costs_what_its_candidates_are_deep() -> None:
    document = {
        "model": {"layers": 4},
        "rounds": [
            {"candidates": {"0": 1, "1": 1, "2": 1, "3": 1}, "accepted": True},
            {"candidates": {"0": 1, "1": 1, "2": 1}, "accepted": False},
        ],
    }
    assert screen._naive(document) == 1 + 4 * 3 / 4 + 3 * 2 / 4
