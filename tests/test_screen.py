"""What a person sees in a terminal."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from telltale.cli import screen
from telltale.cli.screen import (
    PlainConsole,
    ScreenWatcher,
    evaluation,
    stability_summary,
    summary,
    unfinished,
)
from telltale.cli.showing import task_table
from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.support.words import loss, points
from telltale.tasks.named import NAMED
from tests.report.made import Made, not_begun
from tests.rounds import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from telltale.study import Result, StoredStudy

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
        watcher.round_done(step(WHOLE, {0: 0.6, 1: 0.7, 2: 0.8}, 2))
        watcher.expect(2)
        watcher._progress.refresh()
    text = terminal.getvalue()
    assert "round 1, whole model 70.0%" in text
    assert "left in this round, at most" in text
    assert "round 1: layer 2 left out 80.0% on the search set (whole model 70.0%)" in text
    assert "round 2, without 2: 80.0%" in text


def test_the_bar_goes_on_with_the_work_and_never_back(terminal: io.StringIO) -> None:
    shares = {WHOLE.without(0): 0.75, WHOLE.without(1): 0.25, WHOLE.without(2): 0.0}
    with ScreenWatcher() as watcher:
        watcher.phase("search")
        watcher.expect(6)  # two batches
        watcher.weighed(shares)
        done = [0.0]
        for path in [*shares, *shares]:
            watcher.measured(measured(path, 6), remembered=False)
            done.append(watcher._progress.tasks[0].completed / 6)
        assert done == pytest.approx([0, 0.375, 0.5, 0.5, 0.875, 1, 1])
        watcher.expect(2)
        watcher.measured(measured(WHOLE.without(0), 6), remembered=False)
        assert watcher._progress.tasks[0].completed == 1  # shares are of the round before
    assert "0 s left" in terminal.getvalue()


FIRST = step(WHOLE, {0: 0.6, 1: 0.7, 2: 0.8}, 2, {0: 1, 1: 2, 2: 3})
SECOND = step(WHOLE.without(2), {0: 0.5, 1: 0.7}, 1, {0: 1, 1: 2})


def begin(watcher: ScreenWatcher, *parts: tuple[int, ...]) -> None:
    """A search measures the whole model, in batches."""
    watcher.phase("search")
    watcher.expect(len(parts))
    for part in parts:
        outcomes = tuple(Outcome(i, (), 0, float(i < 7)) for i in part)
        watcher.measured(Measurement(Batch(part), WHOLE, outcomes), remembered=False)


def test_rounds_are_counted_right_where_a_search_begins_again(terminal: io.StringIO) -> None:
    with ScreenWatcher(max_removed=3) as watcher:
        begin(watcher, tuple(range(10)))
        watcher.round_done(FIRST)
        watcher.round_done(SECOND)
        begin(watcher, (0, 1, 2, 3, 4), (5, 6, 7, 8, 9))  # a batch did not fit: its halves
        watcher.expect(3)
        watcher._progress.refresh()
        assert "round 1, whole model 70.0%" in terminal.getvalue().rpartition("without 2 1")[2]
        for done in (FIRST, SECOND):
            watcher.round_done(done)
        watcher.expect(1)
        watcher._progress.refresh()
    lines = [line.partition("round ")[2] for line in terminal.getvalue().splitlines()]
    told = [line[:1] for line in lines if "on the search set" in line]
    assert told == ["1", "2"]
    assert "round 3, without 2 1: 70.0%" in terminal.getvalue().rpartition("round 1, ")[2]


def test_a_round_that_has_changed_is_written_again(terminal: io.StringIO) -> None:
    changed = replace(SECOND, kept=(WHOLE.without(2).without(0),))
    with ScreenWatcher() as watcher:
        begin(watcher, tuple(range(10)))
        for done in (FIRST, SECOND, FIRST, changed):  # without being told of the whole model
            watcher.round_done(done)
    text = terminal.getvalue()
    assert text.count("round 1: layer 2 left out") == 1
    assert text.count("round 2: layer 1 left out") == 1
    assert text.count("round 2: layer 0 left out 50.0%") == 1


def shown(study: StoredStudy, width: int = 100) -> str:
    out = Console(file=io.StringIO(), width=width, color_system=None, soft_wrap=True)
    if study.result is None:
        unfinished(study, out)
    else:
        summary(study.result, out)
    return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def rows(text: str) -> dict[str, str]:
    """The table's rows by the layer removed, up to the first line that is none."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("removed"))
    of_table = itertools.takewhile(
        lambda line: line.startswith("whole model") or line[:1].isdigit(), lines[first + 1 :]
    )
    return {line.split()[0]: line for line in of_table}


def test_a_summary_has_a_row_for_every_model_of_the_path() -> None:
    study = Made(layers=8, rounds=4).finished()
    assert study.document is not None
    path = study.document["path"]
    found = rows(shown(study))
    assert list(found) == ["whole", *(str(one["removed"][-1]) for one in path[1:])]
    for one, line in zip(path, found.values(), strict=True):
        held_out = one["held_out"]
        assert f" {one['layers']} " in line
        assert f"{100 * one['search']['accuracy']:.1f}%" in line
        assert f"{100 * held_out['accuracy']:.1f}% (" in line
        gain = f" {points(held_out['gain'])} ("
        assert (gain in line) == (len(one["removed"]) > 0)
    for name in ("best", "bsba"):
        removed = study.document[name]["removed"]
        assert name.upper() in found[str(removed[-1]) if removed else "whole"]


