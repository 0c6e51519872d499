"""TALE's search: greedy, training-free removal of layers, one a round.

Naim, Sharma, Barman, Asher: "TELL-TALE: Task Efficient LLMs with Task Aware Layer Elimination"
(arXiv 2510.22767), with the floor taken from the whole model and fixed, as its authors' code has
it. Where candidates are valued by accuracy and nothing is guarded, it is the published search to
the letter. Knows neither models nor examples: it is called with a measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from telltale.errors import InputError
from telltale.measure import accuracy, outcomes_by_path
from telltale.searches.removal import Removal, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure, Outcome
    from telltale.paths import LayerPath

# Accuracies are means of up to millions of scores: a true difference is larger than this, a
# rounding of `baseline - tolerance` is smaller.
ROUNDING = 1e-9


class Worth(NamedTuple):
    """What a path is worth on the search set: its accuracy, and the mean value of its outcomes."""

    accuracy: float
    value: float


def score_of(outcome: Outcome) -> float:
    """An outcome valued by its score, so that the mean value is the accuracy."""
    return outcome.score


def admit_all(_: LayerPath) -> bool:
    """No guard."""
    return True


@dataclass(frozen=True, slots=True)
class GreedyRemoval:
    """Leave out one layer a round: of the candidates that may be kept, the one of highest value.

    ``tolerance`` is how far below the whole model's accuracy a kept model may fall, absolute, in
    [0, 1], whatever candidates are valued by. ``max_removed`` bounds the layers removed.
    ``protected`` layers always stay. ``value`` gives an outcome its worth. ``admits`` says whether
    a candidate may be kept for other reasons than its accuracy; it is asked of as few as possible.
    """

    tolerance: float = 0.08
    max_removed: int | None = None
    protected: frozenset[int] = frozenset()
    value: Callable[[Outcome], float] = score_of
    admits: Callable[[LayerPath], bool] = admit_all

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InputError(
                f"`tolerance` {self.tolerance:g} makes no sense; give a share of the examples "
                "from 0 to 1, such as 0.08 for 8 points"
            )
        if self.max_removed is not None and self.max_removed < 1:
            raise InputError(f"`max_removed` {self.max_removed} removes nothing; give 1 or more")

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Removal:
        """Search from ``start``; ``watch`` is told of every round."""
        whole = self.worth(measure, [start], batches)[start]
        path, rounds = start, list[Round]()
        while candidates := self.candidates(path, start):
            worth = self.worth(measure, list(candidates.values()), batches)
            done = self._round(candidates, worth, whole.accuracy - self.tolerance - ROUNDING)
            rounds.append(done)
            watch(done)
            if not done.accepted:
                break
            path = candidates[done.removed]
        return Removal(start, whole.accuracy, whole.value, tuple(rounds))

    def candidates(self, path: LayerPath, start: LayerPath) -> dict[int, LayerPath]:
        """The paths with one more layer left out, by that layer, lowest first; none at the end."""
        removed = start.depth - path.depth
        if path.depth == 1 or (self.max_removed is not None and removed >= self.max_removed):
            return {}
        return {layer: path.without(layer) for layer in path.kept if layer not in self.protected}

    def _round(
        self, candidates: dict[int, LayerPath], worth: dict[LayerPath, Worth], floor: float
    ) -> Round:
        """The best of the candidates that may be kept; where none may, the best of all."""
        of_layers = {layer: worth[path] for layer, path in candidates.items()}
        # Sorting keeps equals in their order, so that the lowest layer is the first of them.
        ranked = sorted(of_layers, key=lambda layer: -of_layers[layer].value)
        refused: list[int] = []
        chosen = None
        for layer in ranked:
            if of_layers[layer].accuracy < floor:
                continue
            if self.admits(candidates[layer]):
                chosen = layer
                break
            refused.append(layer)
        return Round(
            removed=ranked[0] if chosen is None else chosen,
            accepted=chosen is not None,
            candidates={layer: one.accuracy for layer, one in of_layers.items()},
            values={layer: one.value for layer, one in of_layers.items()},
            guarded=tuple(refused),
        )

    def worth(
        self, measure: Measure, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> dict[LayerPath, Worth]:
        """What each path is worth."""
        found = outcomes_by_path(measure(paths, batches))
        worth = {}
        for path in paths:
            outcomes = found[path].values()
            values = [self.value(outcome) for outcome in outcomes]
            # An exact sum is the same in whatever order outcomes come.
            worth[path] = Worth(accuracy(outcomes), math.fsum(values) / len(values))
        return worth
