"""Outcomes survive packing exactly, and accuracies are means over examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.errors import TelltaleError
from telltale.measure import (
    Batch,
    BatchTooLargeError,
    ChoiceOutcome,
    Generated,
    Measurement,
    Outcome,
    Shifted,
    accuracy,
    outcomes_by_path,
    pack_outcomes,
    unpack_outcomes,
)
from telltale.paths import LayerPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COUNT = st.integers(0, 2**32 - 1)
CHOICE = st.builds(ChoiceOutcome, st.floats(allow_nan=False), COUNT, COUNT, COUNT)
CHOSEN = st.builds(Outcome, COUNT, st.lists(CHOICE, max_size=5).map(tuple), COUNT, st.floats(0, 1))
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
WRITTEN = st.builds(
    Outcome,
    COUNT,
    st.lists(CHOICE, max_size=1).map(tuple),
    st.none() | TEXT,
    st.floats(0, 1),
    st.builds(Generated, TEXT, COUNT, st.booleans()),
)
OUTCOME = CHOSEN | WRITTEN


@given(st.lists(OUTCOME, max_size=6).map(tuple))
def test_outcomes_come_back_exactly_as_they_were_packed(outcomes: tuple[Outcome, ...]) -> None:
    assert unpack_outcomes(pack_outcomes(outcomes)) == outcomes


@given(st.lists(OUTCOME, min_size=1, max_size=3).map(tuple), st.data())
def test_bytes_that_are_cut_off_are_never_taken_for_outcomes(
    outcomes: tuple[Outcome, ...], data: st.DataObject
) -> None:
    packed = pack_outcomes(outcomes)
    cut = data.draw(st.integers(1, len(packed) - 1))
    try:
        found = unpack_outcomes(packed[:cut])
    except TelltaleError as problem:
        assert "damaged" in str(problem)
    else:
        assert found == outcomes[: len(found)]  # cut between two outcomes


def test_accuracy_is_the_mean_over_all_batches() -> None:
    path = LayerPath.whole(2)
    measured = [
        Measurement(batch, path, tuple(Outcome(i, (), 0, float(i == 0)) for i in batch.examples))
        for batch in (Batch((0, 1, 2)), Batch((3,)))
    ]
    assert accuracy(outcomes_by_path(measured)[path].values()) == 0.25


def test_a_batch_is_known_by_its_examples_and_splits_into_both_halves() -> None:
    batch = Batch((4, 1, 3))
    assert batch.id == Batch((4, 1, 3)).id != Batch((1, 3, 4)).id
    assert sum((half.examples for half in batch.halves()), ()) == batch.examples


def test_a_batch_keeps_its_block_and_is_not_known_by_it() -> None:
    batch = Batch((4, 1, 3), block=2)
    assert batch == Batch((4, 1, 3))
    assert (hash(batch), batch.id) == (hash(Batch((4, 1, 3))), Batch((4, 1, 3)).id)
    assert [one.block for one in (batch.shifted(5), *batch.halves())] == [2, 2, 2]
    assert Batch((4, 1, 3)).block == 0


def test_a_shifted_measure_measures_the_same_examples_by_other_positions() -> None:
    path = LayerPath.whole(2)

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for batch in batches:
            if len(batch.examples) > 2:
                raise BatchTooLargeError(batch, "cpu")
            yield Measurement(
                batch, path, tuple(Outcome(i, (), 0, float(i)) for i in batch.examples)
            )

    shifted = Shifted(measure, 10)
    (found,) = shifted([path], [Batch((11, 10))])
    assert found.batch == Batch((11, 10))
    assert [(one.example, one.score) for one in found.outcomes] == [(11, 1.0), (10, 0.0)]
    with pytest.raises(
        BatchTooLargeError, match="3 examples did not fit in the memory of cpu"
    ) as e:
        list(shifted([path], [Batch((10, 11, 12))]))
    assert e.value.batch == Batch((10, 11, 12))
