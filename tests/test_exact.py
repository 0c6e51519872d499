"""The exact test errs in no more studies than it says, whatever is true: by enumeration."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from telltale.evidence.exact import loses_at_most, p_value, statistic


def chance(total: int, loss: float, broken: float, level: float) -> float:
    """How often a model that loses so much is certified, by the sum over all outcomes."""
    shares = [broken - loss, broken, 1 - 2 * broken + loss]
    return float(
        sum(
            multinomial.pmf([m, b, total - m - b], total, shares)
            for m in range(total + 1)
            for b in range(total + 1 - m)
            if p_value(m, b, total, loss) <= level
        )
    )


@pytest.mark.parametrize("total", [20, 30, 41])
@pytest.mark.parametrize("loss", [0.03, 0.1, 0.0, -0.05])
def test_no_truth_makes_it_err_more_often_than_it_says(total: int, loss: float) -> None:
    low, high = max(loss, 0.0), (1 + loss) / 2
    truths = [low + (high - low) * i / 30 for i in range(31)]
    worst = max(chance(total, loss, truth, 0.05) for truth in truths)
    assert worst <= 0.05 + 1e-6


def test_it_is_no_more_careful_than_it_must_be() -> None:
    """Some truth makes it err nearly as often as it says."""
    truths = [0.03 + 0.485 * i / 20 for i in range(21)]
    assert max(chance(50, 0.03, truth, 0.05) for truth in truths) > 0.035


def test_against_the_normal_distribution_the_statistic_alone_errs_more_often() -> None:
    """Why there is an exact test: Tango's bound, as good as it is, lets 6% and more pass."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.95)
    total, loss = 30, 0.1
    passing = [
        (m, b)
        for m in range(total + 1)
        for b in range(total + 1 - m)
        if float(statistic(m, b, total, -loss)) >= z
    ]
    worst = max(
        sum(
            float(multinomial.pmf([m, b, total - m - b], total, [broken - loss, broken, rest]))
            for m, b in passing
        )
        for broken in [loss + (0.45 - 0.0) * i / 100 for i in range(101)]
        if (rest := 1 - 2 * broken + loss) >= 0
    )
    assert worst > 0.055


@given(st.integers(5, 80), st.data())
def test_the_bound_is_where_the_p_value_crosses_the_level(total: int, data: st.DataObject) -> None:
    mended = data.draw(st.integers(0, total))
    broken = data.draw(st.integers(0, total - mended))
    most = loses_at_most(mended, broken, total, 0.05)
    assert (broken - mended) / total <= most <= 1
    # A p-value may lie off its neighbours' where the loss is a whole number of examples.
    assert most == 1 or p_value(mended, broken, total, min(most + 1e-4, 1.0)) <= 0.06
    assert p_value(mended, broken, total, most - 1e-3) > 0.025


@given(st.integers(15, 60), st.data())
def test_a_larger_loss_is_less_in_keeping_with_what_was_seen(
    total: int, data: st.DataObject
) -> None:
    mended = data.draw(st.integers(0, total))
    broken = data.draw(st.integers(0, total - mended))
    found = [p_value(mended, broken, total, loss) for loss in (-0.3, -0.1, 0.0, 0.1, 0.3, 0.6)]
    # Where it says nothing, near 1, it need not fall.
    assert all(min(a, 0.5) >= min(b, 0.5) - 0.02 for a, b in pairwise(found))
    assert all(0 <= p <= 1 for p in found)


def test_where_nothing_differs_it_is_the_binomial_test() -> None:
    # No one of n broken: the loss q would show none with chance (1 - q)^n; of 150, 2% at 5%.
    for total in (30, 150, 400):
        most = loses_at_most(0, 0, total, 0.05)
        assert most >= 1 - 0.05 ** (1 / total) - 1e-6
        assert most <= 1.4 * (1 - 0.05 ** (1 / total))


def test_the_statistic_has_the_sign_of_the_gain_at_no_difference() -> None:
    assert float(statistic(12, 2, 50, 0.0)) == pytest.approx(10 / math.sqrt(14))  # McNemar's
    assert float(statistic(2, 12, 50, 0.0)) == pytest.approx(-10 / math.sqrt(14))
    assert float(statistic(3, 3, 50, 0.0)) == 0
