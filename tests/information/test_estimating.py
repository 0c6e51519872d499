"""Estimates of information: known truth, invariances, clusters, and what is refused."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from telltale.errors import InputError
from telltale.information import estimate, estimating
from telltale.information.estimating import ESTIMATORS, check_examples, entropy
from telltale.information.mixing import Fold, best_weight, bits, prior_of, weights
from telltale.information.neighbours import predicted

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOTH = pytest.mark.parametrize("estimator", sorted(ESTIMATORS))


def told_apart(
    examples: int = 80, width: int = 12, apart: float = 2.0, classes: int = 2, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Classes whose means differ along the first dimension, and little beside it."""
    source = np.random.default_rng(seed)
    answers = source.integers(classes, size=examples)
    states = 0.1 * source.normal(size=(examples, width))
    states[:, :8] += (apart * answers + source.normal(size=examples))[:, None]
    return states, answers


# Invariances


@BOTH
def test_the_order_of_examples_says_nothing(estimator: str) -> None:
    states, answers = told_apart()
    clusters = np.random.default_rng(1).permutation(80)
    order = np.random.default_rng(2).permutation(80)
    found = estimate(states, answers, clusters, estimator=estimator)
    other = estimate(states[order], answers[order], clusters[order], estimator=estimator)
    assert other.pointwise == pytest.approx(found.pointwise[order], abs=1e-6)
    assert (other.bits, other.null) == pytest.approx((found.bits, found.null), abs=1e-6)
    assert other.interval == pytest.approx(found.interval, abs=1e-6)
    assert found.bits > 0.3


@BOTH
def test_what_answers_and_clusters_are_called_says_nothing(estimator: str) -> None:
    states, answers = told_apart()
    clusters = np.arange(80) // 2
    found = estimate(states, answers, clusters, estimator=estimator)
    renamed = estimate(states, np.array([700, -3])[answers], 5 * clusters - 9, estimator=estimator)
    assert renamed.pointwise == pytest.approx(found.pointwise, abs=1e-6)
    assert renamed.null == pytest.approx(found.null, abs=1e-6)


@BOTH
def test_the_size_and_the_place_of_a_dimension_say_nothing(estimator: str) -> None:
    states, answers = told_apart()
    source = np.random.default_rng(3)
    moved = states * np.exp(source.normal(0, 3, 12)) + source.normal(0, 9, 12)
    found, other = (
        estimate(one, answers, np.arange(80), estimator=estimator) for one in (states, moved)
    )
    assert other.bits == pytest.approx(found.bits, abs=1e-3)


def test_the_same_seed_gives_the_same_and_another_other_folds() -> None:
    states, answers = told_apart()
    one, same, other = (
        estimate(states, answers, np.arange(80), seed=seed, estimator="neighbours")
        for seed in (1, 1, 2)
    )
    assert (one.pointwise == same.pointwise).all()
    assert one.bits != other.bits


# Bounds


@BOTH
def test_what_answers_say_for_certain_is_their_entropy_and_never_more(estimator: str) -> None:
    source = np.random.default_rng(4)
    answers = source.choice(3, size=100, p=[0.5, 0.3, 0.2])
    states = np.eye(3)[answers] @ source.normal(size=(3, 30))
    found = estimate(states, answers, np.arange(100), estimator=estimator)
    assert entropy(answers) - 0.05 < found.bits <= entropy(answers)


def test_what_a_fold_finds_surprising_is_no_more_than_the_entropy() -> None:
    """Nearly all of one answer are in one cluster, and where it is left out they seem rare."""
    sizes = [30, 1, 1, 1, 1] + [10] * 5
    clusters = np.repeat(np.arange(10), sizes)
    answers = (clusters >= 5).astype(np.int64)
    states = np.eye(2)[answers] + 0.01 * np.random.default_rng(9).normal(size=(84, 2))
    found = estimate(states, answers, clusters, estimator="neighbours")
    assert found.pointwise.mean() > entropy(answers)
    assert found.bits == entropy(answers) < found.interval[1]


