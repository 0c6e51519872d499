"""Intervals and tests for accuracies and for paired differences. Plain numbers; knows no outcomes.

Which one is taken follows from the data:

- Scores of 0 and 1, every example by itself: the exact test (`telltale.evidence.exact`), inverted.
- Scores between 0 and 1: Gaffke's bound, on clusters (`telltale.evidence.bounded`).
- Scores of 0 and 1, examples that share a passage: the same bound, or if it is wider that of the
  test's statistic, Tango's (1998), with examples counted for less by their design effect (Rao and
  Scott 1992), against Student's t with as many degrees of freedom as there are clusters of equal
  size, less one. The design effect alone is blind where few clusters are lost as wholes, since a
  sample may show none of them.

A score method asks which true values are in keeping with what was seen, and so stays right at the
edges, where few examples differ or none, and a bootstrap or a normal approximation does not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.95
ALONE = math.inf  # degrees of freedom where every example stands by itself


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class Clustering(NamedTuple):
    """The effect on a mean of examples that share passages.

    ``effect`` is by how much they enlarge its variance, never less than 1. ``freedom`` is on how
    many independent differences that rests: clusters less one, those of unequal sizes counted as
    fewer; 0 where all share one passage, `ALONE` where nothing is shared.
    """

    effect: float
    freedom: float


APART = Clustering(1.0, ALONE)  # nothing is shared


def two_sided(confidence: float, freedom: float = ALONE) -> float:
    """The half-width of a two-sided interval in standard errors."""
    return quantile((1 + confidence) / 2, freedom)


def one_sided(confidence: float, freedom: float = ALONE) -> float:
    """The distance of a one-sided bound in standard errors."""
    return quantile(confidence, freedom)


def quantile(share: float, freedom: float = ALONE) -> float:
    """The quantile of Student's t; of the normal distribution with infinite degrees of freedom."""
    if freedom == ALONE:
        return NormalDist().inv_cdf(share)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the same order.

    Where each that is at most 5% is taken for a finding, the chance that any is false is at most
    5%, however they depend on each other.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, least = [0.0] * len(order), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def clustering(values: Sequence[float], clusters: Sequence[int] | None) -> Clustering:
    """The effect of clusters on the mean of these values.

    The variance is the jackknife's, which leaves out one cluster after the other (CR3; Bell and
    McCaffrey 2002), and clusters of unequal sizes count as fewer, (sum of sizes)^2 / sum of their
    squares (Kish 1965).

    Args:
        values: one an example.
        clusters: a number for each example, equal for those that share a passage; None where
            nothing is shared.
    """
    together: dict[int, list[float]] = defaultdict(list)
    for index, value in enumerate(values):
        together[index if clusters is None else clusters[index]].append(value)
    total, count = len(values), len(together)
    if count == total:
        return APART
    if count == 1:  # one passage is one observation: nothing is known of others
        return Clustering(float(total), 0.0)
    mean = math.fsum(values) / total
    alike = total**2 / sum(len(own) ** 2 for own in together.values())
    apart = math.fsum((value - mean) ** 2 for value in values)
    if not apart:  # nothing is seen of how clusters differ, so each counts as one example
        return Clustering(total / alike, alike - 1)
    left_out = [
        math.fsum(value - mean for value in own) / (1 - len(own) / total)
        for own in together.values()
    ]
    clustered = math.fsum(one**2 for one in left_out) * (count - 1) / count
    return Clustering(max(1.0, clustered / apart), alike - 1)


class Mean(NamedTuple):
    """A mean, its standard error, and the degrees of freedom of that; of none it has no error."""

    value: float
    error: float
    freedom: float


