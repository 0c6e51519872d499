"""What a user may put in the place of telltale's own parts, by public names alone."""

from __future__ import annotations

import inspect
import itertools
import math
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale import LayerPath
from telltale.searches import Found, GreedyRemoval, RankedRemoval, Round, Search
from telltale.study import read_study
from tests.studies import PAGE, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from telltale.engine.layer_scores import Observation
    from telltale.measure import Batch, Measure, Measurement, Outcome
    from telltale.tasks import Scoring


def search(model: Path, out: Path, **asked: Any) -> telltale.study.Result:
    """A search of a few seconds."""
    asked = {"limit": 40, "held_out": 30, "tolerance": 0.3, "text": PAGE, "max_removed": 3} | asked
    return telltale.search(str(model), "capitals", out=out, **asked)


@dataclass(frozen=True)
class Beam(Search):
    """Beam search: the best few paths of every depth are gone on with."""

    width: int = 2

    method = "beam search"

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Found:
        origin = self.origin(measure, batches, start)
        beam: Sequence[LayerPath] = [start]
        rounds: list[Round] = []
        while paths := self.children(beam, start):
            done = self.chosen(self.measured(measure, batches, paths), origin, most=self.width)
            rounds.append(done)
            watch(done)
            if not done.kept:
                break
            beam = done.kept
        return Found(origin, tuple(rounds))


def test_a_beam_search_takes_fewer_than_40_lines() -> None:
    assert len(inspect.getsource(Beam).splitlines()) < 40


def test_a_beam_of_one_is_greedy_removal(tiny_folder: Path, tmp_path: Path) -> None:
    beam = search(tiny_folder, tmp_path / "study", search=Beam(width=1)).document
    greedy = search(tiny_folder, tmp_path / "study").document
    assert beam["path"] == greedy["path"]
    assert beam["rounds"] == greedy["rounds"]


