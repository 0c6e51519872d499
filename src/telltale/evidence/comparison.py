"""A shallower model against the whole one, on the same examples. Made of outcomes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from telltale.evidence.stats import (
    CONFIDENCE,
    Interval,
    Pairs,
    clustering,
    gain_interval,
    loses_at_most,
    pairs,
    risk,
    wilson,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from telltale.measure import Outcome


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model's accuracy, and its gain over the whole model's on the same examples.

    All are shares, such as 0.03 for 3 points. ``loses_at_most`` is one-sided, and negative where a
    gain is shown. ``counts`` is what `generation_counts` gives. ``pairs`` is what they were made
    of; None where they were read from a document.
    """

    accuracy: float
    interval: Interval
    gain: float
    gain_interval: Interval
    loses_at_most: float
    examples: int
    pairs: Pairs | None = field(default=None, repr=False, compare=False)
    counts: Mapping[str, int] = field(default_factory=dict)

    def risk(self, loss: float) -> float:
        """The p-value of its losing ``loss`` or more: small where it is shown to lose less.

        Raises:
            ValueError: it was read from a document, which does not hold what this is made of.
        """
        if self.pairs is None:
            raise ValueError("a comparison that was read has no pairs; compare the outcomes again")
        return risk(self.pairs, loss)


def compare(
    whole: Mapping[int, Outcome],
    shallower: Mapping[int, Outcome],
    clusters: Mapping[int, int] | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two models by their outcomes, each by example.

    Args:
        whole: the whole model's.
        shallower: the other's, on the same examples.
        clusters: a number for each example, equal for those that share a passage.
        confidence: of the intervals, and of the bound.
    """
    order = sorted(whole)
    before = [whole[example].score for example in order]
    after = [shallower[example].score for example in order]
    together = None if clusters is None else [clusters[example] for example in order]
    found = pairs(before, after, together)
    # The whole model against itself has no gain for certain, whatever the number of examples.
    certain = whole is shallower
    return Comparison(
        accuracy=sum(after) / len(after),
        interval=wilson(sum(after), len(after), confidence, clustering(after, together)),
        gain=found.gain,
        gain_interval=Interval(0.0, 0.0) if certain else gain_interval(found, confidence),
        loses_at_most=0.0 if certain else loses_at_most(found, confidence),
        examples=len(order),
        pairs=found,
        counts=generation_counts(shallower.values()),
    )


def generation_counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many texts held no answer, and how many the token limit cut off; nothing for choices."""
    texts = [outcome for outcome in outcomes if outcome.generated is not None]
    if not texts:
        return {}
    return {
        "unparsable": sum(outcome.answer is None for outcome in texts),
        "cut_off": sum(one.generated.cut_off for one in texts if one.generated is not None),
    }