def mean_of(
    values: Sequence[float], clusters: Sequence[int] | None = None, inflation: float = 1.0
) -> Mean:
    """The mean of numbers without bounds, with its error.

    Two more examples are imagined, one a unit above the mean and one below, so that few examples
    which are all alike do not give an error of nothing: another may be unlike them.

    Args:
        values: one an example.
        clusters: a number for each example, equal for those that share a passage.
        inflation: by what the variance over examples is multiplied.
    """
    total = len(values)
    shared = clustering(values, clusters)
    mean = math.fsum(values) / total
    freedom = min(shared.freedom, total - 1)
    if not freedom:
        return Mean(mean, math.inf, 0)
    apart = math.fsum((value - mean) ** 2 for value in values) + 2
    error = math.sqrt(inflation * apart * shared.effect / (total * (total - 1)))
    return Mean(mean, error, freedom)


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[int] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The two-sided interval for a mean of numbers without bounds, by Student's t.

    Args:
        values: one an example.
        clusters: a number for each example, equal for those that share a passage.
        confidence: the share of such intervals that hold the true mean.
    """
    found = mean_of(values, clusters)
    if not found.freedom:
        return Interval(-math.inf, math.inf)
    reach = two_sided(confidence, found.freedom) * found.error
    return Interval(found.value - reach, found.value + reach)


def wilson(
    successes: float,
    total: float,
    confidence: float = CONFIDENCE,
    shared: Clustering = APART,
) -> Interval:
    """The Wilson score interval for a proportion (Wilson 1927).

    For a mean of scores between 0 and 1 it is, if anything, too wide.

    Args:
        successes: how many are right; a sum of scores will do.
        total: of how many.
        confidence: the share of such intervals that hold the true value.
        shared: what examples that share passages do to it.
    """
    if not shared.freedom:
        return Interval(0.0, 1.0)
    z = two_sided(confidence, shared.freedom)
    share, count = successes / total, total / shared.effect
    spread = z * math.sqrt(max(share * (1 - share), 0.0) / count + (z / (2 * count)) ** 2)
    scale = 1 + z**2 / count
    middle = share + z**2 / (2 * count)
    low, high = (middle - spread) / scale, (middle + spread) / scale
    # Rounding can miss the edges by one part in 1e16, where the bound is known exactly.
    return Interval(0.0 if successes <= 0 else low, 1.0 if successes >= total else high)


class Pairs(NamedTuple):
    """Two models' scores on the same examples, summarized for intervals and tests.

    ``mended`` and ``broken`` are how many examples are right only after or only before, of
    ``total``; None where scores lie between 0 and 1. There, and where examples share passages,
    ``differences`` has each example's gain with its cluster, in order.
    """

    gain: float
    total: int
    mended: int | None
    broken: int | None
    shared: Clustering = APART
    differences: tuple[tuple[int, float], ...] = ()


def pairs(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[int] | None = None
) -> Pairs:
    """Summarize two models' scores on the same examples.

    Args:
        before: each example's score in [0, 1] on the model compared with.
        after: the same examples' scores on the other model, in the same order.
        clusters: a number for each example, equal for those that share a passage.
    """
    gains = [a - b for b, a in zip(before, after, strict=True)]
    total, gain = len(gains), math.fsum(gains) / len(gains)
    shared = clustering(gains, clusters)
    mended, broken = sum(one > 0 for one in gains), sum(one < 0 for one in gains)
    marks = any(one not in (0, 1) for one in (*before, *after))
    if not marks and shared == APART:
        return Pairs(gain, total, mended, broken)
    together = range(total) if clusters is None else clusters
    differences = tuple(sorted(zip(together, gains, strict=True)))
    if marks:
        return Pairs(gain, total, None, None, shared, differences)
    return Pairs(gain, total, mended, broken, shared, differences)


def gain_interval(found: Pairs, confidence: float = CONFIDENCE) -> Interval:
    """The two-sided interval for a gain in mean score on the same examples."""
    alpha = (1 - confidence) / 2
    return Interval(-_loses_at_most(found, alpha), _loses_at_most(_reversed(found), alpha))


def loses_at_most(found: Pairs, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper bound of the loss in mean score; negative where a gain is shown."""
    return _loses_at_most(found, 1 - confidence)


def risk(found: Pairs, loss: float) -> float:
    """The p-value of the hypothesis that the model loses ``loss`` or more."""
    if not found.shared.freedom:
        return 1.0
    if found.mended is not None and found.broken is not None and found.shared.freedom == ALONE:
        from telltale.evidence import exact

        return exact.p_value(found.mended, found.broken, found.total, loss)
    return max(_risk_of_marks(found, loss), _risk_by_effect(found, loss))


def _risk_of_marks(found: Pairs, loss: float) -> float:
    from telltale.evidence import bounded

    if not found.differences:
        return 0.0
    return bounded.p_value(*bounded.sums_of(*_columns(found)), -loss, -1.0)


def _risk_by_effect(found: Pairs, loss: float) -> float:
    from scipy.special import stdtr

    if found.mended is None:
        return 0.0
    return 1 - float(stdtr(found.shared.freedom, _tango(found, -loss)))


def _reversed(found: Pairs) -> Pairs:
    """The same examples, with the two models changing places."""
    gains = tuple((cluster, -gain) for cluster, gain in found.differences)
    return found._replace(
        gain=-found.gain, mended=found.broken, broken=found.mended, differences=gains
    )


def _loses_at_most(found: Pairs, alpha: float) -> float:
    """The upper bound of the loss, below it in ``alpha`` of sets."""
    if not found.shared.freedom:
        return 1.0
    if found.mended is not None and found.broken is not None and found.shared.freedom == ALONE:
        from telltale.evidence import exact

        return exact.loses_at_most(found.mended, found.broken, found.total, alpha)
    bounds = []
    if found.differences:
        from telltale.evidence import bounded

        bounds.append(-bounded.lower_bound(*_columns(found), -1.0, alpha))
    if found.mended is not None:
        z = quantile(1 - alpha, found.shared.freedom)
        # The statistic falls as the difference grows, and is 0 at the gain.
        bounds.append(-_crossing(lambda difference: _tango(found, difference), z, -1.0, found.gain))
    return max(bounds)


def _columns(found: Pairs) -> tuple[NDArray[Any], NDArray[Any]]:
    """The differences and their clusters as arrays."""
    import numpy as np

    clusters, gains = zip(*found.differences, strict=True)
    return np.array(gains), np.array(clusters)


def _tango(found: Pairs, difference: float) -> float:
    """How many standard errors the gain is above a true difference."""
    from telltale.evidence.exact import statistic

    assert found.mended is not None
    assert found.broken is not None
    effect = found.shared.effect
    counts = found.mended / effect, found.broken / effect, found.total / effect
    return float(statistic(*counts, difference))


def _crossing(statistic: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a falling function crosses ``level``, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        if statistic(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2
