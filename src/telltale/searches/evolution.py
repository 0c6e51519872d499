"""Evolution of paths that lack a given number of layers, by switching layers in and out.

By a text's perplexity, as it is published, or by the task itself from greedy removal's paths. Knows
neither models nor examples: it is called with a measure, and asks for a text's perplexity.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from telltale.errors import InputError
from telltale.paths import LayerPath
from telltale.searches.found import Found, Round
from telltale.searches.search import Search, Steps, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure

Drawn = TypeVar("Drawn")
MOST_SWITCHES = 3
TRIES = 20  # for each path that is wanted, until it is given up that there are so many


@dataclass(frozen=True)
class Evolution(Search):
    """For each number of layers removed, the path that a text's perplexity has survive.

    EvoPress (Sieber et al., arXiv 2410.14649) for leaving out layers: the best of some random paths
    has offspring in every generation, each by a level-switch mutation (some layers left out are put
    back for as many others; how many is the lesser of two draws from 1 to 3), and the best of it
    and its offspring goes on. The fitness is the perplexity of the whole text at once, where
    EvoPress judges many by little text first, by divergence from the whole model or by perplexity.

    Attributes:
        counts: how many layers are removed; each is evolved apart. Of none, 1 and on.
        beginnings: how many random paths it begins with.
        generations: how many there are.
        offspring: how many paths a generation adds.
        seed: of all draws.

    Raises:
        InputError: a number of them is below 1.
    """

    counts: tuple[int, ...] = ()
    beginnings: int = 32
    generations: int = 20
    offspring: int = 16
    seed: int = 0

    method: ClassVar[str] = "EvoPress"
    reads_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "counts", tuple(sorted(set(self.counts))))  # JSON gives a list
        _check_numbers(*self.counts, self.beginnings, self.generations, self.offspring)

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start``; ``watch`` is told of every round."""
        origin = self.origin(measure, batches, start)
        free = [layer for layer in start.kept if layer not in self.protected]
        most = min(len(free), start.depth - 1, self.max_removed or start.depth)
        rounds = list[Round]()
        for count in self.counts or range(1, most + 1):
            if count > most:
                break
            path = self._evolved(start, free, count)
            done = self.decided(measure, batches, {path: start}, origin)
            rounds.append(done)
            watch(done)
            if not done.kept:
                break
        return Found(origin, tuple(rounds))

    def _evolved(self, start: LayerPath, free: Sequence[int], count: int) -> LayerPath:
        """The path without so many layers that survives."""
        source = random.Random(f"{self.seed} {count}")

        def without(layers: frozenset[int]) -> LayerPath:
            return LayerPath.from_removed((*start.removed, *layers), start.total)

        def fittest(some: Sequence[frozenset[int]]) -> frozenset[int]:
            found = self.perplexity([without(layers) for layers in some])
            return min(some, key=lambda layers: found[without(layers)])

        first = drawn(lambda: frozenset(source.sample(free, count)), self.beginnings, set())
        parent = fittest(first)
        for _ in range(self.generations):
            mutate = partial(switched, parent, free, source)
            parent = fittest([parent, *drawn(mutate, self.offspring, {parent})])
        return without(parent)


@dataclass(frozen=True)
class EvolvedRemoval(Search):
    """Greedy removal, and after each step an evolution from its path, by the task itself.

    Offspring are made by the level-switch mutations of `Evolution`, no path twice. Where the best
    of them has a higher value than the path they are made from, the search goes on with it.

    Attributes:
        generations: how many follow each removal.
        offspring: how many paths a generation tries, where there are as many.
        seed: of all draws.

    Raises:
        InputError: a number of them is below 1.
    """

    generations: int = 4
    offspring: int = 12
    seed: int = 0

    method: ClassVar[str] = "greedy removal with evolution"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers(self.generations, self.offspring)

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start``; ``watch`` is told of every round."""
        steps = Steps(self, measure, batches, start, watch)
        free = [layer for layer in start.kept if layer not in self.protected]

        def mutated(gone: frozenset[int], source: random.Random) -> LayerPath:
            layers = switched(gone, free, source)
            return LayerPath.from_removed((*start.removed, *layers), start.total)

        path = start
        while candidates := self.children([path], start):
            shorter = steps.best_of(candidates)
            if shorter is None:
                break
            path, tried = shorter, {shorter}
            source = random.Random(f"{self.seed} {path.depth}")
            for _ in range(self.generations):
                gone = frozenset(start.kept).difference(path.kept)
                young = drawn(partial(mutated, gone, source), self.offspring, tried)
                best = steps.best_of(dict.fromkeys(young, path)) if young else None
                if best is not None and steps.is_better(best, path):
                    path = best
        return Found(steps.origin, tuple(steps.rounds))


def _check_numbers(*numbers: int) -> None:
    if min(numbers) < 1:
        raise InputError(
            f"an evolution needs numbers of at least 1, got {min(numbers)}; see its fields"
        )


def drawn(draw: Callable[[], Drawn], number: int, known: set[Drawn]) -> list[Drawn]:
    """So many that are drawn and not known, which they are then; fewer where there are no more."""
    found: list[Drawn] = []
    for _ in range(TRIES * number):
        if len(found) == number:
            break
        one = draw()
        if one not in known:
            known.add(one)
            found.append(one)
    return found


def switched(gone: frozenset[int], free: Sequence[int], source: random.Random) -> frozenset[int]:
    """A level-switch mutation: some of the layers that are gone, put back for as many others."""
    stay = [layer for layer in free if layer not in gone]
    wanted = min(source.randint(1, MOST_SWITCHES), source.randint(1, MOST_SWITCHES))
    number = min(wanted, len(gone), len(stay))
    back = source.sample(sorted(gone), number)
    return gone.difference(back).union(source.sample(stay, number))
