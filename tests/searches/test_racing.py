"""A race keeps its word: no candidate is better than the winner by more than was said."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.special import stdtrit

from telltale.errors import InputError
from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.searches import GreedyRemoval
from telltale.searches.racing import (
    Race,
    Standing,
    betting_half_width,
    look_level,
    looks_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

EXAMPLES, CANDIDATES, ROUNDS = 160, 12, 300
LOOKS = looks_at([16] * 10)
ALPHA = 0.05


def run(race: Race, gains: NDArray[Any]) -> tuple[Standing, list[int]]:
    """A race to its end, and on how many examples each candidate was measured."""
    counts = [0] * len(gains)
    while True:
        stands = race.standing([one[:count] for one, count in zip(gains, counts, strict=True)])
        if not stands.going_on:
            return stands, counts
        fewest = min(counts[one] for one in stands.going_on)
        for one in stands.going_on:
            if counts[one] == fewest:
                counts[one] = race.next_look(fewest)


def errors_of(race: Race) -> int:
    """In how many rounds a candidate is better than was said, where one is just better."""
    source = np.random.default_rng(3)
    errors = 0
    for _ in range(ROUNDS):
        gains = source.normal(0, 1, (CANDIDATES, EXAMPLES))
        gains -= gains.mean(1, keepdims=True)
        target = race.errors * math.sqrt(np.median(gains.var(1, ddof=1)) / EXAMPLES)
        gains[0] += 1.05 * target
        stands, _ = run(race, gains)
        assert stands.leader is not None
        errors += gains.mean(1).max() - gains[stands.leader].mean() > stands.epsilon + 1e-12
    return errors


def bound_fails(race: Race) -> int:
    """In how many rounds a candidate's bound is below its mean at any look."""
    source = np.random.default_rng(4)
    fails = 0
    for _ in range(ROUNDS):
        gains = source.normal(0, 1, EXAMPLES)
        uppers = [
            gains[:look].mean() + race.half_width(gains[:look], median_variance=1.0)
            for look in LOOKS[:-1]
        ]
        fails += min(uppers) < gains.mean()
    return fails


@dataclass(frozen=True, slots=True)
class Narrow(Race):
    """A race that takes gains to spread a quarter as much as they do."""

    def half_width(self, gains: NDArray[Any], median_variance: float) -> float:
        return Race.half_width(self, gains, median_variance) / 4


def too_many(errors: int) -> bool:
    """Whether so many errors are not in keeping with the level, three standard errors allowed."""
    return errors > ROUNDS * ALPHA + 3 * math.sqrt(ROUNDS * ALPHA * (1 - ALPHA))


def test_no_candidate_is_better_than_was_said_in_as_many_rounds_as_was_said() -> None:
    assert not too_many(errors_of(Race(EXAMPLES, LOOKS, errors=1.0)))


def test_a_bound_is_below_the_mean_as_seldom_as_was_said() -> None:
    assert not too_many(bound_fails(Race(EXAMPLES, LOOKS)))


def test_ten_times_the_error_and_a_quarter_of_the_spread_are_caught() -> None:
    assert too_many(bound_fails(Race(EXAMPLES, LOOKS, probability=1 - 10 * ALPHA)))
    assert too_many(bound_fails(Narrow(EXAMPLES, LOOKS)))
    assert too_many(errors_of(Narrow(EXAMPLES, LOOKS, errors=1.0)))


def test_all_looks_together_fail_as_often_as_was_said() -> None:
    source = np.random.default_rng(0)
    for looks in (looks_at([16] * 12 + [8]), looks_at([16] * 62 + [8]), (5, 40, 50)):
        information = np.array([1 / (1 / look - 1 / looks[-1]) for look in looks[:-1]])
        steps = np.diff(information, prepend=0.0)
        walks = np.cumsum(source.normal(size=(100_000, len(steps))) * np.sqrt(steps), axis=1)
        highest = (walks / np.sqrt(information)).max(1)
        level = look_level(looks, ALPHA)
        fails = float((highest > -float(stdtrit(math.inf, level))).mean())
        assert fails == pytest.approx(ALPHA, abs=0.003)
    assert look_level((16, 50), ALPHA) == ALPHA


