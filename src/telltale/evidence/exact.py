"""The exact test of a loss from two models' right and wrong answers on independent examples.

Of each example it is only counted whether it is mended (right after and not before), broken (right
before and not after) or neither. How often a test on such counts errs depends on how many answers
change at all, which nobody knows: the nuisance parameter. The p-value here is the largest over all
its values, of Tango's statistic (unconditional and exact; Barnard 1947, Berger and Sidik 2003), so
that a test at 5% errs in at most 5% of studies, whatever is true. Plain numbers; knows no outcomes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import bdtrc, gammaln, ndtri, xlog1py, xlogy

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Values of the nuisance parameter that are tried: over all of it, denser where few answers change
# and where nearly all do, and then around the largest.
COARSE, FINE = 100, 30
PRECISION = 1e-6  # of a bound, in mean score
TIE = 1e-9  # statistics closer than this are equal


@lru_cache(maxsize=65536)
def p_value(mended: int, broken: int, total: int, loss: float) -> float:
    """The exact p-value of the hypothesis that the model loses ``loss`` or more.

    Args:
        mended: examples that are right only after.
        broken: examples that are right only before.
        total: all examples; each is drawn by itself.
        loss: in mean score, between -1 and 1; negative for a gain.
    """
    least = _least_mended(float(statistic(mended, broken, total, -loss)), total, -loss)
    # Shares of broken examples; of those that are mended it is less by the loss.
    low, high = max(0.0, loss), (1 + loss) / 2
    shares = low + (high - low) * (1 - np.cos(np.linspace(0, np.pi, COARSE))) / 2
    found = _chances(least, total, loss, shares)
    top = int(found.argmax())
    around = np.linspace(shares[max(top - 1, 0)], shares[min(top + 1, COARSE - 1)], FINE)
    return min(1.0, float(max(found[top], _chances(least, total, loss, around).max())))


@lru_cache(maxsize=65536)
def loses_at_most(mended: int, broken: int, total: int, alpha: float) -> float:
    """The upper bound of the loss: the least loss that the test rejects at level ``alpha``."""
    # The p-value falls as the loss grows, and its quantile nearly in a line.
    low, high = max((broken - mended) / total, -1.0), 1.0
    at_low, at_high = _above(mended, broken, total, low, alpha), -5.0
    for step in range(60):
        if high - low < PRECISION:
            break
        # Regula falsi, and bisection every third time, where the quantile is no line.
        share = 0.5 if step % 3 == 2 else min(max(at_low / (at_low - at_high), 0.02), 0.98)
        middle = low + share * (high - low)
        above = _above(mended, broken, total, middle, alpha)
        if above > 0:
            low, at_low = middle, above
        else:
            high, at_high = middle, above
    return high


def _above(mended: int, broken: int, total: int, loss: float, alpha: float) -> float:
    """By how many standard deviations the p-value is above the level."""
    found = p_value(mended, broken, total, loss)
    if found <= 0 or found >= 1:
        return -5.0 if found <= 0 else 5.0
    return float(ndtri(found) - ndtri(alpha))


def _chances(least: NDArray[Any], total: int, loss: float, shares: NDArray[Any]) -> NDArray[Any]:
    """How likely the counts that ``least`` bounds are, for each share of broken examples."""
    count, of = np.arange(total + 1), shares[:, None]
    ways = gammaln(total + 1) - gammaln(count + 1) - gammaln(total - count + 1)
    of_broken = np.exp(ways + xlogy(count, of) + xlog1py(total - count, -of))
    mended_of_rest = np.clip((of - loss) / np.maximum(1 - of, 1e-300), 0, 1)
    rest = total - count
    some = bdtrc(np.clip(least - 1, 0, rest), rest, mended_of_rest)
    enough = np.where(least <= 0, 1.0, np.where(least > rest, 0.0, some))
    return np.asarray((of_broken * enough).sum(axis=1))


def statistic(mended: Any, broken: Any, total: float, difference: float) -> NDArray[Any]:
    """Tango's statistic (1998): (mended - broken - n d) over its standard deviation under d."""
    mended, broken = np.asarray(mended, float), np.asarray(broken, float)
    # The maximum-likelihood share of broken examples, given the difference (section 3).
    a = 2.0 * total
    b = -mended - broken + (2 * total - mended + broken) * difference
    c = -broken * difference * (1 - difference)
    share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = total * (2 * share + difference * (1 - difference))
    deviation = mended - broken - total * difference
    sure = np.where(np.abs(deviation) > TIE, np.copysign(math.inf, deviation), 0.0)
    possible = variance > 0
    return np.where(possible, deviation / np.sqrt(np.where(possible, variance, 1.0)), sure)


def _least_mended(level: float, total: int, difference: float) -> NDArray[Any]:
    """For each count of broken examples, the fewest mended whose statistic is ``level`` or more.

    One more than there can be, where no count of them is enough.
    """
    broken = np.arange(total + 1)
    low, high = np.full(total + 1, -1), total - broken + 1  # it rises with those mended
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = statistic(np.maximum(middle, 0), broken, total, difference) >= level - TIE
        wide = high - low > 1
        high = np.where(wide & enough, middle, high)
        low = np.where(wide & ~enough, middle, low)
    return high
