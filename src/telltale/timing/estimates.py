"""Medians of repeated timings, and of their ratios by pairs, with intervals. Plain numbers.

The interval of a median is that of order statistics (David and Nagaraja, Order Statistics, 2003,
section 7.1): of ``n`` independent values as many lie below the true median as heads fall in ``n``
throws of a coin, whatever their distribution. Timings are skewed, since a machine is at times
slower and never faster than it can be, so that neither a mean nor a normal interval would do.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
LEAST_REPEATS = 6  # of fewer, not even the least and the largest are an interval of 95%


class Estimate(NamedTuple):
    """A median, with its interval of at least 95%."""

    value: float
    low: float
    high: float


def median_of(values: Sequence[float]) -> Estimate:
    """The median of independent values, with the narrowest interval of order statistics.

    Raises:
        ValueError: there are fewer than `LEAST_REPEATS`.
    """
    ordered = sorted(values)
    cut = _values_beyond(len(ordered))
    return Estimate(median(ordered), ordered[cut], ordered[-1 - cut])


def ratio_of(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """How many times as much one of two pieces of work gives as the other, by pairs of repeats.

    The two of a pair were timed one after the other, so that a machine that is slow for a while is
    slow for both.
    """
    return median_of([a / b for a, b in zip(one, other, strict=True)])


def _values_beyond(count: int) -> int:
    """How many of the values lie outside of the interval, on each side."""
    beyond, tail = -1, 0.0
    while True:
        tail += math.comb(count, beyond + 1) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        beyond += 1
    if beyond < 0:
        raise ValueError(f"{count} values are too few for an interval of a median")
    return beyond
