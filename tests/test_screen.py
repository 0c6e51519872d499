"""What a person sees in a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from telltale import screen
from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.reading import StoredStudy
from telltale.screen import ScreenWatcher, evaluation, summary, unfinished
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


def named(layers: int, removed: list[int], counts: dict[str, int], perplexity: float) -> Any:
    return {
        "removed": removed,
        "layers": layers,
        "parameters": 1_500_000 * layers,
        "search": {"accuracy": 0.5, **counts},
        "held_out": {
            "accuracy": 0.4,
            "interval": [0.3, 0.5],
            "gain": -0.1,
            "gain_interval": [-0.2, 0.0],
            **counts,
        },
        "text_perplexity": perplexity,
    }


def finished(*counts: dict[str, int], cautions: list[str]) -> dict[str, Any]:
    """A finished study's document, whose models have written texts with such counts."""
    rows = zip([[], [3], [3, 1]], counts, [20.0, 25.0, 60.0], strict=True)
    models = [named(6 - len(removed), removed, count, text) for removed, count, text in rows]
    return {
        "model": {"name": "a-model", "layers": 6},
        "task": {"name": "my.jsonl", "search_examples": 50, "held_out_examples": 40},
        **dict(zip(("baseline", "best", "bsba"), models, strict=True)),
        "rounds": [{"candidates": {"3": 0.5}, "accepted": True}],
        "verdict": "No gain is shown.",
        "text": {"name": "page.txt"},
        "cautions": cautions,
        "cost": {
            "dense_passes": 2.5,
            "seconds": 61,
            "tokens_per_second": {"baseline": 1000.0, "best": 1200.0, "bsba": 1500.0},
        },
    }


def printed(document: dict[str, Any], looks: int | None = 0) -> str:
    out = Console(file=io.StringIO(), width=200, color_system=None)
    summary(document, looks, out)
    return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]


TEXTS = [{"unparsable": n, "cut_off": n + 1} for n in (7, 17, 27)]


def test_a_summary_counts_the_texts_of_every_model() -> None:
    lines = printed(finished(*TEXTS, cautions=[])).splitlines()
    (of_texts,) = [line for line in lines if "held-out texts" in line]
    for text, counts in zip(of_texts.split(", ")[-3:], TEXTS, strict=True):
        numbers = [int(word) for word in text.split() if word.isdecimal()]
        assert numbers == [counts["unparsable"], counts["cut_off"]]
    assert "texts" not in printed(finished({}, {}, {}, cautions=[]))


def test_a_summary_says_how_each_shallower_model_reads_ordinary_text() -> None:
    document = finished({}, {}, {}, cautions=[])
    assert (
        "Perplexity on ordinary text (page.txt): whole model 20.0, BEST 25.0 (x1.25), "
        "BSBA 60.0 (x3.00)"
    ) in printed(document)
    document["best"] = document["baseline"]
    assert "whole model 20.0, BSBA 60.0 (x3.00)" in printed(document)


def test_a_summary_ends_with_what_to_mind() -> None:
    cautions = ["BEST never answers 'B'", "the token limit cut off 18 of 40 texts of BEST"]
    text = printed(finished(*TEXTS, cautions=cautions), looks=2)
    minded = [line for line in text.splitlines() if line.startswith("Mind: ")]
    assert minded[:2] == [f"Mind: {caution}." for caution in cautions]
    assert "2 other searches have looked at these held-out examples" in minded[2]
    assert "1 other search has looked" in printed(finished(*TEXTS, cautions=[]), looks=1)
    for none in (0, None):
        assert "Mind: " not in printed(finished(*TEXTS, cautions=[]), looks=none)


def test_an_evaluation_counts_texts_and_prompts_that_were_cut() -> None:
    document: dict[str, Any] = {
        "model": {"name": "a-model"},
        "task": {"name": "my.jsonl"},
        "removed": [],
        "layers": 6,
        "accuracy": 0.5,
        "interval": [0.4, 0.6],
        "cautions": [],
        "examples": [{}] * 4,
    }

    def shown(**more: Any) -> str:
        out = Console(file=io.StringIO(), width=200, color_system=None)
        evaluation({**document, **more}, out)
        return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    texts = "Texts without an answer: 3; cut off by the token limit: 2"
    assert texts in shown(unparsable=3, cut_off=2)
    assert "Mind: all is not well." in shown(cautions=["all is not well"])
    assert "removed: none" in shown()
    assert len(shown().splitlines()) == 2
