"""How a study chooses: settings that change no outcome, and so may change between its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.evidence.stats import CONFIDENCE
from telltale.measure import accuracy, outcomes_by_path
from telltale.objectives import OBJECTIVES, Objective
from telltale.searches import GreedyRemoval
from telltale.searches.greedy import ROUNDING, admit_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from telltale.measure import Batch, Measure, Outcome
    from telltale.paths import LayerPath

MAX_LOSS = 0.03


@dataclass(frozen=True, slots=True)
class Settings:
    """The search's settings, and those of what is concluded from it.

    ``objective`` is what candidates are ranked by. ``tolerance``, ``max_removed`` and ``protected``
    are `GreedyRemoval`'s. ``max_loss`` is what the model that is called safe may lose, a share of
    the examples. ``confidence`` is that of intervals and of what is certified.
    """

    objective: Objective = OBJECTIVES["accuracy"]
    tolerance: float = 0.08
    max_removed: int | None = None
    protected: frozenset[int] = frozenset()
    max_loss: float = MAX_LOSS
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if not 0 <= self.max_loss < 1:
            raise InputError(
                f"`max_loss` {self.max_loss:g} makes no sense; give a share of the examples from "
                "0 to below 1, such as 0.03 for 3 points"
            )
        if not 0.5 <= self.confidence < 1:
            raise InputError(
                f"`confidence` {self.confidence:g} makes no sense; give a number from 0.5 to "
                "below 1, such as 0.95"
            )
        self.search(lambda outcome: outcome.score)  # refuses what it cannot search by

    def search(
        self,
        value: Callable[[Outcome], float],
        admits: Callable[[LayerPath], bool] = admit_all,
    ) -> GreedyRemoval:
        """The search; see there for ``value`` and ``admits``."""
        return GreedyRemoval(self.tolerance, self.max_removed, self.protected, value, admits)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": "greedy removal",
            "objective": self.objective.name,
            "tolerance": self.tolerance,
            "max_removed": self.max_removed,
            "protected": sorted(self.protected),
            "max_loss": self.max_loss,
            "confidence": self.confidence,
        }


def settings_from(document: Mapping[str, Any]) -> Settings | None:
    """The settings that a study's file has; None where its objective was a program of its own."""
    objective = OBJECTIVES.get(document["objective"])
    if objective is None:
        return None
    return Settings(
        objective,
        document["tolerance"],
        document["max_removed"],
        frozenset(document["protected"]),
        document["max_loss"],
        document["confidence"],
    )


def admits_by(
    batches: Sequence[Batch], most_loss: float, measure: Measure, start: LayerPath
) -> Callable[[LayerPath], bool]:
    """Whether a candidate is observed to lose no more on a guard's examples than is allowed there.

    Args:
        batches: the guard's examples.
        most_loss: how much may be lost, a share of them.
        measure: measures them.
        start: the whole model, that a loss is counted from.
    """

    def of(path: LayerPath) -> float:
        return accuracy(outcomes_by_path(measure([path], batches))[path].values())

    return lambda path: of(path) >= of(start) - most_loss - ROUNDING
