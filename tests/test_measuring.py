"""The measure that remembers: what is kept, by whose weights, and what leaving early changes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from telltale.measure import Batch, Generated, Measurement, Outcome, outcomes_by_path
from telltale.paths import LayerPath
from telltale.study.measuring import Remembering
from telltale.study.records import open_records
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from telltale.measure import Measure

BATCHES = [Batch((0, 1)), Batch((2, 3)), Batch((4,))]
PATHS = [LayerPath.whole(3), LayerPath.from_removed([1], 3)]
EVERY = len(BATCHES) * len(PATHS)


def giving(score: float, ended: list[int] | None = None) -> Measure:
    """Gives every example the same score; notes how many measurements it was asked for."""

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        given = 0
        try:
            for batch in batches:
                for path in paths:
                    given += 1
                    text = Generated("", 0, cut_off=False)
                    outcomes = tuple(Outcome(i, (), None, score, text) for i in batch.examples)
                    yield Measurement(batch, path, outcomes, layer_tokens=1)
        finally:
            if ended is not None:
                ended.append(given)

    return measure


def test_outcomes_of_tuned_weights_stand_beside_those_of_the_models_own(tmp_path: Path) -> None:
    scores = {"": 0.25, "tuned-1": 0.75, "tuned-2": 1.0}
    with open_records(tmp_path / "study", write=True) as records:
        for variant, score in scores.items():
            measure = Remembering(records, giving(score), Watcher(), variant=variant)
            outcomes_by_path(measure(PATHS, BATCHES))
        for variant, score in scores.items():
            remembers = Remembering(records, giving(0.5), Watcher(), variant=variant)
            found = outcomes_by_path(remembers(PATHS, BATCHES))
            assert {one.score for path in PATHS for one in found[path].values()} == {score}


@pytest.mark.parametrize("after", range(EVERY + 1))
def test_what_was_given_before_a_caller_left_is_kept_and_counted(
    after: int, tmp_path: Path
) -> None:
    ended: list[int] = []
    with open_records(tmp_path / "study", write=True) as records:
        records.set_facts({"layer_tokens_alone": 0})
        records.start_run({})
        measure = Remembering(records, giving(1.0, ended), Watcher(), alone=lambda _: 10)
        with closing(measure(PATHS, BATCHES)) as found:  # type: ignore[type-var]
            for _ in range(after):
                next(found)
        assert ended == ([after] if after else [])  # what measures was ended too
        cost = records.cost()
        assert (cost.batches_begun, cost.layer_tokens) == (after, after)
        assert cost.layer_tokens_alone == 10 * after
        # Gone on with, only the rest is measured.
        outcomes_by_path(measure(PATHS, BATCHES))
        assert sum(ended) == EVERY
        assert records.cost().batches_begun == EVERY


def test_a_measure_that_is_left_after_its_study_is_closed_is_no_error(tmp_path: Path) -> None:
    with open_records(tmp_path / "study", write=True) as records:
        records.start_run({})
        found = Remembering(records, giving(1.0), Watcher(), alone=lambda _: 0)(PATHS, BATCHES)
        next(found)
    found.close()  # type: ignore[attr-defined]
