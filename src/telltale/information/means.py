"""The mean of bits over examples, with its interval and its test. Plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from telltale.evidence.stats import Interval, clustering, two_sided

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """The mean of bits over examples, some of which share a cluster.

    Its variance is that of `clustering`, with two more examples imagined, so that few examples
    which are all alike do not give an interval without width: another may be unlike them.

    Args:
        values: bits, one an example; at least two.
        clusters: equal numbers for examples that share a passage.
    """
    total = len(values)
    shared = clustering(values, clusters)
    mean = math.fsum(values) / total
    apart = math.fsum((one - mean) ** 2 for one in values) + 2 * IMAGINED**2
    error = math.sqrt(apart * shared.effect / (total * (total - 1)))
    # Of one example of n no predictor says more than log2(2n), nor that much less than nothing.
    return Mean(mean, error, min(shared.freedom, total - 1), 2 * math.log2(2 * total))
