"""Objectives are what their definitions say, by independent arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.errors import InputError
from telltale.measure import ChoiceOutcome, Generated, Outcome
from telltale.objectives import (
    OBJECTIVES,
    check_objective,
    default_objective,
    objective_named,
    values_by,
)
from telltale.objectives.objective import LARGEST
from telltale.tasks import Example, Generation, Scoring, Task

LOGLIKS = st.lists(st.floats(-60, 0), min_size=2, max_size=5)
SIZES = st.integers(1, 9)
FAINTEST = math.log(1e-6)


def outcome(logliks: list[float], sizes: list[int] | None = None, score: float = 1.0) -> Outcome:
    sizes = sizes or [1] * len(logliks)
    choices = tuple(
        ChoiceOutcome(loglik, size, 2 * size, 3 * size)
        for loglik, size in zip(logliks, sizes, strict=True)
    )
    return Outcome(0, choices, 0, score)


def value(name: str, of: Outcome, right: int, scoring: Scoring = Scoring.LOGLIK) -> float:
    return values_by(objective_named(name), scoring, {0: right})(of)


@given(LOGLIKS, st.data())
def test_likelihood_is_the_right_choices_share_of_the_probability(
    logliks: list[float], data: st.DataObject
) -> None:
    right = data.draw(st.integers(0, len(logliks) - 1))
    total = math.fsum(math.exp(one) for one in logliks)
    expected = max(math.log(math.exp(logliks[right]) / total), FAINTEST)
    assert value("likelihood", outcome(logliks), right) == pytest.approx(expected, abs=1e-9)


@given(LOGLIKS, st.data())
def test_margin_is_positive_just_where_the_answer_is_right(
    logliks: list[float], data: st.DataObject
) -> None:
    sizes = data.draw(st.lists(SIZES, min_size=len(logliks), max_size=len(logliks)))
    right = data.draw(st.integers(0, len(logliks) - 1))
    for scoring, unit in (
        (Scoring.LOGLIK, [1] * len(sizes)),
        (Scoring.LOGLIK_PER_TOKEN, sizes),
        (Scoring.LOGLIK_PER_CHARACTER, [2 * size for size in sizes]),
    ):
        of = outcome(logliks, sizes)
        merits = [loglik / one for loglik, one in zip(logliks, unit, strict=True)]
        best_wrong = max(merit for i, merit in enumerate(merits) if i != right)
        margin = value("margin", of, right, scoring)
        ahead = max(min(merits[right] - best_wrong, -FAINTEST), FAINTEST)
        assert margin == pytest.approx(ahead, abs=1e-9)
        # Of equals the first is taken, so that the sign of a margin of 0 says nothing.
        assert margin >= 0 if scoring.choose(of.choices) == right else margin <= 0


@given(st.floats(0, 1))
def test_accuracy_is_the_score(score: float) -> None:
    assert value("accuracy", outcome([-1.0, -2.0], score=score), 1) == score


def test_likelihood_follows_the_tasks_own_scoring() -> None:
    of = outcome([-4.0, -6.0], [1, 3])
    assert value("likelihood", of, 0) > value("likelihood", of, 1)
    per_token = Scoring.LOGLIK_PER_TOKEN
    assert value("likelihood", of, 0, per_token) < value("likelihood", of, 1, per_token)


def test_a_reference_alone_counts_by_its_tokens() -> None:
    assert value("likelihood", outcome([-6.0], [4]), 0) == -1.5


@pytest.mark.parametrize("loglik", [-math.inf, -1e300, -690.8, -15.0])
def test_a_probability_below_one_in_a_million_counts_as_that(loglik: float) -> None:
    faint = outcome([loglik, -0.5])
    assert value("likelihood", faint, 0) == FAINTEST
    assert value("likelihood", faint, 1) == pytest.approx(0, abs=1e-6)
    assert value("margin", faint, 0) == FAINTEST
    assert value("margin", faint, 1) == -FAINTEST
    assert value("likelihood", outcome([3 * loglik], [3]), 0) == FAINTEST  # a reference, by token
    both = outcome([-math.inf, -math.inf])
    assert value("likelihood", both, 0) == value("margin", both, 0) == FAINTEST


@given(st.lists(st.floats(-12, 0), min_size=2, max_size=5), SIZES)
def test_what_is_not_so_faint_is_worth_exactly_what_it_was(logliks: list[float], size: int) -> None:
    top = max(logliks)
    plain = logliks[0] - top - math.log(sum(math.exp(one - top) for one in logliks))
    assert value("likelihood", outcome(logliks), 0) == plain
    assert value("margin", outcome(logliks), 0) == logliks[0] - max(logliks[1:])
    assert value("likelihood", outcome(logliks[:1], [size]), 0) == logliks[0] / size


@pytest.mark.parametrize("name", ["likelihood", "margin"])
@pytest.mark.parametrize("loglik", [-math.inf, -690.8])
def test_one_vanishing_probability_does_not_decide_a_mean(name: str, loglik: float) -> None:
    """Better by 0.1 nats on 149 of 150 examples is better."""

    def mean(faint: float, right: float) -> float:
        wrong = math.log1p(-math.exp(right))
        values = [value(name, outcome([right, wrong]), 0)] * 149
        return math.fsum([value(name, outcome([faint, -0.5]), 0), *values]) / 150

    assert mean(loglik, math.log(0.6)) > mean(-0.5, math.log(0.6) - 0.1)


@pytest.mark.parametrize("logliks", list(itertools.permutations([math.nan, -math.inf, -1.0])))
@pytest.mark.parametrize("name", ["likelihood", "margin"])
def test_what_is_no_number_is_refused_and_not_bounded(
    name: str, logliks: tuple[float, ...]
) -> None:
    for right in range(3):
        with pytest.raises(InputError, match=f"the objective {name} gave nan for an example"):
            value(name, outcome(list(logliks)), right)


def test_a_reference_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="the objective likelihood gave nan for an example"):
        value("likelihood", outcome([math.nan]), 0)


def test_a_value_of_ones_own_objective_is_bounded_only_so_that_a_mean_is_finite() -> None:
    of = outcome([-1.0])
    for gives, kept in ((-500.0, -500.0), (-1e8, -1e8), (-math.inf, -LARGEST), (1e300, LARGEST)):
        assert values_by(Own(gives), Scoring.LOGLIK, {0: 0})(of) == kept


@pytest.mark.parametrize("name", ["f1", "Accuracy", ""])
def test_what_is_no_mean_over_examples_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="must be a mean over examples"):
        objective_named(name)


@dataclass(frozen=True)
class Own:
    """An objective as a user would write it."""

    gives: object
    name: str = "own"
    fewest_choices: int = 0

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        return self.gives  # type: ignore[return-value]


def test_an_own_objective_must_give_a_number_for_each_example() -> None:
    of = outcome([-1.0])
    assert values_by(Own(0.5), Scoring.LOGLIK, {0: 0})(of) == 0.5
    for wrong in ("0.5", None, math.nan):
        with pytest.raises(InputError, match="must give each example a number"):
            values_by(Own(wrong), Scoring.LOGLIK, {0: 0})(of)


def task(choices: int, *, writes: bool = False) -> Task:
    example = Example("1", "context", tuple("abcde"[:choices]), 0)
    generation = Generation(chat=False, extract="exact", max_new_tokens=4, stop=())
    return Task("own", (example,), "", generation=generation if writes else None)


def test_a_margin_needs_wrong_answers_to_be_ahead_of() -> None:
    check_objective(OBJECTIVES["margin"], task(2))
    check_objective(OBJECTIVES["likelihood"], task(1))
    check_objective(OBJECTIVES["likelihood"], task(3, writes=True))
    for offers_none in (task(1), task(3, writes=True)):
        with pytest.raises(InputError, match="own offers none; give likelihood or accuracy"):
            check_objective(OBJECTIVES["margin"], offers_none)


def test_by_default_choices_are_ranked_by_likelihood_and_texts_by_accuracy() -> None:
    assert default_objective(task(2)).name == "likelihood"
    assert default_objective(task(2, writes=True)).name == "accuracy"


def test_text_with_a_reference_is_valued_by_the_reference() -> None:
    of = Outcome(0, (ChoiceOutcome(-3.0, 2, 1, 1),), "x", 0.0, Generated("x", 1, False))
    assert value("likelihood", of, 0) == -1.5
