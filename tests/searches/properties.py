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
from tests.searches.oracle import Table, best_and_bsba, removal_order

if TYPE_CHECKING:
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
    """The order, BEST and BSBA are the oracle's, on random tables."""
    for table, layers, tolerance, most in tables():
        search = greedy.GreedyRemoval(tolerance=float(tolerance), max_removed=most)
        found = search(measure_of(table), BATCHES, LayerPath.whole(layers))
        order = removal_order(table, layers, tolerance, most)
        assert list(found.kept[-1].removed) == order
        best, bsba = best_and_bsba(table, order)
        assert list(found.best.removed) == best
        assert list(found.bsba.removed) == bsba


def check_search_by_value(greedy: ModuleType | Any) -> None:
    """Where candidates have a value of its own, and a guard, the order is still the oracle's."""
    for number, (table, layers, tolerance, most) in enumerate(tables()):
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


def leaving(measure: Any, paths: set[LayerPath]) -> Any:
    """Measures as another measure does, but some paths on the first batch alone."""

    def partly(asked: list[LayerPath], batches: list[Batch]) -> Any:
        yield from measure(asked, batches[:1])
        yield from measure([path for path in asked if path not in paths], batches[1:])

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
