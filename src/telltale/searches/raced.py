"""A round by racing: its candidates on block after block of examples, until the race has ended.

The blocks are random ones (`Batch.block`), taken in an order that is drawn anew for each round. A
candidate that cannot reach the floor any more is out for certain; the one that is kept is measured
in full, so that its accuracy, its value and the floor are exact. What is not certain, that no other
candidate is better, is said with the round. Knows neither models nor examples.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from telltale.measure import outcomes_by_path
from telltale.searches.elimination import Tally
from telltale.searches.found import Certainty, Round
from telltale.searches.racing import PROBABILITY, Race, looks_at
from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath
    from telltale.searches.found import Candidate
    from telltale.searches.search import Search


class RacedRound:
    """A round's candidates while they are raced.

    Args:
        search: says what a candidate is valued by, its floor, and whether it may be kept.
        measure: measures them, and their parents in full.
        batches: the search set, in blocks.
        parents: for each path, the one that it is made from; of equals the first is kept.
        origin: what a loss is counted from.
        most: how many are kept; each wins over those that remain.
    """

    def __init__(
        self,
        search: Search,
        measure: Measure,
        batches: Sequence[Batch],
        parents: Mapping[LayerPath, LayerPath],
        origin: Candidate,
        most: int = 1,
    ) -> None:
        self._search, self._measure, self._batches = search, measure, batches
        self._origin, self._most = origin, most
        self._tallies = [
            Tally(path, parent, place) for place, (path, parent) in enumerate(parents.items())
        ]
        self._above = {
            path: Tally(path, None, place)
            for place, path in enumerate(dict.fromkeys(parents.values()))
        }
        self._ask([*self._above.values()], batches)
        self._drawn_by = str(sorted(path.removed for path in self._above))
        self._out: set[int] = set()

    def round(self) -> Round:
        """The round, once the race has ended."""
        kept: dict[LayerPath, float] = {}
        refused: list[LayerPath] = []
        of_parents = [self._mean_above(one) for one in self._tallies]
        while len(kept) < self._most:
            gains = [self._gains(one) for one in self._tallies]
            stands = self._race.standing(gains, self._out, of_parents)
            if stands.going_on:
                self._go_on(stands.going_on)
                continue
            if stands.leader is None:
                break
            self._out.add(stands.leader)
            leader = self._tallies[stands.leader].path
            if self._search.admits(leader):
                kept[leader] = stands.epsilon
            else:
                refused.append(leader)
        tried = {one.path: one.candidate() for one in self._tallies if one.values}
        left_early = any(one.examples < self._race.total for one in tried.values())
        certainty = None
        if kept and left_early:
            is_proven = self._race.limit is not None
            certainty = Certainty(max(kept.values()), PROBABILITY, is_proven)
        return Round(tried, tuple(kept), tuple(refused), self._origin.examples, certainty)

    def _go_on(self, going_on: Sequence[int]) -> None:
        """Measure those that are furthest behind up to their next look; some are out by that."""
        behind = min(len(self._tallies[one].values) for one in going_on)
        asked = [one for one in going_on if len(self._tallies[one].values) == behind]
        look = self._race.next_look(behind)
        now = [
            batch
            for end, block in zip(self._ends, self._blocks, strict=True)
            if behind < end <= look
            for batch in block
        ]
        self._ask([self._tallies[one] for one in asked], now)
        for one in asked:
            tally = self._tallies[one]
            best = tally.candidate(self._race.total - len(tally.values)) if tally.values else None
            is_able = best is not None and self._search.is_above_floor(best, self._origin)
            if len(tally.values) != look or not is_able:
                self._out.add(one)

    def _ask(self, tallies: Sequence[Tally], batches: Sequence[Batch]) -> None:
        found = outcomes_by_path(self._measure([one.path for one in tallies], batches))
        for one in tallies:
            for example, outcome in found.get(one.path, {}).items():
                one.values[example] = self._search.value(outcome)
                one.scores[example] = outcome.score

    @cached_property
    def _race(self) -> Race:
        above = self._above.values()
        is_by_score = all(one.values[i] == one.scores[i] for one in above for i in one.values)
        return Race(
            total=self._ends[-1],
            looks=looks_at(np.diff(self._ends, prepend=0).tolist()),
            limit=1.0 if is_by_score else None,
            # Of so many that are kept, one is wrong only where one of as many truly best is.
            probability=1 - (1 - PROBABILITY) / self._most,
        )

    @cached_property
    def _blocks(self) -> list[list[Batch]]:
        """The blocks in a random order, another one for other parents.

        What was kept in the round before was kept for what it did on the blocks that came first, so
        these would favour its candidates.
        """
        blocks: dict[int, list[Batch]] = {}
        for batch in self._batches:
            if any(example in self._known for example in batch.examples):
                blocks.setdefault(batch.block, []).append(batch)
        return [blocks[one] for one in sorted(blocks, key=lambda one: self._draw("block", one))]

    @cached_property
    def _order(self) -> list[int]:
        """The examples in a random order, those of a block together."""
        return [
            example
            for block in self._blocks
            for example in sorted(
                (one for batch in block for one in batch.examples if one in self._known),
                key=lambda one: self._draw("example", one),
            )
        ]

    @cached_property
    def _ends(self) -> list[int]:
        """How many examples there are up to the end of each block."""
        sizes = [
            sum(example in self._known for batch in block for example in batch.examples)
            for block in self._blocks
        ]
        return [int(end) for end in np.cumsum(sizes)]

    @cached_property
    def _known(self) -> set[int]:
        """The examples that parents are measured on; a measure may tell of some only."""
        return {example for one in self._above.values() for example in one.values}

    def _draw(self, what: str, number: int) -> str:
        return sha256_of(self._drawn_by, what, str(number))

    def _gains(self, one: Tally) -> NDArray[np.float64]:
        """A candidate's values less its parent's, (examples,), in the order of the draw."""
        above = self._above_of(one).values
        measured = [example for example in self._order if example in one.values]
        return np.array([one.values[example] - above[example] for example in measured])

    def _mean_above(self, one: Tally) -> float:
        return self._above_of(one).candidate().value

    def _above_of(self, one: Tally) -> Tally:
        assert one.parent is not None
        return self._above[one.parent]