def test_an_estimate_may_be_below_0_but_its_interval_ends_at_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def guessed(fold: Fold, states: NDArray[Any], _: object) -> tuple[NDArray[Any], float]:
        return np.tile([1.0, 0.0], (len(states), 1)), 0.9

    monkeypatch.setitem(ESTIMATORS, "guessed", guessed)  # type: ignore[arg-type]
    found = estimate(*told_apart(200), np.arange(200), estimator="guessed")
    assert found.bits < -0.5
    assert found.interval[0] < found.bits
    assert found.interval[1] == 0


@BOTH
@pytest.mark.parametrize("value", [0.0, 0.1, 3e38])
def test_a_state_that_is_always_the_same_says_nothing(estimator: str, value: float) -> None:
    _, answers = told_apart()
    states = np.full((80, 6), value, dtype=np.float32)
    found = estimate(states, answers, np.arange(80), estimator=estimator)
    assert (found.bits, found.null) == (0, 0)
    assert (found.pointwise == 0).all()
    assert found.interval[0] < 0 < found.interval[1]


def test_states_of_any_size_and_precision_are_read() -> None:
    states, answers = told_apart()
    found = [
        estimate(one, answers, np.arange(80), estimator="neighbours").bits
        for one in (states, states * 1e250, (8 * states).astype(np.float16), states * 1e-300)
    ]
    assert found == pytest.approx([found[0]] * 4, abs=0.02)


def test_pointwise_cannot_be_changed_nor_the_estimate() -> None:
    found = estimate(*told_apart(), np.arange(80), estimator="neighbours")
    with pytest.raises(ValueError, match="read-only"):
        found.pointwise[0] = 1
    with pytest.raises(FrozenInstanceError):
        found.bits = 1.0  # type: ignore[misc]
    assert found.bits == pytest.approx(found.pointwise.mean())


# Clusters


