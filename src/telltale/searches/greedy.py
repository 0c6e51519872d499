"""TALE's search: greedy, training-free removal of layers, guided by accuracy alone.

Naim, Sharma, Barman, Asher: "TELL-TALE: Task Efficient LLMs with Task Aware Layer Elimination"
(arXiv 2510.22767), with the floor taken from the whole model and fixed, as its authors' code has
it. Knows neither models nor examples: it is called with a measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.measure import accuracies
from telltale.searches.removal import Removal, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath

# Accuracies are means of up to millions of scores: a true difference is larger than this, a
# rounding of `baseline - tolerance` is smaller.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class GreedyRemoval:
    """Leave out one layer a round, the one whose absence leaves the highest accuracy.

    ``tolerance`` is how far below the whole model's accuracy a kept model may fall, absolute, in
    [0, 1]. ``max_removed`` bounds the layers removed. ``protected`` layers always stay.
    """

    tolerance: float = 0.08
    max_removed: int | None = None
    protected: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InputError(
                f"--tolerance {self.tolerance:g} makes no sense; give a share of the examples "
                "from 0 to 1, such as 0.08 for 8 points"
            )
        if self.max_removed is not None and self.max_removed < 1:
            raise InputError(f"--max-removed {self.max_removed} removes nothing; give 1 or more")

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Removal:
        """Search from ``start``; ``watch`` is told of every round."""
        baseline = accuracies(measure, [start], batches)[start]
        floor = baseline - self.tolerance - ROUNDING
        path, rounds = start, list[Round]()
        while candidates := self.candidates(path, start):
            scores = accuracies(measure, list(candidates.values()), batches)
            # max() keeps the first of equals, which is the lowest layer.
            layer = max(candidates, key=lambda one: scores[candidates[one]])
            chosen = candidates[layer]
            rounds.append(
                Round(
                    removed=layer,
                    accepted=scores[chosen] >= floor,
                    candidates={one: scores[path] for one, path in candidates.items()},
                )
            )
            watch(rounds[-1])
            if not rounds[-1].accepted:
                break
            path = chosen
        return Removal(start=start, baseline=baseline, rounds=tuple(rounds))

    def candidates(self, path: LayerPath, start: LayerPath) -> dict[int, LayerPath]:
        """The paths with one more layer left out, by that layer, lowest first; none at the end."""
        removed = start.depth - path.depth
        if path.depth == 1 or (self.max_removed is not None and removed >= self.max_removed):
            return {}
        return {layer: path.without(layer) for layer in path.kept if layer not in self.protected}
