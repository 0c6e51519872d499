"""TALE's search: greedy, training-free removal of layers, one a round.

Naim, Sharma, Barman, Asher: "TELL-TALE: Task Efficient LLMs with Task Aware Layer Elimination"
(arXiv 2510.22767), with the floor taken from the whole model and fixed, as its authors' code has
it. Where candidates are valued by accuracy and nothing is guarded, it is the published search to
the letter. Knows neither models nor examples: it is called with a measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from telltale.searches.found import Found, Round
from telltale.searches.search import Search, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath


@dataclass(frozen=True)
class GreedyRemoval(Search):
    """Leave out one layer a round: of the candidates that may be kept, the one of highest value.

    Its fields are those of every `Search`.
    """

    method: ClassVar[str] = "greedy removal"

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start``; ``watch`` is told of every round."""
        origin = self.origin(measure, batches, start)
        path, rounds = start, list[Round]()
        while candidates := self.children([path], start):
            done = self.decided(measure, batches, candidates, origin)
            rounds.append(done)
            watch(done)
            if not done.kept:
                break
            path = done.kept[0]
        return Found(origin, tuple(rounds))
