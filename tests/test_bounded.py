"""The bound of a mean of marks, against the exact one of 0 and 1, chance and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from telltale.evidence.bounded import lower_bound, p_value, sums_of


@pytest.mark.parametrize(("right", "total"), [(24, 30), (1, 20), (149, 150), (200, 400)])
def test_of_0_and_1_it_is_that_of_clopper_and_pearson(right: int, total: int) -> None:
    values = np.array([1.0] * right + [0.0] * (total - right))
    expected = beta.ppf(0.05, right, total - right + 1)
    assert lower_bound(values, np.arange(total), 0.0, 0.05) == pytest.approx(expected, abs=1e-6)


def test_the_integral_is_what_many_random_weights_give() -> None:
    source = np.random.default_rng(1)
    values = source.uniform(-1, 1, 30)
    for mean in (-0.2, 0.0, 0.1):
        weights = source.exponential(size=(400_000, 31))
        sums = weights @ np.append(values - mean, -1 - mean)
        alone = sums_of(values, np.arange(30))
        assert p_value(*alone, mean, -1.0) == pytest.approx((sums <= 0).mean(), abs=0.004)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 5))
def test_the_order_of_values_says_nothing_and_the_bound_is_below_the_mean(
    values: list[float], seed: int
) -> None:
    given_values = np.array(values)
    clusters = np.arange(len(values)) // 2
    order = np.random.default_rng(seed).permutation(len(values))
    found = lower_bound(given_values, clusters, 0.0, 0.05)
    assert found == lower_bound(given_values[order], clusters[order], 0.0, 0.05)
    assert 0 <= found <= given_values.mean() + 1e-9


def test_values_that_were_drawn_together_say_less() -> None:
    values = np.array([0.2, 0.4, 0.9, 1.0] * 10)
    apart, together = np.arange(40), np.arange(40) // 4
    alone = lower_bound(values, apart, 0.0, 0.05)
    assert lower_bound(values, together, 0.0, 0.05) < alone < values.mean()


@pytest.mark.parametrize(
    "share", [0.02, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.05, 0.1, 0.3))]
)
def test_it_holds_where_few_values_of_thirty_are_far_below_the_others(share: float) -> None:
    """Where an interval from the sample's variance misses the mean in two sets of five."""
    source = np.random.default_rng(2)
    marks, lost = 0.9 + 0.1 * source.random((250, 30)), source.random((250, 30)) < share
    values = np.where(lost, 0.0, marks)
    truth = 0.95 * (1 - share)
    apart = np.arange(30)
    held = np.mean([lower_bound(row, apart, 0.0, 0.05) <= truth for row in values])
    assert held >= 0.93
    spread = values.std(axis=1, ddof=1) / np.sqrt(30)
    plain = np.mean(values.mean(axis=1) - 1.645 * spread <= truth)
    assert plain < held
