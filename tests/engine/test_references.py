"""Reference answers are read beside the writing, and what is ready is given before more is done."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from telltale.engine.references import WithReferences
from telltale.errors import MeasurementError
from telltale.measure import (
    Batch,
    BatchTooLargeError,
    ChoiceOutcome,
    Generated,
    Measurement,
    Outcome,
    in_halves,
)
from telltale.paths import LayerPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WHOLE = LayerPath.whole(4)
PATHS = [WHOLE, WHOLE.without(0), WHOLE.without(2)]
BATCHES = [Batch((0, 1)), Batch((2, 3, 4))]
PAIRS = [(batch, path) for batch in BATCHES for path in PATHS]


class Table:
    """A measure without a model, that notes what it did, and fails after so many measurements."""

    def __init__(
        self,
        outcome: Callable[[int, LayerPath], Outcome],
        *,
        work: int = 1,
        fails_after: int | None = None,
        problem: Exception | None = None,
        shuffled_by: int | None = None,
        most: int = 99,
    ) -> None:
        self.outcome, self.work, self.most = outcome, work, most
        self.fails_after, self.problem, self.shuffled_by = fails_after, problem, shuffled_by
        self.done: list[tuple[Batch, LayerPath]] = []

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        order = [(batch, path) for batch in batches for path in paths]
        if self.shuffled_by is not None:
            random.Random(self.shuffled_by).shuffle(order)
        for batch, path in order:
            if len(self.done) == self.fails_after and self.problem is not None:
                raise self.problem
            if len(batch.examples) > self.most:
                raise BatchTooLargeError(batch, "cpu")
            self.done.append((batch, path))
            outcomes = tuple(self.outcome(example, path) for example in batch.examples)
            yield Measurement(batch, path, outcomes, layer_tokens=self.work * path.depth)


def text(example: int, path: LayerPath) -> Outcome:
    return Outcome(example, (), f"{path}", 1.0, Generated(f"text {example} of {path}", 3, False))


def reference(example: int, path: LayerPath) -> Outcome:
    return Outcome(example, (ChoiceOutcome(-example - path.depth, 1, 1, 1),), 0, 1.0)


def both(batch: Batch, path: LayerPath) -> Measurement:
    outcomes = tuple(
        Outcome(
            example,
            (ChoiceOutcome(-example - path.depth, 1, 1, 1),),
            f"{path}",
            1.0,
            Generated(f"text {example} of {path}", 3, False),
        )
        for example in batch.examples
    )
    return Measurement(batch, path, outcomes, layer_tokens=(7 + 100) * path.depth)


@pytest.mark.parametrize("of_text", [None, 1, 2])
@pytest.mark.parametrize("of_references", [None, 1, 2])
def test_each_text_has_its_own_reference_and_the_work_of_both_in_whatever_order(
    of_text: int | None, of_references: int | None
) -> None:
    measure = WithReferences(
        Table(text, work=100, shuffled_by=of_text),
        Table(reference, work=7, shuffled_by=of_references),
    )
    found = list(measure(PATHS, BATCHES))
    assert len(found) == len(PAIRS)
    assert {(one.batch, one.path): one for one in found} == {pair: both(*pair) for pair in PAIRS}


def taken(measure: WithReferences) -> tuple[list[Measurement], Exception]:
    """What comes out of a measure before it fails, and how it does."""
    found: list[Measurement] = []
    try:
        for one in measure(PATHS, BATCHES):
            found.append(one)
    except MeasurementError as problem:
        return found, problem
    raise LookupError("it did not fail")


@pytest.mark.parametrize("after", range(len(PAIRS)))
@pytest.mark.parametrize("problem", [MeasurementError("NaN"), BatchTooLargeError(BATCHES[1], "x")])
@pytest.mark.parametrize("writing_fails", [True, False])
def test_what_was_measured_before_a_failure_has_come_out(
    after: int, problem: Exception, writing_fails: bool
) -> None:
    fails, works = {"fails_after": after, "problem": problem}, {}
    measure = WithReferences(
        Table(text, work=100, **(fails if writing_fails else works)),  # type: ignore[arg-type]
        Table(reference, work=7, **(works if writing_fails else fails)),  # type: ignore[arg-type]
    )
    found, raised = taken(measure)
    assert found == [both(*pair) for pair in PAIRS[:after]]
    assert raised is problem


@pytest.mark.parametrize("count", range(len(PAIRS) + 1))
def test_a_caller_that_stops_has_paid_for_no_more_and_may_ask_for_fewer_paths(count: int) -> None:
    writes, reads = Table(text, work=100), Table(reference, work=7)
    measure = WithReferences(writes, reads)
    found = list(itertools.islice(measure(PATHS, BATCHES), count))
    assert found == [both(*pair) for pair in PAIRS[:count]]
    assert writes.done == reads.done == PAIRS[:count]
    assert list(measure(PATHS[1:], BATCHES[1:])) == [both(BATCHES[1], path) for path in PATHS[1:]]


@pytest.mark.parametrize(("text_fits", "reference_fits"), [(1, 9), (9, 1), (2, 1)])
def test_batches_that_do_not_fit_are_halved_whichever_of_the_two_is_too_large(
    text_fits: int, reference_fits: int
) -> None:
    measure = WithReferences(
        Table(text, work=100, most=text_fits), Table(reference, work=7, most=reference_fits)
    )
    found = list(in_halves(measure, PATHS, BATCHES, lambda one: len(one.examples)))
    singles = [Batch((example,)) for example in range(5)]
    assert found == [both(batch, path) for batch in singles for path in PATHS]
