"""Accuracy: the mean score, by which the published method chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telltale.measure import Outcome
    from telltale.tasks import Scoring


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The score: 1 for a right answer, 0 for a wrong one, or a scorer's value between."""

    name: str = "accuracy"
    fewest_choices: int = 0
    highest: float = 1.0

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:  # noqa: ARG002
        """See `telltale.objectives.Objective`."""
        return outcome.score