def test_few_looks_are_taken_and_more_of_them_early() -> None:
    assert looks_at([16] * 12 + [8]) == (16, 32, 48, 64, 96, 128, 200)
    assert looks_at([16, 16, 16, 2]) == (16, 32, 50)
    assert looks_at([7]) == (7,)


@pytest.mark.parametrize("looks", [(), (5,), (4, 4, 10), (0, 10), (10, 20)])
def test_looks_that_do_not_rise_to_the_total_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="looks of a race must rise"):
        Race(10, looks)
    with pytest.raises(InputError, match="probability of a race must be"):
        Race(10, (10,), probability=1.0)
    assert Race(10, (5, 10)).next_look(5) == 10


def test_the_winner_is_measured_in_full_and_the_worst_are_not() -> None:
    gains = np.random.default_rng(1).normal(0, 1, (CANDIDATES, EXAMPLES))
    gains -= np.arange(CANDIDATES)[:, None] / 2
    stands, counts = run(Race(EXAMPLES, LOOKS), gains)
    assert stands.leader is not None
    assert counts[stands.leader] == EXAMPLES
    assert counts[-1] == LOOKS[0]
    assert 0 <= stands.epsilon <= stands.target


def test_of_equals_the_first_wins_and_no_other_goes_on() -> None:
    same = np.tile(np.random.default_rng(2).normal(0, 1, EXAMPLES), (CANDIDATES, 1))
    assert run(Race(EXAMPLES, LOOKS), 0 * same)[0].leader == 0
    stands, counts = run(Race(EXAMPLES, LOOKS), same)
    assert stands.leader == 0
    assert counts[0] == EXAMPLES
    nothing, _ = run(Race(EXAMPLES, LOOKS), 0 * same)
    assert nothing.epsilon == 0


def test_one_candidate_wins_without_doubt() -> None:
    stands, counts = run(Race(EXAMPLES, LOOKS), np.random.default_rng(3).normal(0, 1, (1, 160)))
    assert (stands.leader, stands.epsilon, counts) == (0, 0.0, [EXAMPLES])


def test_examples_fewer_than_a_block_are_all_measured() -> None:
    gains = np.random.default_rng(4).normal(0, 1, (CANDIDATES, 9))
    stands, counts = run(Race(9, looks_at([9])), gains)
    assert counts == [9] * CANDIDATES
    assert (stands.leader, stands.epsilon) == (int(gains.mean(1).argmax()), 0.0)


def test_scores_of_which_a_small_sample_shows_no_change_keep_candidates_in() -> None:
    gains = np.zeros((3, EXAMPLES))
    gains[1, -12:] = 1.0  # none of them among the first looks
    stands, counts = run(Race(EXAMPLES, LOOKS, limit=1.0), gains)
    assert stands.leader == 1
    assert counts[1] == EXAMPLES
    blind, _ = run(Race(EXAMPLES, LOOKS), gains)
    assert blind.leader == 0


def test_the_proven_bound_holds_where_gains_are_rare_and_where_they_are_not() -> None:
    source = np.random.default_rng(5)
    for up, down in ((0.02, 0.0), (0.1, 0.1), (0.3, 0.2), (0.0, 0.4)):
        fails = 0
        for _ in range(ROUNDS):
            gains = source.choice([1.0, -1.0, 0.0], EXAMPLES, p=[up, down, 1 - up - down])
            uppers = [
                gains[:look].mean() + betting_half_width(gains[:look], EXAMPLES, 1.0, ALPHA)
                for look in LOOKS[:-1]
            ]
            fails += min(uppers) < gains.mean() - 1e-12
        assert not too_many(fails)


def test_the_proven_bound_is_never_above_what_is_possible_and_narrows() -> None:
    gains = np.random.default_rng(7).choice([1.0, -1.0, 0.0, 0.0], EXAMPLES)
    widths = [betting_half_width(gains[:look], EXAMPLES, 1.0, ALPHA) for look in LOOKS[:-1]]
    assert 0.5 > widths[0] > 2 * widths[-1] > 0
    assert betting_half_width(gains[:-1], EXAMPLES, 1.0, ALPHA) <= 2 / EXAMPLES


