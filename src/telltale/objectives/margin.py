"""Margin: how far the right choice is ahead of the best wrong one, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telltale.measure import Outcome
    from telltale.tasks import Scoring


@dataclass(frozen=True, slots=True)
class Margin:
    """The right choice's log-likelihood less that of the best wrong one.

    Both in total, per token or per character, as the task's scoring has it. Negative where the
    answer is wrong.
    """

    name: str = "margin"
    fewest_choices: int = 2

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        """See `telltale.objectives.Objective`."""
        merits = scoring.merits(outcome.choices)
        best_wrong = max(merit for i, merit in enumerate(merits) if i != right)
        return merits[right] - best_wrong if merits[right] > -math.inf else -math.inf
