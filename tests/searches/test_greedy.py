"""Greedy removal is the method as written."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from telltale.errors import InputError
from telltale.measure import Measurement, Outcome
from telltale.paths import LayerPath
from telltale.searches import GreedyRemoval, Removal, Round, greedy
from telltale.tasks import split
from tests.searches.properties import (
    BATCHES,
    check_elimination,
    check_search,
    check_search_by_value,
    check_split,
    measure_of,
    random_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telltale.measure import Batch


def test_order_best_and_bsba_equal_an_independent_rewriting() -> None:
    check_search(greedy)


def test_the_order_by_another_value_and_with_a_guard_equals_an_independent_rewriting() -> None:
    check_search_by_value(greedy)


def test_exact_elimination_changes_no_removal_and_nothing_of_what_is_kept() -> None:
    check_elimination(greedy)


def test_batches_come_first_that_are_the_hardest_for_the_parent() -> None:
    """The whole model fails at the first batch, and without layer 2 at the second."""
    asked: list[tuple[list[LayerPath], list[Batch]]] = []

    def measure(paths: list[LayerPath], batches: list[Batch]) -> Iterator[Measurement]:
        asked.append((list(paths), list(batches)))
        for batch, path in product(batches, paths):
            right = (batch == BATCHES[0]) == (2 in path.removed) and 0 not in path.removed
            outcomes = tuple(Outcome(one, (), "", float(right)) for one in batch.examples)
            yield Measurement(batch, path, outcomes)

    search = GreedyRemoval(tolerance=1.0, highest=1.0, max_removed=2, protected=frozenset({1}))
    found = search(measure, BATCHES, LayerPath.whole(4))
    assert [done.kept[0].removed for done in found.rounds] == [(2,), (2, 3)]
    first_asked = [
        batches[0]
        for count in (1, 2)
        for paths, batches in [next(one for one in asked if len(one[0][0].removed) == count)]
    ]
    assert first_asked == BATCHES


def test_the_two_sets_never_share_a_context_or_a_passage() -> None:
    check_split(split)


def test_protected_layers_stay() -> None:
    table = random_table(3, 7)
    search = GreedyRemoval(tolerance=1.0, protected=frozenset({0, 4}))
    found = search(measure_of(table), BATCHES, LayerPath.whole(7))
    assert set(found.kept[-1].removed) == {1, 2, 3, 5, 6}
    tried = [one for done in found.rounds for one in done.tried.values()]
    assert all({0, 4}.isdisjoint(one.left_out) for one in tried)


def test_one_layer_is_left_at_the_least() -> None:
    found = GreedyRemoval(tolerance=1.0)(
        measure_of(random_table(1, 5)), BATCHES, LayerPath.whole(5)
    )
    assert found.kept[-1].path.depth == 1


def test_a_rejected_round_is_told_of_and_not_kept() -> None:
    from fractions import Fraction

    def falling(gone: frozenset[int]) -> Fraction:
        return Fraction(16 - 4 * len(gone), 20)

    seen: list[Round] = []
    found = GreedyRemoval(tolerance=0.2)(
        measure_of(falling), BATCHES, LayerPath.whole(4), seen.append
    )
    rounds = [(done.first.left_out, done.accepted) for done in found.rounds]
    assert rounds == [((0,), True), ((1,), False)]
    assert seen == list(found.rounds)
    assert found.kept[-1].removed == (0,)
    assert found.best.removed == found.bsba.removed == ()


@pytest.mark.parametrize("tolerance", [-0.1, 1.1, float("nan")])
def test_a_tolerance_outside_0_to_1_is_refused(tolerance: float) -> None:
    with pytest.raises(InputError, match=r"`tolerance` must be in \[0, 1\]"):
        GreedyRemoval(tolerance=tolerance)


def test_a_round_without_a_candidate_is_refused() -> None:
    with pytest.raises(InputError, match="has no candidate; end the search"):
        Round({}, ())


def test_a_maximum_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="`max_removed`"):
        GreedyRemoval(max_removed=0)


def test_rounds_tell_for_a_release_what_they_told_by_layer() -> None:
    (done,) = GreedyRemoval(tolerance=1.0, max_removed=1, admits=lambda path: 2 in path.kept)(
        measure_of(random_table(1, 4)), BATCHES, LayerPath.whole(4)
    ).rounds
    with pytest.warns(DeprecationWarning, match=r"Round\.removed goes in telltale 0\.2"):
        assert (done.removed,) == done.first.left_out
    with pytest.warns(DeprecationWarning, match=r"use Round\.tried"):
        assert done.candidates == {one.left_out[0]: one.accuracy for one in done.tried.values()}
    with pytest.warns(DeprecationWarning, match=r"use Round\.tried"):
        assert sorted(done.values) == [0, 1, 2, 3]
    with pytest.warns(DeprecationWarning, match=r"use Round\.refused"):
        assert set(done.guarded) <= {2}


def test_a_search_that_was_written_by_layer_works_for_a_release() -> None:
    start, rounds = LayerPath.whole(4), []
    for layer, accuracy in ((2, 0.75), (0, 0.75), (1, 0.25)):
        with pytest.warns(DeprecationWarning, match="rounds by layer go in telltale"):
            rounds.append(Round(layer, accuracy > 0.5, {layer: accuracy}, {layer: -accuracy}))  # type: ignore[arg-type, call-arg]
    assert [(done.removed, done.accepted) for done in rounds] == [(2, True), (0, True), (1, False)]
    with pytest.warns(DeprecationWarning, match="Removal goes in telltale"):
        found = Removal(start, 0.75, -0.75, rounds)
    assert [model.removed for model in found.kept] == [(), (2,), (2, 0)]
    assert found.best.removed == ()
    assert found.bsba.removed == (2, 0)
    assert (found.baseline, found.baseline_value) == (0.75, -0.75)
