"""Intervals against published values, their definitions and simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.stats import Z_95, paired_gain, tango, wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_published_values(
    successes: int, total: int, low: float, high: float
) -> None:
    assert wilson(successes, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_bounds_are_where_the_score_test_turns(total: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, total))
    share = successes / total
    low, high = wilson(successes, total)
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            spread = math.sqrt(bound * (1 - bound) / total)
            assert abs(share - bound) / spread == pytest.approx(Z_95, rel=1e-6)


def constrained_score(mended: int, broken: int, total: int, difference: float) -> float:
    """Tango's statistic with the likelihood maximised by search instead of by formula."""

    def loglik(share: float) -> float:  # share of broken pairs; mended is share + difference
        same = 1 - 2 * share - difference
        terms = [(mended, share + difference), (broken, share), (total - mended - broken, same)]
        return sum(n * math.log(p) if p > 0 else -math.inf for n, p in terms if n)

    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (a, high) if loglik(a) < loglik(b) else (low, b)
    share = (low + high) / 2
    variance = 2 * share + difference - difference**2
    return (mended - broken - total * difference) / math.sqrt(total * variance)


@pytest.mark.parametrize(
    ("mended", "broken", "total"), [(12, 2, 50), (1, 0, 44), (5, 5, 40), (30, 9, 400), (0, 7, 98)]
)
def test_tango_bounds_are_where_the_score_test_turns(mended: int, broken: int, total: int) -> None:
    low, high = tango(mended, broken, total)
    assert low < (mended - broken) / total < high
    assert constrained_score(mended, broken, total, low) == pytest.approx(Z_95, abs=1e-3)
    assert constrained_score(mended, broken, total, high) == pytest.approx(-Z_95, abs=1e-3)


@given(st.integers(1, 300), st.data())
def test_tango_is_symmetric_and_holds_the_gain(total: int, data: st.DataObject) -> None:
    mended = data.draw(st.integers(0, total))
    broken = data.draw(st.integers(0, total - mended))
    low, high = tango(mended, broken, total)
    assert -1 <= low <= (mended - broken) / total <= high <= 1
    assert tango(broken, mended, total) == pytest.approx((-high, -low), abs=1e-9)


def test_no_differing_example_still_leaves_doubt_that_shrinks_with_the_examples() -> None:
    gain, few = paired_gain([1, 0] * 20, [1, 0] * 20)
    _, many = paired_gain([1, 0] * 500, [1, 0] * 500)
    assert gain == 0
    assert few.low == pytest.approx(-few.high)
    assert 0.05 < few.high < 0.1
    assert 0 < many.high < 0.01


@pytest.mark.parametrize(("mended", "broken"), [(0.08, 0.05), (0.02, 0.01), (0.2, 0.05)])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(
    mended: float, broken: float
) -> None:
    source = random.Random(5)
    covered = 0
    for _ in range(1500):
        draws = [source.random() for _ in range(100)]
        b = sum(d < mended for d in draws)
        c = sum(mended <= d < mended + broken for d in draws)
        low, high = tango(b, c, 100)
        covered += low <= mended - broken <= high
    assert 0.93 <= covered / 1500 <= 0.985
