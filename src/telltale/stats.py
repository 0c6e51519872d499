"""Intervals for accuracies and for paired differences. Plain numbers; knows no outcomes.

Examples are taken to be independent: those that share a passage are not told apart here, which
makes intervals somewhat too narrow where many do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Z_95 = 1.959963984540054  # the 97.5% point of the normal distribution


class Interval(NamedTuple):
    """A two-sided 95% confidence interval."""

    low: float
    high: float


def wilson(successes: float, total: int) -> Interval:
    """The Wilson score interval for a proportion (Wilson 1927)."""
    share = successes / total
    spread = Z_95 * math.sqrt(share * (1 - share) / total + (Z_95 / (2 * total)) ** 2)
    scale = 1 + Z_95**2 / total
    middle = share + Z_95**2 / (2 * total)
    low, high = (middle - spread) / scale, (middle + spread) / scale
    # Rounding can miss the edges by one part in 1e16, where the bound is known exactly.
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == total else high)


def paired_gain(before: Sequence[float], after: Sequence[float]) -> tuple[float, Interval]:
    """The gain in mean score on the same examples, and its 95% score interval (Tango 1998).

    The interval keeps its coverage where few or no examples differ, which a bootstrap does not.

    Args:
        before: each example's score, 0 or 1, on the model compared with.
        after: the same examples' scores on the other model, in the same order.
    """
    total = len(before)
    mended = sum(b < a for b, a in zip(before, after, strict=True))
    broken = sum(b > a for b, a in zip(before, after, strict=True))
    return (mended - broken) / total, tango(mended, broken, total)


def tango(mended: int, broken: int, total: int) -> Interval:
    """Tango's score interval for the difference ``(mended - broken) / total``.

    Args:
        mended: pairs that are right only in the second model.
        broken: pairs that are right only in the first.
        total: all pairs.
    """
    gain = (mended - broken) / total

    def statistic(difference: float) -> float:
        return _tango_statistic(mended, broken, total, difference)

    # The statistic falls from positive to negative as the difference grows, through 0 at the gain.
    return Interval(
        low=_crossing(statistic, Z_95, -1.0, gain), high=_crossing(statistic, -Z_95, gain, 1.0)
    )


def _tango_statistic(mended: int, broken: int, total: int, difference: float) -> float:
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
