"""Likelihood: the mean log-probability of the right answer, in nats, bounded for each example.

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

# The least that one example may say: with 500 examples it moves a mean by 0.03. Without a bound one
# answer of probability 1e-300 moves the mean of 150 by 4.6 nats, and decides a round alone. By how
# much an answer is rarer than one in a million says little of a model.
FAINTEST = math.log(1e-6)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-probability of the right choice among those offered; from ``FAINTEST`` to 0.

    Choices weigh as the task's scoring weighs them: in total, per token or per character. Where
    there is one alone, a reference answer, it is its log-likelihood per token.
    """

    name: str = "likelihood"
    fewest_choices: int = 1
    highest: float = 0.0

    def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
        """See `telltale.objectives.Objective`."""
        if len(outcome.choices) == 1:
            only = outcome.choices[0]
            return bounded(only.loglik / only.tokens, self.highest)
        merits = scoring.merits(outcome.choices)
        top = max(merits)
        if top == -math.inf:
            return bounded(sum(merits), self.highest)
        spread = math.log(sum(math.exp(merit - top) for merit in merits))
        return bounded(merits[right] - top - spread, self.highest)


def bounded(nats: float, highest: float) -> float:
    """A value in nats, clipped to [``FAINTEST``, ``highest``]; NaN stays NaN, and is refused."""
    return nats if math.isnan(nats) else max(FAINTEST, min(highest, nats))
