"""What must hold for a search, as functions of the code that is tried.

`test_greedy` runs them on telltale's own code; `test_mutants` runs them on broken copies, where
they must fail.
"""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from telltale.measure import Batch, Measurement, Outcome
from telltale.paths import LayerPath
from telltale.searches.search import SPEEDS
from tests.searches.oracle import Table, best_and_bsba, removal_order

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

BATCHES = [Batch(tuple(range(10))), Batch(tuple(range(10, 20)))]


def random_table(seed: int, layers: int) -> Table:
    """Accuracies in twentieths around that of the whole model, so that ties are frequent."""

    def score(gone: frozenset[int]) -> Fraction:
        source = random.Random(f"{seed} {sorted(gone)}")
        return Fraction(source.randint(12, 16) - len(gone) // 3, 20)

    return score


def measure_of(table: Table) -> Any:
    """A measure that gives each path its table's accuracy, example by example."""

    def measure(paths: list[LayerPath], batches: list[Batch]) -> Any:
        for batch in batches:
            for path in paths:
                right = int(table(frozenset(path.removed)) * 20)
                removed = " ".join(map(str, path.removed))
                outcomes = tuple(
                    # The answer names the path, for a value to look up.
                    Outcome(example, (), removed, float(example < right))
                    for example in batch.examples
                )
                yield Measurement(batch, path, outcomes)

    return measure


def tables() -> list[tuple[Table, int, Fraction, int | None]]:
    cases = []
    for seed in range(150):
        source = random.Random(seed)
        layers = source.randint(2, 9)
        tolerance = Fraction(source.choice([0, 1, 2, 3, 20]), 20)
        most = source.choice([None, 1, 2, layers])
        cases.append((random_table(seed, layers), layers, tolerance, most))
    return cases


def check_search(greedy: ModuleType | Any) -> None:
    """The order, BEST and BSBA are the oracle's, on random tables, at every speed."""
    for (table, layers, tolerance, most), speed in itertools.product(tables(), SPEEDS):
        search = greedy.GreedyRemoval(
            tolerance=float(tolerance), max_removed=most, speed=speed, highest=1.0
        )
        found = search(measure_of(table), BATCHES, LayerPath.whole(layers))
        order = removal_order(table, layers, tolerance, most)
        assert list(found.kept[-1].removed) == order
        best, bsba = best_and_bsba(table, order)
        assert list(found.best.removed) == best
        assert list(found.bsba.removed) == bsba


def check_search_by_value(greedy: ModuleType | Any) -> None:
    """Where candidates have a value of its own, and a guard, the order is still the oracle's."""
    for (number, (table, layers, tolerance, most)), speed in itertools.product(
        enumerate(tables()), SPEEDS
    ):
        values = random_table(1000 + number, layers)

        def guarded(gone: frozenset[int], number: int = number) -> bool:
            return random.Random(f"guard {number} {sorted(gone)}").random() < 0.8

        def value(outcome: Outcome, values: Table = values) -> float:
            gone = frozenset(int(layer) for layer in str(outcome.answer).split())
            return float(values(gone))

        search = greedy.GreedyRemoval(
            tolerance=float(tolerance),
            max_removed=most,
            value=value,
            highest=1.0,
            speed=speed,
            admits=lambda path, guarded=guarded: guarded(frozenset(path.removed)),
        )
        found = search(measure_of(table), BATCHES, LayerPath.whole(layers))
        order = removal_order(table, layers, tolerance, most, values, guarded)
        assert list(found.kept[-1].removed) == order
        if order and number < 30:
            early = {LayerPath.from_removed(order[:1], layers)}
            partial = search(leaving(measure_of(table), early), BATCHES, LayerPath.whole(layers))
            assert early.isdisjoint(one.path for one in partial.kept)
        for done in found.rounds:
            assert not set(done.refused) & set(done.kept)


def example_table(seed: int, examples: int) -> Callable[[LayerPath], list[tuple[float, float]]]:
    """For each path each example's score and value, few different ones, so that means are equal."""

    def of(path: LayerPath) -> list[tuple[float, float]]:
        source = random.Random(f"{seed} {path.removed}")
        bad = source.random()
        return [
            (float(source.random() > bad / 2), -source.choice([0.0, 0.0, bad, 0.1, 2.5]))
            for _ in range(examples)
        ]

    return of


def check_elimination(greedy: ModuleType | Any) -> None:
    """What is kept, refused and found of it is that of the slow way, with guards and ties."""
    left = sum(_left_early(greedy, seed) for seed in range(110))
    assert left > 40  # or none but those below the floor leave early


def _left_early(greedy: ModuleType | Any, seed: int) -> int:
    """Search a random table both ways; how many left early where there is no floor."""
    source = random.Random(seed)
    layers, examples = source.randint(2, 10), source.randint(1, 24)
    cuts = sorted({0, examples, *(source.randrange(examples + 1) for _ in range(4))})
    batches = [Batch(tuple(range(*pair))) for pair in itertools.pairwise(cuts)]
    by_score, sick = source.random() < 0.4, source.choice([0.0, 0.3, 1.0])
    tolerance = source.choice([0.0, 0.05, 0.3, 1.0])
    protected = frozenset(layer for layer in range(layers) if source.random() < 0.15)
    of = example_table(seed, examples)

    def measure(paths: Any, asked: Any) -> Any:
        for batch, path in itertools.product(asked, paths):
            seen = [(i, *of(path)[i]) for i in batch.examples]
            outcomes = tuple(Outcome(i, (), str(value), score) for i, score, value in seen)
            yield Measurement(batch, path, outcomes)

    def found(speed: str, guarded: list[LayerPath]) -> Any:
        def admits(path: LayerPath) -> bool:
            guarded.append(path)
            return random.Random(f"{seed} {path.removed} guard").random() >= sick

        return greedy.GreedyRemoval(
            tolerance=tolerance,
            protected=protected,
            value=(lambda one: one.score) if by_score else (lambda one: float(one.answer)),
            highest=1.0 if by_score else 0.0,
            admits=admits,
            speed=speed,
        )(measure, batches, LayerPath.whole(layers))

    of_slow: list[LayerPath] = []
    of_exact: list[LayerPath] = []
    slow, exact = found("full", of_slow), found("exact", of_exact)
    assert of_slow == of_exact
    assert slow.kept == exact.kept
    left = 0
    for one, other in zip(slow.rounds, exact.rounds, strict=True):
        assert (one.kept, one.refused) == (other.kept, other.refused)
        assert list(one.tried) == list(other.tried)
        for path, candidate in other.tried.items():
            if candidate.examples == examples:
                assert candidate == one.tried[path]
            left += candidate.examples < examples and tolerance == 1
    return left


def leaving(measure: Any, paths: set[LayerPath]) -> Any:
    """Measures as another measure does, but some paths on the first of `BATCHES` alone."""

    def partly(asked: list[LayerPath], batches: list[Batch]) -> Any:
        for batch in batches:
            stay = [path for path in asked if path not in paths or batch == BATCHES[0]]
            yield from measure(stay, [batch])

    return partly


def check_split(split: ModuleType | Any) -> None:
    """The sets are disjoint by context and passage, but for white space, and as large as asked."""
    from telltale.tasks import Example

    compared = 0
    for seed in range(30):
        source = random.Random(seed)
        spaces = [" ", "  ", "\n"]
        examples = [
            Example(
                str(i),
                f"context{source.choice(spaces)}{source.randrange(300)}",
                ("a", "b"),
                source.randrange(2),
                passage=source.choice(
                    ["", "", f"passage{source.choice(spaces)}{source.randrange(40)}"]
                ),
            )
            for i in range(200)
        ]
        sizes = {"limit": 24, "held_out": 22, "final": 20, "train": 21, "development": 20}
        found = split.split_examples(examples, seed=seed, **sizes)
        sides = [[examples[i] for i in one] for one in found.sets.values()]
        assert [len(side) for side in sides] == list(sizes.values())
        assert len({index for one in found.sets.values() for index in one}) == sum(sizes.values())
        for one, other in itertools.combinations(sides, 2):
            assert not {e.context.split()[1] for e in one} & {e.context.split()[1] for e in other}
            passages = [{e.passage.split()[1] for e in side if e.passage} for side in (one, other)]
            compared += all(passages)
            assert not passages[0] & passages[1]
    assert compared >= 200  # of 300 pairs of sets, both with passages
