"""Margin: the log-likelihood of the right choice over the best wrong one, in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.objectives.likelihood import FAINTEST, bounded

if TYPE_CHECKING:
    from telltale.measure import Outcome
    from telltale.tasks import Scoring


@dataclass(frozen=True, slots=True)
class Margin:
    """The right choice's log-likelihood minus that of the best wrong one.

    Both in total, per token or per character, as the task's scoring has it. Negative where the
    answer is wrong. Bounded on both sides as a likelihood is on its one.
    """

    name: str = "margin"
    fewest_choices: int = 2
    highest: float = -FAINTEST

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        """See `telltale.objectives.Objective`."""
        merits = scoring.merits(outcome.choices)
        if math.isnan(sum(merits)):
            return math.nan
        if merits[right] == -math.inf:
            return bounded(-math.inf, self.highest)
        wrong = max(merit for i, merit in enumerate(merits) if i != right)
        return bounded(merits[right] - wrong, self.highest)
