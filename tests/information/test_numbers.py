"""Means of bits, correction for several tests, joint scores and predictions, against oracles."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from telltale.errors import InputError
from telltale.evidence.stats import holm
from telltale.information import joint_score, predictions
from telltale.information.means import mean_of

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)
NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=3, max_size=20)

# Holm


@given(P_VALUES)
def test_holm_is_closed_testing_by_bonferroni(p_values: list[float]) -> None:
    """The correction is the largest p-value of all sets of hypotheses that hold the one."""
    everything = range(len(p_values))
    sets = [s for size in everything for s in itertools.combinations(everything, size + 1)]
    expected = [
        max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if one in s)
        for one in everything
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


# Means of bits


def test_the_interval_is_nearly_half_again_as_wide_as_students() -> None:
    """Values found out of fold rest on the same examples: 1 + 5 / 4 = 1.5^2 (Nadeau, Bengio)."""
    values = np.random.default_rng(1).normal(0.3, 2, 900)
    found = mean_of(values.tolist(), list(range(900))).interval(0.95)
    expected = stats.t.interval(0.95, 899, values.mean(), 1.5 * stats.sem(values))
    assert tuple(found) == pytest.approx(expected, abs=1e-3)


def test_copies_in_a_cluster_count_once() -> None:
    values = np.random.default_rng(2).normal(0, 1, 100)
    alone = mean_of(values.tolist(), list(range(100)))
    copied = mean_of(np.repeat(values, 5).tolist(), [i // 5 for i in range(500)])
    assert copied.error == pytest.approx(alone.error, rel=0.02)
    assert copied.p_value == pytest.approx(alone.p_value, rel=0.05)


def test_values_that_are_all_alike_leave_some_doubt_that_more_of_them_take_away() -> None:
    few, many = (mean_of([1.0] * n, list(range(n))).interval(0.95) for n in (50, 5000))
    assert few.low < 0.96
    assert few.high > 1.04
    assert many.high - many.low < 0.003
    assert mean_of([0.0] * 50, list(range(50))).p_value == 1.0


def test_what_one_cluster_holds_nearly_alone_is_an_interval_of_finite_width() -> None:
    found = mean_of([1.0] * 300 + [0.5, 0.4, 0.3, 0.2], [0] * 300 + [1, 2, 3, 4])
    low, high = found.interval(0.95)
    assert math.isfinite(low)
    assert low < 0 < high
    assert found.p_value > 0.1


def test_the_p_value_is_below_5_percent_where_the_95_percent_interval_holds_no_0() -> None:
    source = np.random.default_rng(3)
    for shift in np.linspace(0, 1, 30):
        found = mean_of((source.normal(0, 2, 60) + shift).tolist(), list(range(60)))
        low, high = found.interval(0.95)
        assert (found.p_value <= 0.05) == (not low <= 0 <= high)


# The joint score


@given(NUMBERS, st.integers(0, 9))
def test_a_joint_score_is_the_mean_of_standard_ranks(values: list[float], seed: int) -> None:
    other = np.random.default_rng(seed).normal(size=len(values)).tolist()
    found = joint_score(values, other)
    expected = stats.zscore(stats.rankdata(other)) / 2
    if len(set(values)) > 1:
        expected = expected + stats.zscore(stats.rankdata(values)) / 2
    assert found == pytest.approx(expected)


def test_a_joint_score_goes_by_order_alone_and_higher_is_needed_more() -> None:
    change, taylor = [0.1, -0.2, 0.3, 0.0], [1.0, 0.5, 2.0, 0.7]
    assert joint_score(change, taylor) == joint_score(change, [math.exp(9 * t) for t in taylor])
    assert np.argsort(joint_score(change, taylor)).tolist() == [1, 3, 0, 2]


def test_constant_measures_give_zeros_and_unequal_ones_are_refused() -> None:
    assert joint_score([2.0] * 4, [0.0] * 4) == (0.0,) * 4
    assert joint_score([], []) == ()
    with pytest.raises(InputError, match="got 3 changes of information and 4 gradients"):
        joint_score([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(InputError, match="finite measures; leave out"):
        joint_score([1, math.nan], [1, 2])


# Predictions


def test_the_correlation_is_spearmans_and_the_p_value_that_of_all_orders() -> None:
    source = np.random.default_rng(4)
    truth = source.normal(size=6)
    for measure in (source.normal(size=6), truth + 0.5 * source.normal(size=6), np.ones(6)):
        measure[0] = measure[1]  # a tie
        found = predictions({"one": measure.tolist()}, truth.tolist())["one"]
        if (measure == 1).all():
            assert (found.rank_correlation, found.p_value) == (0.0, 1.0)
            continue
        assert found.rank_correlation == pytest.approx(stats.spearmanr(measure, truth).statistic)
        every = [
            abs(stats.spearmanr(measure, truth[list(order)]).statistic)
            for order in itertools.permutations(range(6))
        ]
        exact = np.mean(np.array(every) >= abs(found.rank_correlation) - 1e-9)
        assert found.p_value == pytest.approx(exact, abs=0.02)


def test_a_measure_that_ranks_as_the_truth_is_shown_to_among_several_and_noise_is_not() -> None:
    source = np.random.default_rng(5)
    truth = source.normal(size=30)
    noise = {f"noise {i}": source.normal(size=30).tolist() for i in range(8)}
    found = predictions(
        {"right": np.exp(truth).tolist(), "wrong": (-truth).tolist()} | noise, truth
    )
    assert found["right"].rank_correlation == pytest.approx(1)
    assert found["wrong"].rank_correlation == pytest.approx(-1)
    assert found["right"].corrected_p_value <= 10 * 1e-4 + 1e-12
    assert all(found[name].corrected_p_value > 0.05 for name in noise)
    p_values = [one.p_value for one in found.values()]
    assert [one.corrected_p_value for one in found.values()] == holm(p_values)


def test_layers_without_a_number_are_dropped() -> None:
    truth = [0.1, 0.5, None, 0.3, 0.2, math.nan, 0.9]
    measure = [1.0, 5.0, 7.0, 3.0, None, 0.0, 2.0]
    found = predictions({"one": measure}, truth)["one"]
    expected = stats.spearmanr([1, 5, 3, 2], [0.1, 0.5, 0.3, 0.9]).statistic
    assert found.rank_correlation == pytest.approx(expected)


@pytest.mark.parametrize(
    ("measure", "truth"),
    [([], []), ([1.0], [2.0]), ([1.0, 2.0, 3.0], [4.0] * 3), ([None] * 3, [1.0, 2.0, 3.0])],
)
def test_what_cannot_be_compared_predicts_nothing(measure: list[float], truth: list[float]) -> None:
    found = predictions({"one": measure}, truth)["one"]
    assert (found.rank_correlation, found.p_value, found.corrected_p_value) == (0.0, 1.0, 1.0)


def test_a_measure_of_other_layers_is_refused() -> None:
    with pytest.raises(InputError, match="the measure one is of 2 layers and the truth of 3"):
        predictions({"one": [1.0, 2.0]}, [1.0, 2.0, 3.0])


def test_noise_has_p_values_as_often_below_5_percent_as_it_should() -> None:
    source = np.random.default_rng(6)
    truth = source.normal(size=12).tolist()
    found = predictions({str(i): source.normal(size=12).tolist() for i in range(100)}, truth)
    share = np.mean([one.p_value <= 0.05 for one in found.values()])
    assert 0.01 <= share <= 0.1
