"""Ablation: what leaving out one layer loses, and how two together differ from the sum.

The paths are measured exactly, on the same examples; the engine runs what they share once. Plain
numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from telltale.evidence.stats import CONFIDENCE, Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telltale.measure import Outcome
    from telltale.paths import LayerPath


class Loss(NamedTuple):
    """A mean over examples, in units of the value that was lost, and its interval."""

    loss: float
    interval: Interval


class PairLoss(NamedTuple):
    """What leaving out two layers loses.

    ``beyond`` is the loss less the sum of what each loses alone: above 0 where each stands in for
    the other, below where one is of no use without the other, or mends what it harms.
    """

    loss: float
    beyond: float
    interval: Interval  # of ``beyond``


@dataclass(frozen=True, slots=True)
class Ablation:
    """Losses against a path, by the layers left out of it.

    ``pairs`` has each pair once, the lower layer first. `matrix` has them as a table.
    """

    layers: tuple[int, ...]
    singles: Mapping[int, Loss]
    pairs: Mapping[tuple[int, int], PairLoss]

    @property
    def matrix(self) -> tuple[tuple[float | None, ...], ...]:
        """``beyond`` of each two of ``layers``, symmetric; None where there is no such pair."""
        return tuple(
            tuple(
                self.pairs[pair].beyond
                if (pair := (min(one, other), max(one, other))) in self.pairs
                else None
                for other in self.layers
            )
            for one in self.layers
        )


def single_removals(path: LayerPath) -> tuple[LayerPath, ...]:
    """A path without each of its layers; none where it has only one."""
    return tuple(path.without(layer) for layer in path.kept) if path.depth > 1 else ()


def pair_removals(path: LayerPath) -> tuple[LayerPath, ...]:
    """A path without each two of its layers; none where it has only two."""
    if path.depth < 3:
        return ()
    return tuple(path.without(one).without(other) for one, other in combinations(path.kept, 2))


def ablation(
    path: LayerPath,
    outcomes: Mapping[LayerPath, Mapping[int, Outcome]],
    value: Callable[[Outcome], float],
    clusters: Mapping[int, int] | None = None,
    confidence: float = CONFIDENCE,
) -> Ablation:
    """What is lost by leaving layers out of a path.

    Args:
        path: what is compared with.
        outcomes: its own and those of `single_removals`, by example; of pairs what there is of
            `pair_removals`, all or none.
        value: of an outcome, more being better, as `telltale.objectives.values_by` gives it.
        clusters: a number for each example, equal for those that share a passage.
        confidence: of the intervals, each by itself.
    """
    order = sorted(outcomes[path])
    together = None if clusters is None else [clusters[example] for example in order]

    def losses(without: LayerPath) -> list[float]:
        return [value(outcomes[path][one]) - value(outcomes[without][one]) for one in order]

    alone = {
        layer: losses(without)
        for layer, without in zip(path.kept, single_removals(path), strict=False)
    }
    pairs = {}
    for (one, other), without in zip(combinations(path.kept, 2), pair_removals(path), strict=False):
        if without in outcomes:
            both = losses(without)
            beyond = [c - a - b for a, b, c in zip(alone[one], alone[other], both, strict=True)]
            interval = mean_interval(beyond, together, confidence)
            pairs[one, other] = PairLoss(_mean(both), _mean(beyond), interval)
    singles = {
        layer: Loss(_mean(of_layer), mean_interval(of_layer, together, confidence))
        for layer, of_layer in alone.items()
    }
    return Ablation(path.kept, singles, pairs)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
