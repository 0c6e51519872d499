"""Intervals against published values, their definitions and simulation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.stats import (
    Interval,
    Pairs,
    design_effect,
    gain_interval,
    loses_at_most,
    one_sided,
    pairs,
    two_sided,
    wilson,
)

Z_95 = 1.959963984540054  # the 97.5% point of the normal distribution, from tables


def tango(mended: int, broken: int, total: int) -> Interval:
    gain = (mended - broken) / total
    return gain_interval(Pairs(gain, total, mended + broken, 1.0, mended, broken))


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
        variance = bound * (1 - bound) / total
        assert (share - bound) ** 2 == pytest.approx(Z_95**2 * variance, rel=1e-6, abs=1e-12)


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
    found = pairs([1, 0] * 20, [1, 0] * 20)
    few = gain_interval(found)
    many = gain_interval(pairs([1, 0] * 500, [1, 0] * 500))
    assert found.gain == 0
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


def test_the_quantiles_are_those_of_tables() -> None:
    assert two_sided(0.95) == pytest.approx(Z_95, abs=1e-12)
    assert one_sided(0.95) == pytest.approx(1.6448536269514722, abs=1e-12)


@given(st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]), min_size=1, max_size=200))
def test_a_loss_bound_is_where_a_wider_intervals_low_end_is(scores: list[tuple[int, int]]) -> None:
    found = pairs([before for before, _ in scores], [after for _, after in scores])
    # One side of 95% is both sides of 90%.
    assert -loses_at_most(found) == pytest.approx(gain_interval(found, 0.9).low, abs=1e-9)
    assert gain_interval(found, 0.99).low <= gain_interval(found, 0.9).low


SCORES = st.lists(
    st.tuples(st.floats(0, 1, allow_nan=False), st.floats(0, 1, allow_nan=False)),
    min_size=2,
    max_size=60,
)


@given(SCORES)
def test_scores_between_0_and_1_have_an_interval_that_holds_their_gain(
    scores: list[tuple[float, float]],
) -> None:
    before, after = [b for b, _ in scores], [a for _, a in scores]
    found = pairs(before, after)
    low, high = gain_interval(found)
    assert -1 <= low <= high <= 1
    assert low <= found.gain * found.total / (found.total + 2) <= high
    back = gain_interval(pairs(after, before))
    assert back == pytest.approx((-high, -low), abs=1e-9)


def test_graded_scores_are_covered_as_often_as_it_says() -> None:
    source = random.Random(3)
    covered = 0
    for _ in range(1500):
        before = [source.choice([0.0, 0.25, 1.0]) for _ in range(80)]
        after = [source.choice([0.0, 0.5, 1.0]) if source.random() < 0.2 else one for one in before]
        low, high = gain_interval(pairs(before, after))
        truth = 0.2 * (0.5 - 1.25 / 3)
        covered += low <= truth <= high
    assert 0.935 <= covered / 1500 <= 0.975


def test_whole_scores_are_not_taken_for_graded_ones() -> None:
    assert pairs([0, 1.0], [1.0, 1.0]).mended == 1
    assert pairs([0, 1.0], [0.5, 1.0]).mended is None


def test_examples_that_share_a_passage_make_intervals_wider_as_their_effect_says() -> None:
    source = random.Random(8)
    covered = {True: 0, False: 0}
    for _ in range(600):
        before, after, clusters = [], [], []
        for cluster in range(60):
            changed = source.random()  # of a passage's questions, most change or few do
            gains = changed < 0.25
            for _ in range(5):
                flips = source.random() < (0.8 if gains else 0.05)
                was = source.random() < 0.5
                before.append(float(was))
                after.append(float(not was) if flips and not was else float(was))
                clusters.append(cluster)
        truth = 0.5 * (0.25 * 0.8 + 0.75 * 0.05)
        for minds, given_clusters in ((True, clusters), (False, None)):
            low, high = gain_interval(pairs(before, after, given_clusters))
            covered[minds] += low <= truth <= high
    assert covered[True] / 600 >= 0.93
    assert covered[False] / 600 < 0.9


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=40), st.data())
def test_a_design_effect_is_at_least_1_and_1_where_nothing_is_shared(
    values: list[float], data: st.DataObject
) -> None:
    clusters = data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    assert design_effect(values, None) == design_effect(values, list(range(len(values)))) == 1
    assert design_effect(values, clusters) >= 1


def test_copies_of_an_example_count_once() -> None:
    once = [1.0, 0.0, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0]
    copied = [value for value in once for _ in range(4)]
    clusters = [index for index in range(len(once)) for _ in range(4)]
    # Four copies of each carry what each alone does, with one degree of freedom less.
    assert design_effect(copied, clusters) == pytest.approx(4 * 8 / 7)
