"""Exact elimination: a candidate leaves a round as soon as it cannot be kept any more.

Whatever the examples say that it has not been measured on, its scores there are at most 1 and its
values at most the objective's highest. Once even these would leave it below the floor, or behind a
candidate that is measured in full, the rest of its examples need not be run. So a round keeps what
it would keep if every candidate were measured in full, to the last digit: a sum is rounded once, so
that a bound computed by the same formula as the value it bounds is never below it.

Which examples come first, and which candidates, changes only the work. The bound is tight once a
good candidate is measured in full, and a candidate loses most where its parent does: so the batches
come first that are the hardest for the parents, and after each the most promising candidate is
measured on all of them. Batches stay what they are from round to round, since the states that are
kept are theirs. Knows neither models nor examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from telltale.measure import outcomes_by_path
from telltale.searches.found import Candidate, Round, candidate_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath
    from telltale.searches.search import Search

BEST_SCORE = 1.0


@dataclass
class Tally:
    """What is known of a candidate by now: values and scores by example.

    ``place`` is its own among the round's candidates, of which the first of equals is kept.
    """

    path: LayerPath
    parent: LayerPath | None
    place: int
    asked: set[Batch] = field(default_factory=set)
    values: dict[int, float] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)

    def candidate(self, missing: int = 0, highest: float = 0.0) -> Candidate:
        """The candidate, with so many more examples that are valued ``highest`` and right."""
        values = [*self.values.values(), *[highest] * missing]
        scores = [*self.scores.values(), *[BEST_SCORE] * missing]
        return candidate_of(self.path, self.parent, values, scores)


class Elimination:
    """A round's candidates while they are measured.

    Args:
        search: says what a candidate is valued by, its floor, and whether it may be kept.
        measure: measures them, and their parents in full; it had better remember these.
        batches: the search set, best with examples together that are about as hard.
        parents: for each path, the one that it is made from; of equals the first is kept.
        origin: what a loss is counted from.
        most: how many are kept.
    """

    def __init__(
        self,
        search: Search,
        measure: Measure,
        batches: Sequence[Batch],
        parents: Mapping[LayerPath, LayerPath | None],
        origin: Candidate,
        most: int = 1,
    ) -> None:
        self._search, self._measure = search, measure
        self._origin, self._most = origin, most
        self._tallies = {
            path: Tally(path, parent, place) for place, (path, parent) in enumerate(parents.items())
        }
        above = [path for path in dict.fromkeys(parents.values()) if path is not None]
        self._batches = self._hardest_first(batches, above)
        self._admitted: dict[LayerPath, bool] = {}  # what guards said
        self._finished: list[Candidate] = []  # measured in full, and not below the floor

    def round(self) -> Round:
        """The round, once no more examples could change what it keeps."""
        while True:
            self._measure_open()
            leaders = self._leaders()
            unasked = [one.path for one in leaders if one.path not in self._admitted]
            if not unasked:
                break
            # One at a time, since asking may cost a measurement. One that is refused makes way for
            # candidates that had left.
            self._admitted[unasked[0]] = self._search.admits(unasked[0])
        tried = {path: one.candidate() for path, one in self._tallies.items() if one.values}
        refused = [path for path, is_admitted in self._admitted.items() if not is_admitted]
        kept = tuple(one.path for one in leaders)
        return Round(tried, kept, tuple(refused), self._origin.examples)

    def _hardest_first(
        self, batches: Sequence[Batch], above: Sequence[LayerPath]
    ) -> Sequence[Batch]:
        """The batches by the mean value that paths have on them, the lowest first."""
        found = outcomes_by_path(self._measure(above, batches)) if above else {}

        def value(batch: Batch) -> float:
            values = [
                self._search.value(of_path[example])
                for of_path in found.values()
                for example in batch.examples
                if example in of_path
            ]
            return fmean(values) if values else math.inf

        return sorted(batches, key=value)

    def _measure_open(self) -> None:
        """Measure the candidates that may yet be kept, until each is measured in full or left."""
        for batch in self._batches:
            self._ask([one for one in self._open() if batch not in one.asked], batch)
            remaining = self._open()
            if remaining:
                self._finish(max(remaining, key=self._promise))

    def _finish(self, one: Tally) -> None:
        """Measure a candidate on all batches, unless it turns out that it cannot be kept."""
        for batch in self._batches:
            if batch not in one.asked and self._may_be_kept(one):
                self._ask([one], batch)

    def _ask(self, tallies: Sequence[Tally], batch: Batch) -> None:
        if not tallies:
            return
        found = outcomes_by_path(self._measure([one.path for one in tallies], [batch]))
        for one in tallies:
            one.asked.add(batch)
            for example, outcome in found.get(one.path, {}).items():
                one.values[example] = self._search.value(outcome)
                one.scores[example] = outcome.score
            if len(one.asked) == len(self._batches) and one.values:
                candidate = one.candidate()
                if self._search.is_above_floor(candidate, self._origin):
                    self._finished.append(candidate)

    def _leaders(self) -> list[Candidate]:
        """The candidates that would be kept if the round ended now, the best first."""
        able = (one for one in self._finished if self._admitted.get(one.path, True))
        return sorted(able, key=self._rank, reverse=True)[: self._most]

    def _open(self) -> list[Tally]:
        """The candidates that may yet be kept and are not measured in full."""
        return [one for one in self._tallies.values() if self._may_be_kept(one)]

    def _bar(self) -> Candidate | None:
        """What a candidate must be better than to be kept; None where there is room."""
        leaders = self._leaders()
        return leaders[-1] if len(leaders) == self._most else None

    def _may_be_kept(self, one: Tally) -> bool:
        """Whether the examples that a candidate lacks may yet have it kept."""
        if len(one.asked) == len(self._batches):
            return False
        best, bar = self._at_best(one), self._bar()
        if not self._search.is_above_floor(best, self._origin):
            return False
        return bar is None or self._rank(best) > self._rank(bar)

    def _at_best(self, one: Tally) -> Candidate:
        """The candidate as it would be if all went well on the examples that it lacks."""
        return one.candidate(self._origin.examples - len(one.values), self._search.highest)

    def _rank(self, one: Candidate) -> tuple[float, int]:
        return one.value, -self._tallies[one.path].place

    def _promise(self, one: Tally) -> tuple[float, int]:
        """By what the candidate is found that is likely the best.

        Of equals that is the last, which is the cheapest: it shares the longest layer prefix.
        """
        return self._at_best(one).value, one.place
