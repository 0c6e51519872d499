"""Likelihood: the mean log-probability of the right answer, in nats.

It sees by how much an answer is right or wrong, where accuracy sees only whether it is: more is
learned from as many examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telltale.measure import Outcome
    from telltale.tasks import Scoring


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-probability of the right choice among those offered; at most 0.

    Choices weigh as the task's scoring weighs them: in total, per token or per character. Where
    there is one alone, a reference answer, it is its log-likelihood per token.
    """

    name: str = "likelihood"
    fewest_choices: int = 1

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        """See `telltale.objectives.Objective`."""
        if len(outcome.choices) == 1:
            only = outcome.choices[0]
            return only.loglik / only.tokens
        merits = scoring.merits(outcome.choices)
        top = max(merits)
        if top == -math.inf:
            return top
        return merits[right] - top - math.log(sum(math.exp(merit - top) for merit in merits))
