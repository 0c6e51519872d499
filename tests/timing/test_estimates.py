"""Medians of timings: their interval holds what it says, and ratios are taken by pairs."""

from __future__ import annotations

from itertools import product
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.timing.estimates import LEAST_REPEATS, median_of, ratio_of

SECONDS = st.floats(0.001, 1000)


def coverage(count: int, low: int, high: int) -> float:
    """How often, of all falls of a coin a value, low and high lie on both sides of the median."""
    falls = list(product([0, 1], repeat=count))
    return sum(low < sum(below) <= high for below in falls) / len(falls)


@pytest.mark.parametrize("count", [6, 7, 8, 9, 12, 15])
def test_the_interval_is_the_narrowest_of_ranks_that_holds_95_percent(count: int) -> None:
    found = median_of([float(rank) for rank in range(count)])
    low, high = int(found.low), int(found.high)
    assert low + high == count - 1
    assert coverage(count, low, high) >= 0.95
    assert coverage(count, low + 1, high - 1) < 0.95


def test_known_ranks() -> None:
    ranks = {count: int(median_of(list(map(float, range(count)))).low) for count in (6, 9, 20, 30)}
    assert ranks == {6: 0, 9: 1, 20: 5, 30: 9}  # 1st, 2nd, 6th and 10th, as tables have them


def test_fewer_repeats_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 values are too few"):
        median_of([1.0] * (LEAST_REPEATS - 1))


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=6, max_size=20), st.randoms())
def test_order_changes_nothing_and_the_median_lies_within(
    pairs: list[tuple[float, float]], random: object
) -> None:
    one, other = zip(*pairs, strict=True)
    found = median_of(one)
    assert found.low <= found.value == median(one) <= found.high
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert ratio_of(one, other) == ratio_of(*zip(*pairs, strict=True))


@given(st.lists(st.integers(1, 2**20), min_size=6, max_size=20))
def test_a_machine_that_is_slow_for_a_while_changes_no_ratio(slowness: list[int]) -> None:
    found = ratio_of([3.0 * one for one in slowness], [2.0 * one for one in slowness])
    assert found == (1.5, 1.5, 1.5)
