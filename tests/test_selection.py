"""What is said to be shown is, on made-up paths, what an independent reading of the rule says."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.evidence.comparison import Comparison, compare
from telltale.evidence.selection import FIRST_SHARE, Level, claims, passed_on, shares
from telltale.evidence.stats import Interval, Pairs
from telltale.measure import Outcome
from telltale.paths import LayerPath
from tests.rounds import found_by, in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.searches import Found

P_VALUES = st.lists(st.sampled_from([0.0011, 0.0041, 0.0107, 0.0213, 0.0457, 0.2]), max_size=7)


def searched_with(values: Sequence[float]) -> Found:
    whole = LayerPath.whole(len(values) + 1)
    return found_by(whole, 0.25, in_order(whole, range(len(values)), values))


def compared(mended: int, broken: int, total: int = 400) -> Comparison:
    """A model that mends and breaks so many answers."""
    whole = [1.0] * broken + [0.0] * (total - broken)
    other = [0.0] * broken + [1.0] * mended + [0.0] * (total - broken - mended)
    return compare(outcomes(whole), outcomes(other))


def outcomes(scores: Sequence[float]) -> dict[int, Outcome]:
    return {i: Outcome(i, (), 0, score) for i, score in enumerate(scores)}


def losing(most: float) -> Comparison:
    """On the search set only what is lost at most matters."""
    nothing = Interval(0.0, 1.0)
    return Comparison(0.5, nothing, 0.0, nothing, most, 100, Pairs(0.0, 100, 0, 0), {})


@given(P_VALUES, st.data())
def test_what_is_certified_is_what_a_closed_test_certifies(
    p_values: list[float], data: st.DataObject
) -> None:
    """The graph is a shortcut: a hypothesis falls if every intersection that has it does.

    In an intersection, each hypothesis has its own share and those of the ones before it, round to
    the last that is in the intersection too (Bretz et al. 2009, of a cycle).
    """
    count = len(p_values)
    parts = data.draw(st.sampled_from([shares(count), [1 / max(count, 1)] * count]))
    levels = passed_on(p_values, parts, 0.05)
    found = {i for i in range(count) if p_values[i] <= levels[i]}

    def refused(members: tuple[int, ...]) -> bool:
        weights = dict.fromkeys(members, 0.0)
        for i in range(count):
            heir = next(j for j in [*range(i, count), *range(i)] if j in weights)
            weights[heir] += parts[i]
        return any(p_values[i] <= weight * 0.05 for i, weight in weights.items())

    expected = {
        i
        for i in range(count)
        if all(
            refused(members)
            for size in range(1, count + 1)
            for members in itertools.combinations(range(count), size)
            if i in members
        )
    }
    assert found == expected


def test_shares_are_one_together_and_the_safest_has_the_most() -> None:
    assert shares(0) == []
    assert shares(1) == [1.0]
    for count in range(2, 9):
        assert sum(shares(count)) == pytest.approx(1)
        assert shares(count)[0] == FIRST_SHARE


def test_models_that_lose_too_much_are_certified_in_one_study_of_twenty_at_most() -> None:
    source = random.Random(1)
    wrong = 0
    for _ in range(4000):
        together = source.random()  # p-values may depend on each other
        p_values = [
            together if source.random() < 0.5 else source.random()
            for _ in range(source.randint(1, 8))
        ]
        levels = passed_on(p_values, shares(len(p_values)), 0.05)
        wrong += any(p <= level for p, level in zip(p_values, levels, strict=True))
    assert wrong / 4000 < 0.06


def test_models_are_asked_about_the_safest_on_the_search_set_first() -> None:
    found = searched_with([0.3, 0.4, 0.3, 0.1])
    bounds = [0.0, 0.04, 0.02, 0.02, 0.05]
    searched = {m.path: losing(b) for m, b in zip(found.kept, bounds, strict=True)}
    held_out = {model.path: compared(0, 0) for model in found.kept}
    said = claims(found, searched, held_out, 0.03, Level(0.05))
    assert [len(one.model.removed) for one in said.asked] == [3, 2, 1, 4]


def test_one_failure_does_not_end_the_asking() -> None:
    """As on SST-2: the model asked about first fails, and others are safe all the same."""
    found = searched_with([0.3] * 4)
    searched = {m.path: losing(b) for m, b in zip(found.kept, [0, 4, 3, 2, 1], strict=True)}
    held_out = {
        model.path: compared(30, 34) if len(model.removed) == 4 else compared(3, 1)
        for model in found.kept
    }
    said = claims(found, searched, held_out, 0.03, Level(0.05))
    assert [one.certified for one in said.asked] == [False, True, True, True]
    assert said.fastest_safe is not None
    assert len(said.fastest_safe.removed) == 3


def test_best_is_confirmed_where_its_interval_is_above_zero() -> None:
    found = searched_with([0.4, 0.3])
    for mended, broken, shown in ((40, 10, True), (20, 12, False), (10, 40, False)):
        held_out = {model.path: compared(mended, broken) for model in found.kept}
        said = claims(found, held_out, held_out, 0.03, Level(0.05))
        assert (said.confirmed_best is not None) == shown
        assert (held_out[found.best.path].gain_interval.low > 0) == shown
    # Another model's gain says nothing of BEST's.
    others = {model.path: compared(40, 10) for model in found.kept}
    others[found.best.path] = compared(10, 40)
    assert claims(found, others, others, 0.03, Level(0.05)).confirmed_best is None


def test_the_whole_model_gains_nothing_over_itself() -> None:
    found = searched_with([0.2])  # less accurate than the whole model's 0.25
    held_out = {model.path: compared(40, 10) for model in found.kept}
    assert found.best.removed == ()
    assert claims(found, held_out, held_out, 0.03, Level(0.05)).confirmed_best is None


def test_looks_before_make_claims_harder_and_never_more_than_their_sum() -> None:
    levels = [Level.after(looks, 0.05) for looks in range(1000)]
    assert levels[0].safety == 0.05
    assert levels[0].gain == 0.025
    assert all(a.safety > b.safety for a, b in itertools.pairwise(levels))
    assert sum(level.gain for level in levels) < 0.05
    found = searched_with([0.4])
    held_out = {model.path: compared(24, 8) for model in found.kept}
    shown = [
        claims(found, held_out, held_out, 0.03, Level.after(looks, 0.05)).confirmed_best is not None
        for looks in (0, 9)
    ]
    assert shown == [True, False]
