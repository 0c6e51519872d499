"""What a search that removes one layer a round has found, and the models named on its path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.paths import LayerPath


@dataclass(frozen=True, slots=True)
class Round:
    """One round: every candidate by the layer it leaves out, and the one chosen.

    ``candidates`` are their accuracies, ``values`` what they were ranked by. ``accepted`` is false
    in the last round where no candidate may be kept; ``removed`` is then the best of all.
    ``guarded`` are those that would have been kept, had a guard not refused them.
    """

    removed: int
    accepted: bool
    candidates: Mapping[int, float]
    values: Mapping[int, float]
    guarded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A model on the path: the layers removed, in order of removal, and its worth.

    ``accuracy`` and ``value``, what it was ranked by, are on the search set.
    """

    removed: tuple[int, ...]
    path: LayerPath
    accuracy: float
    value: float


@dataclass(frozen=True, slots=True)
class Removal:
    """A finished search: where it started, and its rounds."""

    start: LayerPath
    baseline: float
    baseline_value: float
    rounds: tuple[Round, ...]

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Every model that was kept, the one at the start first, each a layer shallower."""
        models = [Kept((), self.start, self.baseline, self.baseline_value)]
        for done in self.rounds:
            if done.accepted:
                last = models[-1]
                models.append(
                    Kept(
                        (*last.removed, done.removed),
                        last.path.without(done.removed),
                        done.candidates[done.removed],
                        done.values[done.removed],
                    )
                )
        return tuple(models)

    @property
    def best(self) -> Kept:
        """BEST: the highest accuracy; of equals, the one with the fewest layers removed."""
        return max(self.kept, key=lambda model: (model.accuracy, -len(model.removed)))

    @property
    def bsba(self) -> Kept:
        """BSBA, best speedup with at least baseline accuracy: the fewest layers of those."""
        enough = [model for model in self.kept if model.accuracy >= self.baseline]
        return max(enough, key=lambda model: len(model.removed))