def test_a_beam_search_is_shown_exported_and_gone_on_with(
    tiny_folder: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    result = search(tiny_folder, study, search=Beam(width=3))
    assert (
        result_of(study)["search"] | {"method": "beam search", "width": 3}
        == result_of(study)["search"]
    )
    assert any(len(one["kept"]) == 3 for one in result.document["rounds"])
    before = (study / "result.json").read_text()
    measured = read_study(study).cost.batches_begun
    search(tiny_folder, study, search=Beam(width=3))
    assert (study / "result.json").read_text() == before
    assert read_study(study).cost.batches_begun == measured
    deepest = result.document["path"][-1]["removed"]
    done = telltale.export(study, pick=len(deepest), to=tmp_path / "smaller")
    assert list(done.removed) == deepest


@dataclass(frozen=True)
class InOrder(Search):
    """Leave out layers in a given order, as long as the model may be kept."""

    order: tuple[int, ...] = ()

    method = "given order"

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Found:
        origin = self.origin(measure, batches, start)
        path, rounds = start, []
        for layer in self.order:
            tried = self.measured(measure, batches, {path.without(layer): path})
            rounds.append(self.chosen(tried, origin))
            watch(rounds[-1])
            if not rounds[-1].kept:
                break
            path = rounds[-1].kept[0]
        return Found(origin, tuple(rounds))


def test_a_search_by_a_given_ranking_removes_in_that_order(
    tiny_folder: Path, tmp_path: Path
) -> None:
    result = search(tiny_folder, tmp_path / "study", search=InOrder(order=(2, 0)), tolerance=1.0)
    assert [one["removed"] for one in result.document["path"]] == [[], [2], [2, 0]]


@dataclass(frozen=True)
class Racing(Search):
    """Greedy removal whose candidates leave as soon as they cannot have the highest accuracy."""

    method = "racing greedy removal"

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Found:
        greedy = GreedyRemoval(self.tolerance, self.max_removed, self.protected, self.value)

        def racing(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            to_come = sum(len(batch.examples) for batch in batches)
            right = dict.fromkeys(paths, 0.0)
            for batch in batches:
                to_come -= len(batch.examples)
                # A generator of few at a time, left before its end where all that is left is lost.
                with closing(measure(list(right), [batch])) as found:  # type: ignore[type-var]
                    for one in found:
                        right[one.path] += math.fsum(o.score for o in one.outcomes)
                        yield one
                best = max(right.values())
                behind = [path for path, score in right.items() if score + to_come < best]
                for path in behind:
                    del right[path]

        return greedy(racing, sorted(batches, key=lambda batch: batch.block), start, watch)


def test_a_racing_measure_leaves_early_and_the_records_stay_right(
    tiny_folder: Path, tmp_path: Path
) -> None:
    asked = {"limit": 90, "held_out": 30, "objective": "accuracy"}
    raced = search(tiny_folder, tmp_path / "raced", search=Racing(), **asked)
    fresh = search(tiny_folder, tmp_path / "fresh", **asked)
    assert raced.document["path"] == fresh.document["path"]
    assert raced.document["cost"]["batches_measured"] < fresh.document["cost"]["batches_measured"]
    partial = [
        count for one in raced.document["rounds"] for count in one.get("examples", {}).values()
    ]
    assert partial
    assert all(0 < count < 90 for count in partial)
    # What was raced is remembered, and what was left is measured now.
    search(tiny_folder, tmp_path / "raced", **asked)
    assert result_of(tmp_path / "raced") == result_of(tmp_path / "fresh")
    begun = [read_study(tmp_path / name).cost.batches_begun for name in ("raced", "fresh")]
    assert begun[0] == begun[1]


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_search_that_leaves_a_measure_in_the_middle_can_go_on(
    after: int, tiny_folder: Path, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Leaving(GreedyRemoval):
        def __call__(
            self, measure: Measure, batches: Any, start: LayerPath, watch: Any = None
        ) -> Found:
            paths = list(self.children([start], start))
            with closing(measure(paths, batches)) as found:  # type: ignore[type-var]
                for _ in range(after):
                    next(found)
            return super().__call__(measure, batches, start, watch)

    left = search(tiny_folder, tmp_path / "left", search=Leaving())
    whole = search(tiny_folder, tmp_path / "whole")
    assert left.document["path"] == whole.document["path"]
    costs = [one.document["cost"]["batches_measured"] for one in (left, whole)]
    assert costs[0] == costs[1]


@dataclass(frozen=True)
class Confident:
    """The score, less where the right choice is not far ahead."""

    name: str = "confident"
    fewest_choices: int = 2

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        merits = scoring.merits(outcome.choices)
        ahead = merits[right] - max(one for i, one in enumerate(merits) if i != right)
        return math.tanh(ahead)


def test_an_objective_of_ones_own_ranks_candidates(tiny_folder: Path, tmp_path: Path) -> None:
    result = search(tiny_folder, tmp_path / "study", objective=Confident())
    assert result.document["search"]["objective"] == "confident"
    values = [value for done in result.document["rounds"] for value in done["objective"].values()]
    assert all(-1 < value < 1 for value in values)
    chosen = [
        max(done["objective"], key=done["objective"].get) == str(done["removed"])
        for done in result.document["rounds"]
        if done["accepted"] and min(done["candidates"].values()) >= 0
    ]
    assert chosen


@dataclass(frozen=True)
class Growth:
    """How much longer a layer makes the states of its tokens."""

    name: str = "growth"
    needs_gradients: bool = False

    def __call__(self, observations: Iterable[Observation]) -> list[float]:
        total: list[float] = []
        tokens = 0
        for one in observations:
            lengths = [state[one.real].norm(dim=-1) for state in one.states]
            grown = [float((b / a).sum()) for a, b in itertools.pairwise(lengths)]
            total = [x + y for x, y in zip(total or [0.0] * len(grown), grown, strict=True)]
            tokens += int(one.real.sum())
        return [one / tokens for one in total]


@dataclass(frozen=True)
class ByGrowth(RankedRemoval):
    """Leave out first what makes states grow least."""

    score: str = "growth"

    method = "growth"

    @property
    def needs(self) -> tuple[Any, ...]:
        return (Growth(),)


def test_a_score_from_hidden_states_reaches_a_search_as_numbers_and_is_frozen(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = search(tiny_folder, tmp_path / "study", search=ByGrowth(), tolerance=1.0)
    scores = result.document["layer_scores"]["growth"]
    order = sorted(range(len(scores)), key=lambda layer: scores[layer])
    assert result.document["path"][-1]["removed"] == order[: len(scores) - 1][:3]
    # Gone on with, the score is the one that the study has.
    monkeypatch.setattr(Growth, "__call__", lambda *_: pytest.fail("scored again"))
    again = search(tiny_folder, tmp_path / "study", search=ByGrowth(), tolerance=1.0)
    assert again.document == result.document


@pytest.mark.parametrize("name", ["block-influence", "gradient"])
def test_searches_by_a_score_of_layers_have_names(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    result = search(tiny_folder, tmp_path / "study", search=name, tolerance=1.0)
    scores = result.document["layer_scores"][name]
    order = sorted(range(len(scores)), key=lambda layer: scores[layer])
    assert result.document["path"][-1]["removed"] == order[:3]
    assert all(len(done["candidates"]) == 1 for done in result.document["rounds"])
