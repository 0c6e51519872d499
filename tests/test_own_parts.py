"""What a user may put in the place of telltale's own parts, by public names alone."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale import LayerPath
from telltale.engine.layer_scores import LAYER_SCORES
from telltale.engine.runner import LocalRunner
from telltale.searches import SEARCHES, Found, GreedyRemoval, RankedRemoval, Round, Search
from telltale.study import read_study
from telltale.study.records import open_records
from tests.studies import PAGE, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from telltale.engine.layer_scores import Observation
    from telltale.engine.runner import ModelFacts
    from telltale.measure import Batch, Measure, Measurement, Outcome
    from telltale.tasks import Scoring


def search(model: Path, out: Path, task: str = "capitals", **asked: Any) -> telltale.study.Result:
    """A search of a few seconds."""
    asked = {"limit": 40, "held_out": 30, "tolerance": 0.3, "text": PAGE, "max_removed": 3} | asked
    return telltale.search(str(model), task, out=out, **asked)


@dataclass(frozen=True)
class Beam(Search):
    """Beam search: the best few paths of every depth are gone on with."""

    width: int = 2

    method = "beam search of my own"

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
            done = self.decided(measure, batches, paths, origin, most=self.width)
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


@pytest.mark.slow
def test_a_beam_search_is_shown_exported_and_gone_on_with(
    tiny_folder: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    result = search(tiny_folder, study, search=Beam(width=3))
    assert (
        result_of(study)["search"] | {"method": "beam search of my own", "width": 3}
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
    goes_by_blocks = True

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Found:
        greedy = GreedyRemoval(
            self.tolerance, self.max_removed, self.protected, self.value, speed="full"
        )

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
    asked = {
        "task": "boolean_expressions",  # candidates differ by more than a batch holds
        "limit": 90,
        "held_out": 30,
        "objective": "accuracy",
        "speed": "full",
    }
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
    assert begun[0] - raced.document["cost"]["batches_measured"] < begun[1]


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_search_that_leaves_a_measure_in_the_middle_can_go_on(
    after: int, tiny_folder: Path, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Leaving(GreedyRemoval):
        method = "greedy removal that leaves a measure"

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


@pytest.mark.parametrize("name", ["block-influence", "gradient-squared", "magnitude"])
def test_searches_by_a_score_of_layers_have_names(
    name: str, tiny_folder: Path, tmp_path: Path
) -> None:
    result = search(tiny_folder, tmp_path / "study", search=name, tolerance=1.0)
    scores = result.document["layer_scores"][name]
    order = sorted(range(len(scores)), key=lambda layer: scores[layer])
    assert result.document["path"][-1]["removed"] == order[:3]
    assert all(len(done["candidates"]) == 1 for done in result.document["rounds"])
    assert LAYER_SCORES.keys() < SEARCHES.keys()


@dataclass(frozen=True)
class Wrong(GreedyRemoval):
    """Greedy removal that does one thing wrong."""

    does: str = ""

    method = "wrong"

    @property
    def needs(self) -> tuple[Any, ...]:
        return {"unknown score": ("blokk",), "no score": (3,)}.get(self.does, ())

    def __call__(self, measure: Measure, batches: Any, start: LayerPath, watch: Any = None) -> Any:
        if self.does == "starts elsewhere":
            return super().__call__(measure, batches, start.without(1), watch)
        found = super().__call__(measure, batches, start, watch)
        return None if self.does == "gives nothing" else found


class Unnamed(GreedyRemoval):
    """Greedy removal under the name of the published one."""


@dataclass(frozen=True)
class Odd(GreedyRemoval):
    method = "odd"
    layers: frozenset[int] = frozenset({1})


@dataclass(frozen=True)
class Beside(GreedyRemoval):
    method = "beside"
    confidence: float = 0.5


class Unbounded(GreedyRemoval):
    method = "unbounded"

    def children(self, paths: Any, start: LayerPath) -> Any:
        return {one.without(layer): one for one in paths[:1] for layer in one.kept[:2]}

    def __call__(
        self, measure: Measure, batches: Any, start: LayerPath, watch: Any = None
    ) -> Found:
        origin = self.origin(measure, batches, start)
        rounds, path = [], start
        for _ in range(2):
            done = self.chosen(
                self.measured(measure, batches, self.children([path], start)), origin
            )
            rounds.append(done)
            path = done.first.path
        return Found(origin, tuple(rounds))


@pytest.mark.parametrize(
    ("wrong", "asked", "says"),
    [
        (Unnamed(), {}, "needs a method of its own"),
        (Odd(), {}, "cannot be kept as JSON"),
        (Beside(), {}, "has a field confidence, as a study has"),
        (GreedyRemoval(tolerance=0.1), {}, "has tolerance set, which a study gives it"),
        (GreedyRemoval(protected=frozenset({0})), {}, "give telltale.search its `protect`"),
        (RankedRemoval(score="blokk"), {}, "needs 'blokk', which is no score of layers"),
        (
            Wrong(does="unknown score"),
            {},
            "gradient-absolute, gradient-squared, angular-distance, magnitude, joint or a",
        ),
        (Wrong(does="no score"), {}, "needs 3, which is no score of layers"),
        (Wrong(does="gives nothing"), {}, "gave None; it must give a Found"),
        (Wrong(does="starts elsewhere"), {}, "must start from the whole model"),
        (Unbounded(), {"max_removed": 1, "tolerance": 1.0}, "goes against `max_removed`"),
        (Unbounded(), {"protect": [0, 1], "tolerance": 1.0}, "or `protect`"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_search_that_a_study_cannot_take_is_refused_with_what_to_do(
    wrong: Search, asked: dict[str, Any], says: str, tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(telltale.InputError, match=re.escape(says)):
        search(tiny_folder, tmp_path / "study", search=wrong, **asked)


def test_a_score_of_ones_own_that_has_changed_is_made_anew(
    tiny_folder: Path, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Numbers:
        given: tuple[float, ...]
        name: str = "numbers"
        needs_gradients: bool = False

        def __call__(self, observations: Any) -> tuple[float, ...]:
            return self.given

    @dataclass(frozen=True)
    class ByNumbers(RankedRemoval):
        score: str = "numbers"
        numbers: tuple[float, ...] = ()
        method = "by numbers"

        @property
        def needs(self) -> tuple[Any, ...]:
            return (Numbers(self.numbers),)

    found = [
        search(
            tiny_folder, tmp_path / "study", search=ByNumbers(numbers=numbers), tolerance=1.0
        ).document["path"][-1]["removed"]
        for numbers in ((0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0))
    ]
    assert found == [[0, 1, 2], [5, 4, 3]]


def test_a_study_that_was_stopped_while_layers_were_scored_is_shown(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tiny_folder, tmp_path / "study")

    def stopped(*_: Any) -> Any:
        raise telltale.MeasurementError("stopped")

    monkeypatch.setattr("telltale.engine.workbench.Workbench.layer_scores", stopped)
    with pytest.raises(telltale.MeasurementError, match="stopped"):
        search(tiny_folder, tmp_path / "study", search="block-influence")
    found = read_study(tmp_path / "study")
    assert found.result is None
    assert [model.removed for model in found.searched.models] == [()]


def test_the_command_that_asks_the_same_names_the_search(tiny_folder: Path, tmp_path: Path) -> None:
    from telltale.report.repeating import command

    for name, says in (("gradient", " --search gradient "), ("greedy", None)):
        search(tiny_folder, tmp_path / name, search=name)
        said = command(read_study(tmp_path / name).searched)
        assert said is not None
        assert ("--search" in said) == (says is not None)
        assert says is None or says in said
    search(tiny_folder, tmp_path / "beam", search=Beam(), max_removed=1)
    assert command(read_study(tmp_path / "beam").searched) is None


@pytest.mark.parametrize(
    ("runner", "error", "says"),
    [
        (lambda *_: None, telltale.InputError, "and gave None, which has no facts"),
        (lambda *_: 1 / 0, telltale.MeasurementError, "no runner could be made: ZeroDivisionError"),
    ],
)
def test_what_makes_no_runner_is_told_in_one_line(
    runner: Any, error: type[Exception], says: str, tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        search(tiny_folder, tmp_path / "study", runner=runner, device="cuda")


class Cramped(LocalRunner):
    """A model on a device that has memory for few tokens."""

    tokens_at_once = 64

    @property
    def facts(self) -> ModelFacts:  # type: ignore[override]
        return replace(LocalRunner.facts.func(self), tokens_at_once=self.tokens_at_once)


class Roomy(Cramped):
    """The same device, where nothing else is on it."""

    tokens_at_once = 2**20


def test_batches_of_free_memory_are_frozen_when_a_study_begins(
    tiny_folder: Path, tmp_path: Path
) -> None:
    def batches(name: str, runner: type[LocalRunner], **asked: Any) -> list[list[int]]:
        search(tiny_folder, tmp_path / name, runner=runner, **asked)
        with open_records(tmp_path / name, write=False) as records:
            found: list[list[int]] = records.fact("plan")["batches"]["search"]
            return found + records.fact("dealt")

    few = batches("begun", Cramped, max_removed=1)
    assert len(few) > len(batches("roomy", Roomy, max_removed=1))
    assert batches("roomy", LocalRunner) == batches("whole", LocalRunner)
    assert batches("begun", Roomy) == few


def test_stability_of_a_search_by_a_score_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(telltale.InputError, match="it has seen what judges it"):
        telltale.stability(
            str(tiny_folder),
            "capitals",
            out=tmp_path / "s",
            limit=60,
            held_out=30,
            search="gradient",
        )
