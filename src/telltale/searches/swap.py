"""Greedy removal with swaps: a layer is put back for another one, until nothing gains.

Greedy removal never takes back what it has done, though a layer that was the best to leave out
alone may not be so beside the others. Knows neither models nor examples: it is called with a
measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from telltale.paths import LayerPath
from telltale.searches.found import Found, Round
from telltale.searches.search import Search, Steps, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure


@dataclass(frozen=True)
class SwapRemoval(Search):
    """After each removal one layer is put back and another left out, as long as that gains.

    Of the layers left out the one is put back without which the model is best, but for those that
    give a model whose children were tried already; then the best other one is left out. That is
    done again while the value rises. After the floating search of Pudil, Novovicova and Kittler
    (1994), which puts back only what gains by itself.
    """

    method: ClassVar[str] = "greedy removal with swaps"

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start``; ``watch`` is told of every round."""
        steps = Steps(self, measure, batches, start, watch)
        tried: set[LayerPath] = set()  # those whose children were tried

        def swapped(path: LayerPath) -> LayerPath | None:
            """The best other path that has as many layers, one of them put back."""
            back = {put_back(path, one): path for one in left_out(path, start)}
            back = {longer: path for longer in back if longer not in tried and longer != start}
            longer = steps.best_of(back) if back else None
            if longer is None:
                return None
            tried.add(longer)
            others = self.children([longer], start)
            others.pop(path, None)
            return steps.best_of(others) if others else None

        path: LayerPath | None = start
        while path is not None and (candidates := self.children([path], start)):
            tried.add(path)
            path = steps.best_of(candidates)
            while path is not None:
                other = swapped(path)
                if other is None or not steps.is_better(other, path):
                    break
                path = other
        return Found(steps.origin, tuple(steps.rounds))


def left_out(path: LayerPath, start: LayerPath) -> tuple[int, ...]:
    """The layers that a path lacks and ``start`` has."""
    return tuple(layer for layer in start.kept if layer not in path.kept)


def put_back(path: LayerPath, layer: int) -> LayerPath:
    """A path with one more layer."""
    return LayerPath(tuple(sorted((*path.kept, layer))), path.total)
