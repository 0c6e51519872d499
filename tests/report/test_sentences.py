"""What is said of a study: the same in the page, the figures and the terminal."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from telltale.evidence.result import Result, result_from
from telltale.paths import LayerPath
from telltale.report.repeating import command
from telltale.report.sentences import (
    cost_sentences,
    fate,
    final_sentence,
    naive_passes,
    names_of,
)
from telltale.support.words import (
    between,
    counted,
    duration,
    loss,
    number,
    points,
    points_between,
    typeset,
)
from tests.report.made import Made, not_begun
from tests.rounds import step


def result_of(made: Made, **changes: Any) -> Result:
    """The result, with fields of its document changed."""
    document = made.finished().document
    assert document is not None
    return result_from({**document, **changes}, 0)


def test_a_study_without_a_document_is_told_by_its_search_alone() -> None:
    study = Made(rounds=4).interrupted(2)
    found = study.searched
    assert not found.is_finished
    assert len(found.models) == 3
    assert all(model.held_out is None and not model.names for model in found.models)
    assert (study.result, found.recommended, found.shown_first) == (None, None, None)
    assert not_begun().searched.models == ()


def test_the_model_looked_at_is_the_one_recommended_else_best_else_bsba() -> None:
    study = Made(gain=0.1).finished()
    assert study.document is not None
    path = study.document["path"]
    nothing = {"confirmed_best": None, "fastest_safe": None, "best": path[0], "bsba": path[0]}
    for given, depth in (
        ({}, 1),
        ({"bsba": path[3]}, 3),
        ({"bsba": path[3], "best": path[2]}, 2),
        ({"best": path[2], "fastest_safe": path[3]}, 3),
        ({"best": path[2], "fastest_safe": path[3], "confirmed_best": path[2]}, 2),
    ):
        worth = result_of(Made(gain=0.1), **(nothing | given)).shown_first
        assert worth is not None
        assert len(worth.removed) == depth
    assert result_of(Made(rounds=1)).shown_first is None


def test_a_model_has_every_name_that_the_result_gives_it() -> None:
    study = Made().finished()
    assert study.document is not None
    whole = study.document["path"][0]
    names = result_of(Made(), best=whole, bsba=whole, fastest_safe=None, confirmed_best=None)
    assert [names_of(model) for model in names.models] == [("BEST", "BSBA"), (), (), ()]


def test_a_search_that_shares_nothing_costs_what_its_candidates_are_deep() -> None:
    whole = LayerPath.whole(4)
    first = step(whole, dict.fromkeys(range(4), 1.0), 0)
    last = step(whole.without(0), dict.fromkeys(range(1, 4), 1.0))
    assert naive_passes([first, last], 4) == 1 + 4 * 3 / 4 + 3 * 2 / 4


def test_the_precision_that_timing_chose_is_told_with_its_gain() -> None:
    result = result_of(Made())
    said = cost_sentences(replace(result, cost=replace(result.cost, bfloat16_gain=1.93)))
    assert said[1:] == (
        "Measured in float32: where the search began, bfloat16 ran the model's layers 1.9 times "
        "as fast as float32.",
    )


def test_the_cost_is_told_beside_what_its_measurements_would_have_cost_alone() -> None:
    def told(made: Made, **more: Any) -> str:
        result = result_of(made)
        (said,) = cost_sentences(replace(result, cost=replace(result.cost, **more)))
        return said

    start = " cost 4.5 passes of the search set through the whole model (1 min 01 s)"
    guarded = Made(guards=("sst2",))
    assert told(Made(), naive_passes=12.34) == f"The search{start}; each candidate by itself: 12.3."
    told_of_both = told(guarded, naive_passes=12.34)
    assert told_of_both == f"The search and its guards{start}; each candidate by itself: 12.3."
    # A study that was begun before this was counted: only what a guard took is not known.
    rounds = naive_passes(Made().found().rounds, 8)
    assert told(Made()) == f"The search{start}; each candidate by itself: {rounds:.1f}."
    assert told(guarded, naive_passes=None) == f"The search and its guards{start}."


def test_what_became_of_a_round_is_told() -> None:
    whole = LayerPath.whole(4)
    assert fate(step(whole, {1: 0.5}, 1)) == "left out"
    assert fate(step(whole, {1: 0.5})) == "falls below the floor"
    assert fate(step(whole, {1: 0.5}, refused=(1,))) == "is refused by a guard"


def test_the_final_set_is_told_where_one_was_asked_for() -> None:
    assert final_sentence(result_of(Made())) is None
    sealed = final_sentence(result_of(Made(final=20)))
    assert sealed is not None
    assert "20 examples stays sealed" in sealed
    seen = {
        "name": "confirmed_best",
        "removed": [5, 2],
        "layers": 6,
        "baseline_accuracy": 0.5,
        "accuracy": 0.625,
        "interval": [0.5, 0.75],
        "gain": 0.125,
        "gain_interval": [-0.05, 0.3],
        "loses_at_most": 0.02,
    }
    told = final_sentence(result_of(Made(final=20), final=seen))
    assert told is not None
    assert "for BEST, without layers 2, 5: 62.5% (50.0-75.0)" in told
    assert "so +12.5 points (-5.0 to +30.0); it loses at most 2.0." in told
    surely = final_sentence(result_of(Made(final=20), final={**seen, "loses_at_most": -0.01}))
    assert surely is not None
    assert surely.endswith("it loses nothing.")


def options(made: Made, task: dict[str, Any] | None = None) -> list[str]:
    found = made.finished().searched
    text = command(replace(found, task={**found.task, **(task or {})}))
    assert text is not None
    return shlex.split(text)


def test_a_command_names_the_task_as_it_was_given() -> None:
    assert options(Made())[:4] == ["telltale", "search", "tiny-llama", "capitals"]
    assert options(Made(task="my rows.jsonl"))[3:5] == ["--data", "my rows.jsonl"]
    assert options(Made(task="hf:org/set"))[3] == "hf:org/set"
    for whole in ("harness:arc_easy", "arc_easy=2,boolq"):
        assert "--prompt" not in options(Made(task=whole))
    judged = {"shots": 3, "scorer": {"metric": "acc_norm,none"}}
    given = options(Made(task="harness:arc_easy"), judged)
    assert given[3:8] == ["harness:arc_easy", "--shots", "3", "--metric", "acc_norm,none"]


def test_a_command_has_the_settings_that_are_not_the_usual_ones() -> None:
    given = options(Made(guards=("arc_easy",), protected=(0, 3), final=20, objective="margin"))
    pairs = dict(zip(given[4::2], given[5::2], strict=True))
    assert pairs["--guard"] == "arc_easy:0.05"
    assert pairs["--protect"] == "0,3"
    assert pairs["--final"] == "20"
    assert pairs["--objective"] == "margin"
    assert (pairs["--limit"], pairs["--held-out"]) == ("40", "60")
    assert "--objective" not in options(Made(objective="of my own"))


def test_a_command_asks_for_text_as_it_was_asked_for() -> None:
    given = options(Made(writes=True), {"stop": ["\n\n", "Q:"], "shots": 2})
    assert given[given.index("--stop") + 1] == "\\n\\n"
    for pair in (("--extract", "exact"), ("--shots", "2"), ("--max-new-tokens", "8")):
        assert given[given.index(pair[0]) + 1] == pair[1]


def test_there_is_no_command_before_anything_was_asked() -> None:
    assert command(not_begun().searched) is None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (points(0.0412), "+4.1"),
        (points(-0.0004), "0.0"),
        (between((0.5, 0.6125)), "50.0-61.3"),
        (points_between((-0.119, 0.083)), "-11.9 to +8.3"),
        (loss(0.031), "3.1"),
        (loss(-0.01), "nothing"),
        (number(1045.3), "1,045"),
        (number(44.56), "44.6"),
        (number(-2.174), "-2.17"),
        (counted(1, "layer"), "1 layer"),
        (counted(1000, "layer"), "1,000 layers"),
        (duration(5.4), "5 s"),
        (duration(65), "1 min 05 s"),
        (duration(3600 * 5 + 120), "5 h 02 min"),
        (
            typeset("-1.7 (-11.9 to +8.3), 50.0-61.3, arc-2, 0-shot"),
            "−1.7 (−11.9 to +8.3), 50.0–61.3, arc-2, 0-shot",
        ),
    ],
)
def test_numbers_are_told_as_people_read_them(found: str, said: str) -> None:
    assert found == said
