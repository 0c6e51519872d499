"""A round by racing: its candidates on block after block of examples, until the race has ended.

The blocks are random ones (`Batch.block`), taken in an order that is drawn anew for each round. A
candidate that cannot reach the floor any more is out for certain; the one that is kept is measured
in full, so that its accuracy, its value and the floor are exact. What is not certain, that no other
candidate is better, is said with the round. Knows neither models nor examples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from telltale.measure import outcomes_by_path
from telltale.searches.elimination import Tally
from telltale.searches.found import Certainty, Round
from telltale.searches.racing import PROBABILITY, Race, looks_at
from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath
    from telltale.searches.found import Candidate
    from telltale.searches.search import Search


def raced_round(
    search: Search,
    measure: Measure,
    batches: Sequence[Batch],
    parents: Mapping[LayerPath, LayerPath | None],
    origin: Candidate,
    most: int = 1,
) -> Round:
    """Race some candidates, and keep the winner; of several, each wins over those that remain.

    Args:
        search: says what a candidate is valued by, its floor, and whether it may be kept.
        measure: measures them, and their parents in full.
        batches: the search set, in blocks.
        parents: for each path, the one that it is made from; of equals the first is kept.
        origin: what a loss is counted from.
        most: how many are kept.
    """
    above = list(dict.fromkeys(one for one in parents.values() if one is not None))
    of_parents = {
        path: {example: search.value(outcome) for example, outcome in outcomes.items()}
        for path, outcomes in outcomes_by_path(measure(above, batches)).items()
    }
    means = {path: math.fsum(of.values()) / len(of) for path, of in of_parents.items() if of}
    tallies = [Tally(path, parent, place) for place, (path, parent) in enumerate(parents.items())]
    seen = set().union(*of_parents.values()) or {one for b in batches for one in b.examples}
    blocks = _drawn(batches, above)
    sizes = [sum(one in seen for batch in block for one in batch.examples) for block in blocks]
    blocks = [block for block, size in zip(blocks, sizes, strict=True) if size]
    ends = np.cumsum([size for size in sizes if size])
    steps = all(0 <= value <= 1 for of in of_parents.values() for value in of.values())
    race = Race(
        total=int(ends[-1]),
        looks=looks_at([size for size in sizes if size]),
        step=1.0 if steps and search.highest == 1 else 0.0,
        # Of so many that are kept, each may be wrong where one of the truly best is.
        probability=1 - (1 - PROBABILITY) / most,
    )
    out: set[int] = set()
    kept: list[LayerPath] = []
    refused: list[LayerPath] = []
    epsilon = 0.0
    while len(kept) < most:
        stands = race.standing([_values_beside(one, of_parents, means) for one in tallies], out)
        if stands.going_on:
            fewest = min(len(tallies[one].values) for one in stands.going_on)
            asked = [one for one in stands.going_on if len(tallies[one].values) == fewest]
            last = race.next_look(fewest)
            now = [
                b
                for end, block in zip(ends, blocks, strict=True)
                if fewest < end <= last
                for b in block
            ]
            _measure(search, measure, [tallies[one] for one in asked], now)
            out |= {one for one in asked if len(tallies[one].values) != last}
            out |= {one for one in asked if _is_below(search, tallies[one], origin)}
            continue
        if stands.leader is None:
            break
        leader = tallies[stands.leader].path
        out.add(stands.leader)
        if search.admits(leader):
            kept.append(leader)
            epsilon = max(epsilon, stands.epsilon)
        else:
            refused.append(leader)
    tried = {one.path: one.candidate() for one in tallies if one.values}
    left_early = any(len(one.values) < race.total for one in tallies)
    certainty = Certainty(epsilon, PROBABILITY) if kept and left_early else None
    return Round(tried, tuple(kept), tuple(refused), origin.examples, certainty)


def _drawn(batches: Sequence[Batch], above: Sequence[LayerPath]) -> list[list[Batch]]:
    """The blocks in a random order, another one for other parents.

    What was kept in the round before was kept for what it did on the blocks that came first, so
    these would favour its candidates.
    """
    blocks: dict[int, list[Batch]] = {}
    for batch in batches:
        blocks.setdefault(batch.block, []).append(batch)
    drawn_by = str(sorted(path.removed for path in above))
    return [blocks[one] for one in sorted(blocks, key=lambda one: sha256_of(drawn_by, str(one)))]


def _measure(
    search: Search, measure: Measure, tallies: Sequence[Tally], batches: Sequence[Batch]
) -> None:
    found = outcomes_by_path(measure([one.path for one in tallies], batches))
    for one in tallies:
        for example, outcome in found.get(one.path, {}).items():
            one.values[example] = search.value(outcome)
            one.scores[example] = outcome.score


def _values_beside(
    one: Tally,
    of_parents: Mapping[LayerPath, Mapping[int, float]],
    means: Mapping[LayerPath, float],
) -> np.typing.NDArray[np.float64]:
    """A candidate's values, (examples,), each with its parent's mean for its parent's own value."""
    if one.parent is None:
        return np.array([*one.values.values()])
    beside = of_parents[one.parent]
    return np.array([value - beside[i] + means[one.parent] for i, value in one.values.items()])


def _is_below(search: Search, one: Tally, origin: Candidate) -> bool:
    """Whether a candidate is below the floor, whatever the rest of its examples say."""
    best = one.candidate(max(0, origin.examples - len(one.values)))
    return not search.is_above_floor(best, origin)
