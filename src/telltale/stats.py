"""Intervals and tests for accuracies and for paired differences. Plain numbers; knows no outcomes.

All are score methods: they ask which true values are in keeping with what was seen, and so stay
right at the edges, where few examples differ or none, and a bootstrap or a normal approximation
does not. Examples that share a passage are told by their cluster, and count for less than as many
that share nothing (Rao and Scott 1992).
"""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


def two_sided(confidence: float) -> float:
    """How many standard deviations an interval goes to each side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def one_sided(confidence: float) -> float:
    """How many standard deviations a bound is away on its one side."""
    return NormalDist().inv_cdf(confidence)


def wilson(successes: float, total: float, confidence: float = CONFIDENCE) -> Interval:
    """The Wilson score interval for a proportion (Wilson 1927).

    For a mean of scores between 0 and 1 it is, if anything, too wide.

    Args:
        successes: how many are right; a sum of scores will do.
        total: of how many; need not be whole, where examples count for less.
        confidence: the share of such intervals that hold the true value.
    """
    z = two_sided(confidence)
    share = successes / total
    spread = z * math.sqrt(max(share * (1 - share), 0.0) / total + (z / (2 * total)) ** 2)
    scale = 1 + z**2 / total
    middle = share + z**2 / (2 * total)
    low, high = (middle - spread) / scale, (middle + spread) / scale
    # Rounding can miss the edges by one part in 1e16, where the bound is known exactly.
    return Interval(0.0 if successes <= 0 else low, 1.0 if successes >= total else high)


class Pairs(NamedTuple):
    """Differences of scores on the same examples, summed up for a score interval.

    ``mended`` and ``broken`` are examples that are right only after or only before, each counted as
    the part of an example that it is worth where examples share passages; ``total`` likewise.
    Where scores lie between 0 and 1, ``mended`` and ``broken`` are None. ``squares`` is the sum of
    the squared differences, ``square`` the mean of those that are not 0; 1 where all are.
    """

    gain: float
    total: float
    squares: float
    square: float
    mended: float | None
    broken: float | None


def pairs(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[int] | None = None
) -> Pairs:
    """Sum up two models' scores on the same examples.

    Args:
        before: each example's score in [0, 1] on the model compared with.
        after: the same examples' scores on the other model, in the same order.
        clusters: a number for each example, equal for those that share a passage.
    """
    differences = [a - b for b, a in zip(before, after, strict=True)]
    effect = design_effect(differences, clusters)
    whole = all(difference in (-1, 0, 1) for difference in differences)
    squares = sum(difference**2 for difference in differences)
    differing = sum(difference != 0 for difference in differences)
    return Pairs(
        gain=sum(differences) / len(differences),
        total=len(differences) / effect,
        squares=squares / effect,
        square=squares / differing if squares else 1.0,
        mended=sum(d > 0 for d in differences) / effect if whole else None,
        broken=sum(d < 0 for d in differences) / effect if whole else None,
    )


def design_effect(values: Sequence[float], clusters: Sequence[int] | None) -> float:
    """By how much clusters make the variance of a mean larger; never less than 1."""
    if clusters is None or len(set(clusters)) in (1, len(values)):
        return 1.0
    mean = sum(values) / len(values)
    together: dict[int, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        together[cluster] += value - mean
    apart = sum((value - mean) ** 2 for value in values)
    count = len(together)
    clustered = sum(total**2 for total in together.values()) * count / (count - 1)
    return max(1.0, clustered / apart) if apart else 1.0


def gain_interval(found: Pairs, confidence: float = CONFIDENCE) -> Interval:
    """The score interval for a gain in mean score on the same examples.

    Tango's (1998) for scores of 0 and 1; else that of the mean of the differences with two added,
    one up and one down, of the size that differences have (after Agresti and Min 2005).
    """
    z = two_sided(confidence)
    return Interval(_bound(found, z), _bound(found, -z))


def loses_at_most(found: Pairs, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper bound of the loss in mean score; negative where a gain is certain."""
    return -_bound(found, one_sided(confidence))


def _bound(found: Pairs, z: float) -> float:
    """The gain that what was seen is just ``z`` standard deviations above."""
    gain, total = found.gain, found.total
    if found.mended is None or found.broken is None:
        mean = gain * total / (total + 2)
        variance = max((found.squares + 2 * found.square) / (total + 2) - mean**2, 0.0)
        return max(-1.0, min(1.0, mean - z * math.sqrt(variance / (total + 2))))
    mended, broken = found.mended, found.broken

    def statistic(difference: float) -> float:
        return _tango(mended, broken, total, difference)

    # The statistic falls from positive to negative as the difference grows, through 0 at the gain.
    return _crossing(statistic, z, *((-1.0, gain) if z > 0 else (gain, 1.0)))


def _tango(mended: float, broken: float, total: float, difference: float) -> float:
    """(mended - broken - n d) over its standard deviation when the true difference is d."""
    # The maximum-likelihood share of broken pairs, given the difference (Tango 1998, section 3).
    a = 2.0 * total
    b = -mended - broken + (2 * total - mended + broken) * difference
    c = -broken * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = total * (2 * share + difference * (1 - difference))
    deviation = mended - broken - total * difference
    if variance <= 0:
        return math.copysign(math.inf, deviation) if deviation else 0.0
    return deviation / math.sqrt(variance)


def _crossing(statistic: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a falling function crosses ``level``, by bisection."""
    for _ in range(80):
        middle = (low + high) / 2
        if statistic(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