def test_where_all_are_out_nobody_leads() -> None:
    stands = Race(10, (5, 10)).standing([np.zeros(5), np.ones(5)], {0, 1})
    assert (stands.leader, stands.going_on) == (None, ())
    assert Race(10, (5, 10)).standing([np.zeros(5), np.ones(5)], {1}).leader == 0


# In a search


BATCHES = [Batch(tuple(range(8 * i, 8 * i + 8)), i // 2) for i in range(20)]


def seen(path: LayerPath, seed: int) -> list[tuple[float, float]]:
    """Each example's score and value, by the layers that a path lacks; the last ones cost most."""
    found = []
    for example in range(EXAMPLES):
        value = sum(
            random.Random(f"{seed} {layer} {example}").gauss(-0.02 * layer, 0.3)
            for layer in path.removed
        )
        found.append((float(value > -0.9), value))
    return found


@dataclass
class Counting:
    """A measure of a table that counts the examples asked of each path."""

    seed: int
    asked: dict[LayerPath, int]

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        for batch, path in itertools.product(batches, paths):
            self.asked[path] = self.asked.get(path, 0) + len(batch.examples)
            table = seen(path, self.seed)
            outcomes = (Outcome(i, (), str(table[i][1]), table[i][0]) for i in batch.examples)
            yield Measurement(batch, path, tuple(outcomes))


def greedy(**given: Any) -> GreedyRemoval:
    return GreedyRemoval(
        **{"tolerance": 0.3, "value": lambda one: float(one.answer), "speed": "fast", **given}
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_fast_search_keeps_what_is_measured_in_full_and_as_good_as_it_says(seed: int) -> None:
    asked: dict[LayerPath, int] = {}
    found = greedy(max_removed=3)(Counting(seed, asked), BATCHES, LayerPath.whole(12))
    assert found.rounds
    for done in found.rounds:
        true = {
            path: math.fsum(value for _, value in seen(path, seed)) / EXAMPLES
            for path in done.tried
        }
        for path in done.kept:
            assert done.tried[path].examples == EXAMPLES
            assert done.tried[path].value == pytest.approx(true[path])
            assert done.tried[path].accuracy >= 1.0 - 0.3 - 1e-9
            assert done.certainty is not None
            assert max(true.values()) - true[path] <= done.certainty.epsilon
    measured = sum(one.examples for done in found.rounds for one in done.tried.values())
    assert measured < EXAMPLES * sum(len(done.tried) for done in found.rounds) / 2


def test_examples_in_one_block_are_searched_as_by_full_measuring() -> None:
    batches = [Batch(batch.examples) for batch in BATCHES]
    fast, full = (
        greedy(max_removed=2, speed=speed)(Counting(1, {}), batches, LayerPath.whole(8))
        for speed in ("fast", "full")
    )
    assert fast == full


def test_one_below_the_floor_is_not_kept_however_good_its_value() -> None:
    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for batch, path in itertools.product(batches, paths):
            layer = path.removed[0] if path.removed else None
            score = {None: 1.0, 0: 0.0}.get(layer, 0.9)
            value = {None: 0.0, 0: 5.0}.get(layer, 0.1 * (layer or 0))
            rows = tuple(Outcome(i, (), str(value), score) for i in batch.examples)
            yield Measurement(batch, path, rows)

    found = greedy(max_removed=1)(measure, BATCHES, LayerPath.whole(4))
    assert found.rounds[0].first.left_out == (3,)
    assert found.rounds[0].tried[LayerPath.whole(4).without(0)].examples < EXAMPLES
    nothing = greedy(max_removed=1, tolerance=0.05)(measure, BATCHES, LayerPath.whole(4))
    assert not nothing.rounds[0].kept
    assert nothing.rounds[0].certainty is None


def test_one_that_a_guard_refuses_makes_way() -> None:
    first = greedy(max_removed=1)(Counting(2, {}), BATCHES, LayerPath.whole(12)).rounds[0].kept[0]
    guarded = greedy(max_removed=1, admits=lambda path: path != first)
    done = guarded(Counting(2, {}), BATCHES, LayerPath.whole(12)).rounds[0]
    assert done.refused == (first,)
    assert done.kept
    assert done.kept[0] != first
    assert done.tried[done.kept[0]].examples == EXAMPLES