@BOTH
def test_copies_of_an_example_in_its_cluster_say_nothing_of_it(estimator: str) -> None:
    """Noise, each example four times: ignoring the clusters, its copies would tell the answer."""
    source = np.random.default_rng(5)
    answers, states = source.integers(2, size=50), source.normal(size=(50, 30))
    copied, right = np.repeat(states, 4, axis=0), np.repeat(answers, 4)
    found = estimate(copied, right, np.arange(200) // 4, estimator=estimator)
    ignoring = estimate(copied, right, np.arange(200), estimator=estimator)
    assert found.bits < 0.05
    assert found.interval[0] < 0 < found.interval[1]
    assert ignoring.bits > 0.5
    assert ignoring.interval[0] > 0.4


def test_clusters_widen_the_interval() -> None:
    states, answers = told_apart(100)
    alone = estimate(states, answers, np.arange(100), estimator="neighbours")
    copied = estimate(
        np.repeat(states, 3, axis=0),
        np.repeat(answers, 3),
        np.arange(300) // 3,
        estimator="neighbours",
    )
    widths = [high - low for low, high in (alone.interval, copied.interval)]
    assert widths[1] == pytest.approx(widths[0], rel=0.3)


# Parts


def test_bits_are_those_of_the_mixed_probability() -> None:
    right, prior = np.array([0.9, 0.0, 0.3]), np.array([0.5, 0.2, 0.3])
    expected = np.log2((0.8 * right + 0.2 * prior) / prior)
    assert bits(right, prior, 0.8)[:, 0] == pytest.approx(expected)
    assert (bits(right, prior, 0.0) == 0).all()


def test_the_weight_is_the_best_that_is_tried_and_no_surer_than_the_examples() -> None:
    prior = np.full(100, 0.5)
    assert best_weight(np.ones(100), prior)[0] == weights(100).max() == pytest.approx(0.99)
    assert best_weight(np.zeros(100), prior) == (0.0, 0.0)
    right = np.where(np.arange(100) < 75, 1.0, 0.0)
    # Of answers that are right in three of four, half the way to the prior is the truth.
    assert best_weight(right, prior)[0] == pytest.approx(0.5)


def test_no_answer_is_impossible() -> None:
    assert prior_of(np.array([0, 0, 1]), 3) == pytest.approx([2.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5])


def test_neighbours_are_those_found_one_by_one() -> None:
    source = np.random.default_rng(6)
    answers = source.integers(3, size=60)
    states = source.normal(size=(60, 5)) + 2 * answers[:, None]
    others = source.normal(size=(20, 5)) + 2 * source.integers(3, size=20)[:, None]
    fold = Fold(states, answers, np.arange(60), prior_of(answers, 3))
    shares, weight = predicted(fold, others, source)
    assert weight > 0
    tried = []
    for components in (1, 2, 4, 5):
        for count in (4, 8, 16):
            expected = np.array([
                [
                    sum(answers[i] == answer for i in nearest) / count
                    for answer in range(3)
                ]
                for one in others
                for nearest in [
                    sorted(
                        range(60),
                        key=lambda i, one=one, n=components: math.dist(one[:n], states[i][:n]),
                    )[:count]
                ]
            ])  # fmt: skip
            tried.append(np.abs(shares - expected).max() < 1e-12)
    assert any(tried)


# Refusals


def test_what_is_not_finite_is_refused() -> None:
    states, answers = told_apart()
    for bad in (math.nan, math.inf):
        spoilt = states.copy()
        spoilt[7, 3] = spoilt[9, 0] = bad
        with pytest.raises(InputError, match=r"2 of 80 examples hold NaN .* example 7; .* float32"):
            estimate(spoilt, answers, np.arange(80))


def test_one_answer_is_refused() -> None:
    states, _ = told_apart()
    with pytest.raises(InputError, match=r"all 80 right answers are 4, .* two different answers"):
        estimate(states, np.full(80, 4), np.arange(80))


def test_fewer_clusters_than_folds_are_refused_and_as_many_are_not() -> None:
    states, answers = told_apart()
    with pytest.raises(InputError, match=r"80 examples in 4 clusters are too few .* 5 clusters"):
        estimate(states, answers, np.arange(80) % 4)
    check_examples(answers, np.arange(80) % 5)
    check_examples(np.arange(10) % 2, np.arange(10))
    with pytest.raises(InputError, match="3 examples in 3 clusters"):
        check_examples(np.array([0, 1, 0]), np.arange(3))


def test_an_answer_that_is_too_rare_is_named() -> None:
    answers = np.array([0] * 20 + [1] * 20 + [5] * 4)
    with pytest.raises(
        InputError, match=r"right answer 5 has 4 examples, in 4 clusters, .* 3 answ"
    ):
        check_examples(answers, np.arange(44))
    check_examples(np.append(answers, 5), np.arange(45))
    with pytest.raises(InputError, match="right answer 1 has 20 examples, in 1 clusters"):
        check_examples(answers[:40], np.append(np.arange(20), [99] * 20))


def test_five_clusters_of_two_examples_are_read_without_a_warning() -> None:
    """The fewest there may be; inner folds then lack an answer, or hold one alone."""
    source = np.random.default_rng(7)
    for estimator in ESTIMATORS:
        found = estimate(
            source.normal(size=(10, 4)),
            np.arange(10) % 2,
            np.arange(10) // 2,
            estimator=estimator,
        )
        assert np.isfinite([found.bits, found.null, *found.interval]).all()


def test_clusters_of_one_answer_each_are_read_without_a_warning() -> None:
    source = np.random.default_rng(8)
    clusters = np.arange(50) // 5
    for estimator in ESTIMATORS:
        found = estimate(source.normal(size=(50, 4)), clusters % 2, clusters, estimator=estimator)
        assert np.isfinite([found.bits, found.null, *found.interval]).all()
        assert found.interval[0] < 0.1


def test_another_estimator_is_refused() -> None:
    with pytest.raises(InputError, match="an estimator must be probe or neighbours, got 'knn'"):
        estimate(*told_apart(), np.arange(80), estimator="knn")


def test_the_extra_is_named_where_scikit_learn_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        estimating.importlib.util,
        "find_spec",
        lambda name: None if name == "sklearn" else real(name),
    )
    with pytest.raises(InputError, match=r"pip install 'telltale-llm\[explain\]'"):
        estimate(*told_apart(), np.arange(80))
