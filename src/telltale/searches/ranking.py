"""Removal by ranking: layers are left out in the order of a score, as rivals of TALE do.

What rivals do who measure layers and not models: ShortGPT ranks layers by how little they change
their input (arXiv 2403.03853). Accuracy only says where to stop. Knows neither models nor examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from telltale.searches.found import Found, Round
from telltale.searches.search import Search, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath


@dataclass(frozen=True)
class RankedRemoval(Search):
    """Leave out one layer a round, that of the lowest score, as long as the model may be kept.

    ``score`` names the score of layers, of which a higher one is of a layer that is needed more. Of
    equals the lowest layer goes first.
    """

    score: str = "block-influence"

    method: ClassVar[str] = "ranked removal"

    @property
    def needs(self) -> tuple[Any, ...]:
        """The score it ranks by."""
        return (self.score,)

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start``; ``watch`` is told of every round."""
        scores = self.layer_scores[self.score]
        origin = self.origin(measure, batches, start)
        path, rounds = start, list[Round]()
        while candidates := self.children([path], start):
            next_path = min(
                candidates, key=lambda one: scores[next(iter(set(path.kept) - set(one.kept)))]
            )
            tried = self.measured(measure, batches, {next_path: path})
            done = self.chosen(tried, origin)
            rounds.append(done)
            watch(done)
            if not done.kept:
                break
            path = done.kept[0]
        return Found(origin, tuple(rounds))