def test_a_summary_stays_within_a_hundred_columns() -> None:
    for made in (Made(), Made(layers=40, rounds=33, gain=0.1), Made(layers=2, rounds=1)):
        assert all(len(line.rstrip()) <= 100 for line in rows(shown(made.finished())).values())


def heading(text: str) -> str:
    """The last line of the headings of a study's table."""
    return next(line for line in text.splitlines() if line.startswith("removed "))


def test_a_narrow_terminal_gets_what_depth_does_not_say() -> None:
    narrow = shown(Made().finished(), width=80)
    assert "parameters" not in heading(narrow)
    assert "parameters" in heading(shown(Made().finished()))
    assert all(len(line.rstrip()) <= 80 for line in rows(narrow).values())


WIDTHS = (40, 60, 80, 120, 200)
LONG = Made(
    layers=40,
    rounds=13,  # twelve layers removed
    gain=0.1,
    guards=("arc_easy", "commonsense_qa"),
    model="an-organisation/a-model-of-many-words",
    task="boolean_expressions",
)


def result_of(made: Made, looks: int | None) -> Result:
    result = made.finished().result
    assert result is not None
    return replace(result, held_out_looks=looks)


STABILITY = {
    "sizes": [
        {
            "examples": examples,
            "claimed": 0.123,
            "unseen": -0.031,
            "unseen_spread": 0.021,
            "removed": {str(layer): layer / 30 for layer in layers},
        }
        for examples, layers in ((50, range(30, 18, -1)), (1000, (30,)), (2000, ()))
    ],
    "said": "Given 2000 examples, the search removes no layer always.",
}
EVALUATION: dict[str, Any] = {
    "model": {"name": "an-organisation/a-model-of-many-words"},
    "task": {"name": "boolean_expressions"},
    "removed": list(range(12)),
    "layers": 28,
    "accuracy": 0.5,
    "interval": [0.4, 0.6],
    "text": {"name": "built-in page", "perplexity": 30.0, "whole_perplexity": 20.0},
    "cautions": ["the held-out set is too small to see a gain of less than 16 points"],
    "examples": [{}] * 4,
}
# What prints a study, an evaluation and so on; what its rows are told by; what it always shows.
PRINTED: dict[str, tuple[Callable[[Console], None], list[str], list[str]]] = {
    "study": (
        lambda out: summary(result_of(LONG, 1), out),
        [str(layer) for layer in LONG.found().kept[-1].removed],
        ["BEST", "BSBA", "safe", "removed", "nothing"],
    ),
    "unfinished": (
        lambda out: unfinished(LONG.interrupted(12), out),
        [str(layer) for layer in LONG.found().kept[-1].removed],
        ["removed"],
    ),
    "stability": (
        lambda out: stability_summary(STABILITY, out),
        ["50", "1000", "2000"],
        ["(100%),", "30", "none"],
    ),
    "evaluation": (lambda out: evaluation(EVALUATION, out), [], ["removed:", "50.0%"]),
    "tasks": (lambda out: task_table(list(NAMED.values()), out), list(NAMED), ["asked"]),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("what", PRINTED)
def test_no_word_is_cut_and_every_row_says_what_it_is_about(what: str, width: int) -> None:
    prints, told_by, always = PRINTED[what]

    def printed(columns: int) -> str:
        text = io.StringIO()
        prints(PlainConsole(file=text, width=columns, color_system=None, markup=False))
        return text.getvalue()

    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    words = re.sub(r"Columns left out: .*? ha(s|ve) them\.", "", " ".join(text.split())).split()
    assert set(words) <= set(printed(400).split())
    firsts = [line.split()[0] for line in text.splitlines() if line.strip()]
    places = [firsts.index(row) for row in told_by]
    assert places == sorted(places)
    assert set(always) <= set(text.split())


def left_out(text: str) -> list[str]:
    """The columns that a table says it leaves out."""
    found = " ".join(text.split()).partition("Columns left out: ")[2]
    return found.partition(";")[0].split(", ") if found else []


def test_columns_go_from_the_least_important_and_are_named_below_the_table() -> None:
    study = LONG.finished()
    order = ["parameters", "layers", "tokens/s", "search", "held out (95%)", "gain (95%)"]
    for width in range(40, 201):
        text = shown(study, width)
        absent = left_out(text)
        assert sorted(absent) == sorted(order[: len(absent)]), width
        for name in ("layers", "parameters", "search", "tokens/s"):
            assert (name in heading(text).split()) == (name not in absent), (width, name)
        if absent:
            assert "result.json and the report have them." in text
    assert left_out(shown(study, 200)) == []
    assert "parameters" in left_out(shown(study, 60))
    assert "gain (95%)" not in left_out(shown(study, 40))


def test_what_at_most_means_stands_below_the_table() -> None:
    told = "loses at most: the most accuracy that the model may lose against the whole one, in poin"
    finished = shown(Made().finished(), width=400)
    assert told in finished
    assert "with 95% confidence (one-sided" in finished
    # Nothing is said of a column that has nothing in it.
    assert told not in shown(Made(rounds=1).finished(), width=400)
    assert told not in shown(Made().interrupted(2), width=400)


def test_a_long_path_is_folded_and_keeps_what_has_a_name() -> None:
    study = Made(layers=40, rounds=33).finished()
    assert study.document is not None
    text = shown(study)
    found = rows(text)
    assert len(found) < 20
    assert f"Shown are {len(found)} of 33 models" in text
    for name in ("baseline", "best", "bsba", "fastest_safe"):
        model = study.document[name]
        assert (
            model is None or (str(model["removed"][-1]) if model["removed"] else "whole") in found
        )
    assert "Shown are" not in shown(Made(layers=12, rounds=6).finished())


def test_an_unfinished_study_shows_its_path_on_the_search_set() -> None:
    study = Made(rounds=4).interrupted(2)
    assert study.found is not None
    text = shown(study)
    found = rows(text)
    kept = study.found.kept
    assert list(found) == ["whole", *(str(one.removed[-1]) for one in kept[1:])]
    assert all(
        f"{100 * one.accuracy:.1f}%" in line for one, line in zip(kept, found.values(), strict=True)
    )
    assert "held out" not in text
    assert "give its command again to go on" in text


def test_an_unfinished_study_tells_why_its_last_layer_stays() -> None:
    study = Made(objective="accuracy").interrupted(0)
    assert study.found is not None
    last = step(study.found.start, {1: 0.5})
    whole = replace(study, found=replace(study.found, rounds=(last,)))
    assert "Layer 1 would be next, but falls below the floor: 50.0%" in shown(whole)
    guarded = step(study.found.start, {1: 0.5}, refused=(1,))
    whole = replace(study, found=replace(study.found, rounds=(guarded,)))
    assert "Layer 1 would be next, but is refused by a guard" in shown(whole)


def test_a_study_that_had_not_begun_says_so_in_a_line() -> None:
    assert shown(not_begun()).splitlines() == [
        "The search is not finished; give its command again to go on."
    ]


def test_a_summary_counts_the_texts_of_every_model() -> None:
    study = Made(writes=True).finished()
    assert study.document is not None
    (of_texts,) = [line for line in shown(study).splitlines() if "held-out texts" in line]
    for name in ("baseline", "best", "bsba"):
        counts = study.document[name]["held_out"]
        assert f" {counts['unparsable']} and {counts['cut_off']}" in of_texts
    assert "texts" not in shown(Made().finished())


def test_a_summary_says_how_each_shallower_model_reads_ordinary_text() -> None:
    study = Made().finished()
    assert study.document is not None
    best = study.document["best"]["text_perplexity"]
    assert "Perplexity on ordinary text (built-in page): whole model 20.0; " in shown(study)
    assert f" {best:.1f} (x{best / 20:.2f})" in shown(study)


def test_a_summary_has_a_line_for_every_guard() -> None:
    study = Made(guards=("arc_easy", "sst2"), gain=0.05).finished()
    assert study.document is not None
    lines = [line for line in shown(study).splitlines() if line.startswith("Guard ")]
    assert [line.split()[1] for line in lines] == ["arc_easy", "sst2"]
    found = study.document["best"]["guards"]["sst2"]
    assert f"{100 * found['gain']:+.1f} (" in lines[1]
    assert f"), loses at most {loss(found['loses_at_most'])}" in lines[1]


def test_a_summary_ends_with_what_to_mind_and_the_cost() -> None:
    cautions = ("BEST never answers 'B'", "the token limit cut off 18 of 40 texts of BEST")
    made = Made(cautions=cautions)
    study = replace(made.finished(), result=result_of(made, 2))
    lines = shown(study).splitlines()
    minded = [line for line in lines if line.startswith("Mind: ")]
    assert minded[:2] == [f"Mind: {caution}." for caution in cautions]
    assert "2 other searches have looked at these held-out examples" in minded[2]
    assert lines[-1].startswith("The search cost 4.5 passes")
    assert "1 other search has looked" in shown(replace(study, result=result_of(made, 1)))
    for none in (0, None):
        assert "Mind: " not in shown(replace(study, result=result_of(Made(), none)))


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

    def told(**more: Any) -> str:
        out = Console(file=io.StringIO(), width=200, color_system=None)
        evaluation({**document, **more}, out)
        return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    texts = "Texts without an answer: 3; cut off by the token limit: 2"
    assert texts in told(unparsable=3, cut_off=2)
    assert "Mind: all is not well." in told(cautions=["all is not well"])
    assert "removed: none" in told()
    assert len(told().splitlines()) == 2


def test_advice_names_options_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    ScreenWatcher().advised("`dtype` auto is bfloat16")
    assert "--dtype auto is bfloat16." in capsys.readouterr().err
