"""The mean of bits over examples, with its interval and its test. Plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from telltale.evidence import stats
from telltale.evidence.stats import Interval, two_sided
from telltale.information.folds import FOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence

# By what the variance over examples is multiplied, since they are predicted by fits that have most
# of their examples in common (Nadeau and Bengio 2003): 1 + folds x left out / fitted to.
IN_COMMON = 1 + FOLDS / (FOLDS - 1)


class Mean(NamedTuple):
    """A mean of bits, its standard error, and the degrees of freedom of that."""

    bits: float
    error: float
    freedom: float
    most: float

    def interval(self, confidence: float) -> Interval:
        """The two-sided interval by Student's t, no wider than what is possible."""
        reach = min(two_sided(confidence, self.freedom) * self.error, self.most)
        return Interval(self.bits - reach, self.bits + reach)

    @property
    def p_value(self) -> float:
        """Of the hypothesis that the true mean is 0, two-sided."""
        from scipy.special import stdtr

        return min(1.0, 2 * float(stdtr(self.freedom, -abs(self.bits) / self.error)))


def mean_of(values: Sequence[float], clusters: Sequence[int]) -> Mean:
    """The mean over examples of bits that were found out of fold.

    Its variance is that of `telltale.evidence.stats.mean_of`, `IN_COMMON` times.

    Args:
        values: bits, one an example; at least two.
        clusters: equal numbers for examples that share a passage.
    """
    found = stats.mean_of(values, clusters, IN_COMMON)
    # Of one example of n no predictor says more than log2(2n), nor that much less than nothing.
    return Mean(*found, 2 * math.log2(2 * len(values)))
