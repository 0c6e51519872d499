"""Bounds of the mean of scores between known limits, for any distribution.

A scorer's marks may be anything from 0 to 1. Where few examples lose all, so that a small set may
show none of them, an interval from the sample's variance misses the true loss far too often.
Gaffke's bound (2005; Learned-Miller and Thomas 2019, arXiv 1905.06208) does not: one example more
is thought of, which lies at the limit, and all are weighed at random, evenly over all weights. For
scores of 0 and 1 it is that of Clopper and Pearson, which is exact; for others no distribution is
known for which it fails, and none may be proven not to exist. Plain numbers; knows no outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP, FIRST, LAST = 0.1, -40.0, 60.0  # of the integral, in the logarithm of its variable
BISECTIONS = 45


def p_value(sums: NDArray[Any], sizes: NDArray[Any], mean: float, low: float) -> float:
    """The p-value of the hypothesis that the true mean is ``mean`` or less.

    Args:
        sums: of each cluster's values, (clusters,); a value alone is a cluster of its own.
        sizes: how many values each has, (clusters,).
        mean: of the values, over as many as there are.
        low: the least that a value can be.
    """
    beyond = sizes.max() * (low - mean)
    deviations, counts = np.unique(np.append(sums - sizes * mean, beyond), return_counts=True)
    return _below_zero(deviations, counts)


def lower_bound(values: NDArray[Any], clusters: NDArray[Any], low: float, alpha: float) -> float:
    """The lower confidence bound of the true mean at level ``alpha``.

    Args:
        values: (examples,), none of them less than ``low``.
        clusters: (examples,), equal numbers for values that were drawn together.
        low: the least that a value can be.
        alpha: how often the bound may be above the true mean.
    """
    sums, sizes = sums_of(values, clusters)
    below, above = low, float(sums.sum() / sizes.sum())
    for _ in range(BISECTIONS):
        middle = (below + above) / 2
        if p_value(sums, sizes, middle, low) > alpha:
            above = middle
        else:
            below = middle
    return below


def sums_of(values: NDArray[Any], clusters: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each cluster's sum and size, in an order that does not depend on that of the values."""
    order = np.lexsort((values, clusters))
    _, starts, sizes = np.unique(clusters[order], return_index=True, return_counts=True)
    return np.add.reduceat(values[order], starts), sizes


def _below_zero(weights: NDArray[Any], counts: NDArray[Any]) -> float:
    """P(sum of w E <= 0), E independent and exponential, by its characteristic function.

    Gil-Pelaez' integral, in the logarithm of its variable, where the trapezoidal rule converges
    exponentially.
    """
    kept = weights != 0
    weights, counts = weights[kept], counts[kept]
    if (weights >= 0).all() or (weights <= 0).all():
        return float((weights <= 0).all())
    scaled = weights / np.abs(weights).max()  # first, so that no square of them vanishes
    scaled = scaled / np.sqrt((counts * scaled**2).sum())
    angle = scaled[:, None] * np.exp(np.arange(FIRST, LAST, STEP))
    size = np.exp(-0.5 * counts @ np.log1p(angle**2))
    return float(0.5 - STEP * (size * np.sin(counts @ np.arctan(angle))).sum() / np.pi)
