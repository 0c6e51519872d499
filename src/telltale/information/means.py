"""The mean of bits over examples, with its interval and its test. Plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from telltale.evidence.stats import Interval, clustering, two_sided
from telltale.information.folds import FOLDS

if TYPE_CHECKING:
    from collections.abc import Sequence

# By what the variance over examples is multiplied, since they are predicted by fits that have most
# of their examples in common (Nadeau and Bengio 2003): 1 + folds x left out / fitted to.
IN_COMMON = 1 + FOLDS / (FOLDS - 1)
IMAGINED = 1.0  # bits by which two imagined examples are off the mean, one above and one below


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

    Its variance is that of `clustering`, `IN_COMMON` times, with two more examples imagined, so
    that few examples which are all alike do not give an interval without width: another may be
    unlike them.

    Args:
        values: bits, one an example; at least two.
        clusters: equal numbers for examples that share a passage.
    """
    total = len(values)
    shared = clustering(values, clusters)
    mean = math.fsum(values) / total
    apart = math.fsum((one - mean) ** 2 for one in values) + 2 * IMAGINED**2
    error = math.sqrt(IN_COMMON * apart * shared.effect / (total * (total - 1)))
    # Of one example of n no predictor says more than log2(2n), nor that much less than nothing.
    return Mean(mean, error, min(shared.freedom, total - 1), 2 * math.log2(2 * total))
