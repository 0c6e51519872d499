"""What a layer adds or suppresses, paired by example; and that many layers find nothing in none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from telltale.information import Estimate, change, changes, estimate

CLUSTERS = np.arange(150)


def made(pointwise: np.ndarray, null: float = 0.0) -> Estimate:
    return Estimate(float(pointwise.mean()), (-1.0, 1.0), null, pointwise)


def test_a_change_is_the_mean_of_paired_differences() -> None:
    source = np.random.default_rng(1)
    before = source.normal(0.5, 3, 150)  # examples differ by far more than the change
    gain = source.normal(0.2, 0.3, 150)
    found = change(made(before, -0.01), made(before + gain, 0.02), CLUSTERS)
    assert found.bits == pytest.approx(gain.mean())
    assert found.null == pytest.approx(0.03)
    expected = stats.t.interval(0.95, 149, gain.mean(), 1.5 * stats.sem(gain))
    assert found.interval == pytest.approx(expected, abs=0.01)
    assert found.verdict == "adds"


def test_the_way_back_is_the_opposite() -> None:
    source = np.random.default_rng(2)
    one, other = made(source.normal(0, 1, 150)), made(source.normal(1, 1, 150))
    there, back = change(one, other, CLUSTERS), change(other, one, CLUSTERS)
    assert (there.verdict, back.verdict) == ("adds", "suppresses")
    assert back.bits == pytest.approx(-there.bits)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_the_same_state_has_no_change() -> None:
    one = made(np.random.default_rng(3).normal(0, 1, 150))
    found = change(one, one, CLUSTERS)
    assert (found.bits, found.null, found.verdict) == (0.0, 0.0, "cannot tell")
    assert found.interval[0] < 0 < found.interval[1]


def test_clusters_and_a_higher_level_ask_for_more() -> None:
    gain = np.tile(np.random.default_rng(4).normal(0, 1, 30), 5)
    gain += 0.35 - gain.mean()
    before, after = made(np.zeros(150)), made(gain)
    assert change(before, after, CLUSTERS).verdict == "adds"
    assert change(before, after, CLUSTERS % 30).verdict == "cannot tell"
    assert change(before, after, CLUSTERS, level=0.99999).verdict == "cannot tell"


def test_verdicts_are_corrected_for_the_number_of_layers_and_intervals_are_not() -> None:
    source = np.random.default_rng(5)
    states = [np.zeros(150)]
    for layer in range(30):
        gain = source.normal(0, 1, 150)
        gain += {3: 0.3, 9: -0.8}.get(layer, 0.0) - gain.mean()
        states.append(states[-1] + gain)
    found = changes([made(one) for one in states], CLUSTERS)
    assert len(found) == 30
    assert found[9].verdict == "suppresses"
    assert {one.verdict for layer, one in enumerate(found) if layer != 9} == {"cannot tell"}
    alone = change(made(states[3]), made(states[4]), CLUSTERS)
    assert alone.verdict == "adds"
    assert alone.interval == found[3].interval
    assert found[3].interval[0] > 0
    assert changes([made(states[3]), made(states[4])], CLUSTERS) == (alone,)
    assert changes([made(states[0])], CLUSTERS) == ()


def test_where_nothing_changes_thirty_layers_have_a_verdict_in_few_sets() -> None:
    source = np.random.default_rng(6)
    wrong = 0
    for _ in range(60):
        states = [made(source.normal(0, 1, 150)) for _ in range(31)]
        wrong += any(one.verdict != "cannot tell" for one in changes(states, CLUSTERS))
    assert wrong <= 7  # 5% of 60 are 3; more than 7 are seen once in a hundred times


def test_of_estimates_what_is_lost_is_suppressed_and_what_comes_back_is_added() -> None:
    source = np.random.default_rng(7)
    answers = source.integers(2, size=150)
    signal = 2.5 * answers[:, None] + source.normal(size=(150, 1))
    turn = source.normal(size=(1, 20))
    around = 0.1 * source.normal(size=(150, 20))
    known, unknown = signal @ turn + around, source.normal(size=(150, 1)) @ turn + around
    for estimator in ("probe", "neighbours"):
        some, none = (
            estimate(one, answers, CLUSTERS, estimator=estimator) for one in (known, unknown)
        )
        found = changes([some, some, none, some], CLUSTERS)
        assert [one.verdict for one in found] == ["cannot tell", "suppresses", "adds"]
