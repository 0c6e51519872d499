"""Settings of a study: they choose among outcomes and change none, so they may change later."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED, RAW, check_scoring
from telltale.evidence.stats import CONFIDENCE
from telltale.evidence.targets import Targets, targets_from
from telltale.measure import accuracy, outcomes_by_path
from telltale.objectives import OBJECTIVES, Objective, highest_of
from telltale.searches import SEARCHES, Search, search_of
from telltale.searches.search import ROUNDING, Shortlist, admit_all, no_text, shortlist_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from telltale.measure import Batch, Measure, Outcome
    from telltale.paths import LayerPath

MAX_LOSS = 0.03


@dataclass(frozen=True, slots=True)
class Settings:
    """The search's settings, and those of what is concluded from it.

    ``objective`` is what candidates are ranked by. ``tolerance``, ``max_removed`` and ``protected``
    are those of every `Search`; ``search`` is the one that is run, with settings of its own,
    and ``speed`` how it measures candidates.
    ``max_loss`` is what the model that is called safe may lose, a share of the examples.
    ``confidence`` is that of intervals and of what is certified. ``scoring`` is how choices are
    judged (`telltale.evidence.calibration`): ``calibrated``, each candidate is measured in full,
    since its offsets are not known before. ``shortlist`` says which layers are tried.
    ``targets`` are what the model that is chosen may cost; they change neither the search nor what
    is claimed.
    """

    objective: Objective = OBJECTIVES["accuracy"]
    tolerance: float = 0.08
    max_removed: int | None = None
    protected: frozenset[int] = frozenset()
    max_loss: float = MAX_LOSS
    confidence: float = CONFIDENCE
    search: Search = SEARCHES["greedy"]
    speed: str = "exact"
    scoring: str = RAW
    shortlist: Shortlist | None = None
    targets: Targets = field(default_factory=Targets)

    def __post_init__(self) -> None:
        check_scoring(self.scoring)
        if self.scoring == CALIBRATED and self.speed == "fast":
            raise InputError(
                "`speed` fast judges candidates by some of the examples, and the offsets of "
                "`scoring` calibrated are of all; give `speed` exact or full, which are the same "
                "with it"
            )
        if self.scoring == CALIBRATED and self.speed == "exact":
            object.__setattr__(self, "speed", "full")
        if not 0 <= self.max_loss < 1:
            raise InputError(
                f"`max_loss` must be in [0, 1), got {self.max_loss:g}; it is a share of the "
                "examples, such as 0.03 for 3 points"
            )
        if not 0.5 <= self.confidence < 1:
            raise InputError(
                f"`confidence` must be in [0.5, 1), got {self.confidence:g}; give a number such as "
                "0.95"
            )
        self.bound(lambda outcome: outcome.score)  # refuses what it cannot search by

    def bound(
        self,
        value: Callable[[Outcome], float],
        admits: Callable[[LayerPath], bool] = admit_all,
        layer_scores: Mapping[str, Sequence[float]] | None = None,
        perplexity: Callable[[Sequence[LayerPath]], Mapping[LayerPath, float]] = no_text,
    ) -> Search:
        """The search with all that it is given; see `Search` for the arguments."""
        return replace(
            self.search,
            tolerance=self.tolerance,
            max_removed=self.max_removed,
            protected=self.protected,
            value=value,
            highest=highest_of(self.objective),
            admits=admits,
            layer_scores=layer_scores or {},
            speed=self.speed,
            shortlist=self.shortlist,
            perplexity=perplexity,
        )

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "method": self.search.method,
            **self.search.own_settings,
            "objective": self.objective.name,
            "tolerance": self.tolerance,
            "max_removed": self.max_removed,
            "protected": sorted(self.protected),
            "max_loss": self.max_loss,
            "confidence": self.confidence,
            "speed": self.speed,
            "scoring": self.scoring,
            **({} if self.shortlist is None else {"shortlist": str(self.shortlist)}),
            **self.targets.document(),
        }


def settings_from(document: Mapping[str, Any]) -> Settings | None:
    """The settings that a study's file has.

    None where its objective or its search was a program of its own.
    """
    objective = OBJECTIVES.get(document["objective"])
    search = search_of(document)
    if objective is None or search is None:
        return None
    return Settings(
        objective,
        document["tolerance"],
        document["max_removed"],
        frozenset(document["protected"]),
        document["max_loss"],
        document["confidence"],
        search,
        document.get("speed", "full"),  # before it could be chosen, all was measured in full
        document.get("scoring", RAW),
        shortlist_from(document["shortlist"]) if "shortlist" in document else None,
        targets_from(document),
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
