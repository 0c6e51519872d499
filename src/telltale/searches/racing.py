"""Racing: a round's candidates on more and more examples, until none of the rest can matter.

A candidate's gain on an example is its value less its parent's. The parent was measured on the
whole search set, and the winner will be; so what is said of a round, that no candidate is better
than the winner by more than so much, can only be wrong where the upper bound of one candidate, the
truly best, is below its mean. That it holds for this one is enough: the error is not divided among
candidates. There are two bounds of a mean gain after n of N examples, drawn at random without
replacement.

Where gains have narrow limits, as those of scores from 0 to 1: by betting against each mean that
the gains of all examples may have, on what is not drawn yet (Waudby-Smith and Ramdas, "Estimating
means of bounded random variables by betting", 2024, arXiv 2010.09686, section 5). It is proven for
any values and any number of looks.

Else Student's, with the variance of a sample from N (Cochran, "Sampling Techniques", 1977, 2.6):

    mean + t s sqrt(1/n - 1/N).

Over looks the means are a Gaussian walk with information 1 / (1/n - 1/N), for which one critical
value holds at all of them (Pocock 1977; by the integration of Armitage, McPherson and Rowe 1969);
``t`` is the quantile at its level for a sample of n (Jennison and Turnbull 2000, 3.8). ``s`` is
never less than that of the median candidate: a gain that rests on few examples may show none of
them in a small sample, which would make the bound too sure. This is a bound for large samples: it
is not proven for small ones, and it fails where all that is gained is gained on a few examples in a
hundred. How often it fails is shown by `benchmarks/racing.py`, on real outcomes and on made ones.
What is proven for values with wide limits, by betting or by Serfling's and Bernstein's inequalities
(Bardenet and Maillard 2015, arXiv 1309.4029), is tried there too: with some hundred examples it
lets few candidates leave, or none. Plain numbers; knows no paths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, stdtrit

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

PROBABILITY = 0.95  # of what is said of one round
ERRORS = 4.0  # how much better another may be, in standard errors of a gain on the whole set
WEIGHT = 20  # how many examples the median candidate's variance counts for, beside one's own
LATEST = 0.75  # of the examples, at which candidates are compared before all are measured
# Of bets: how many values a mean is tried at; the most that a bet may lose of what one has; and for
# which share of the examples they are best. The variance of shares is at first taken to be this,
# which counts as much as so many examples.
MEANS, MOST_STAKED, BET_FOR = 256, 0.9, 0.25
PRIOR_VARIANCE, PRIOR_WEIGHT = 0.04, 4
NODES, FARTHEST = 96, 9.0  # of the integral over a standard normal


@dataclass(frozen=True, slots=True)
class Standing:
    """How a race stands.

    Attributes:
        leader: the candidate with the highest mean so far, the first of equals; None when all are
            out.
        going_on: those that are to be measured up to their next look, in order; none when the race
            has ended.
        epsilon: by how much another candidate's mean may be above the leader's, in the unit of the
            gains; known where no one goes on, else infinite.
        target: how large epsilon may be.
    """

    leader: int | None
    going_on: tuple[int, ...]
    epsilon: float
    target: float


@dataclass(frozen=True, slots=True)
class Race:
    """The rules of a round's race.

    Attributes:
        total: how many examples the search set has.
        looks: after how many examples candidates are compared, ascending; the last is ``total``.
        limit: a gain is between this and its negative, for the bound that is proven; None for
            Student's.
        probability: with which no candidate's mean is above the winner's by more than epsilon.
        errors: the target of epsilon, in standard errors of the median candidate's mean gain on as
            many examples as the search set has.

    Raises:
        InputError: these are no such looks, or that is no probability.
    """

    total: int
    looks: tuple[int, ...]
    limit: float | None = None
    probability: float = PROBABILITY
    errors: float = ERRORS

    def __post_init__(self) -> None:
        rising = all(one < other for one, other in pairwise((0, *self.looks)))
        if not (self.looks and rising and self.looks[-1] == self.total):
            raise InputError(
                f"the looks of a race must rise from 1 or more to {self.total}, got {self.looks}; "
                "give the numbers of examples after which candidates are compared"
            )
        if not 0.5 <= self.probability < 1:
            raise InputError(
                f"the probability of a race must be in [0.5, 1), got {self.probability:g}; give a "
                "number such as 0.95"
            )

    def next_look(self, measured: int) -> int:
        """The examples that a candidate has at its next look."""
        return next(look for look in self.looks if look > measured)

    def standing(
        self,
        gains: Sequence[NDArray[Any]],
        out: Collection[int] = frozenset(),
        parents: Sequence[float] = (),
    ) -> Standing:
        """How the race stands, by what was measured of each candidate and nothing else.

        Args:
            gains: for each candidate its values less its parent's, (examples,), of the first
                examples in an order that was drawn at random; as many as one of ``looks``, or none.
            out: the candidates, by position, that may not win: what is said holds of the others.
            parents: the mean of each one's parent, where they have several.
        """
        started = [one for one in range(len(gains)) if one not in out]
        new = [one for one in started if len(gains[one]) == 0]
        if new or not started:
            return Standing(None, tuple(new), math.inf, math.inf)
        variance = self._median_variance(gains)
        means = {one: math.fsum(gains[one]) / len(gains[one]) for one in started}
        if parents:
            means = {one: mean + parents[one] for one, mean in means.items()}
        upper = {one: means[one] + self.half_width(gains[one], variance) for one in started}
        target = self.errors * math.sqrt(variance / self.total)
        leader = max(started, key=lambda one: (means[one], -one))
        unfinished = [one for one in started if len(gains[one]) < self.total]
        going_on = [
            one for one in unfinished if one == leader or upper[one] > means[leader] + target
        ]
        others = [upper[one] - means[leader] for one in started if one != leader]
        epsilon = math.inf if going_on else max([0.0, *others])
        return Standing(leader, tuple(going_on), epsilon, target)

    def half_width(self, gains: NDArray[Any], median_variance: float) -> float:
        """How far above the mean of these gains their upper bound is.

        Args:
            gains: of one candidate, (examples,), on as many examples as one of ``looks``.
            median_variance: that of the median candidate's gains.
        """
        count = len(gains)
        if count == self.total:
            return 0.0
        if self.limit is not None:
            return betting_half_width(gains, self.total, self.limit, 1 - self.probability)
        level = look_level(self.looks, 1 - self.probability)
        own = float(np.var(gains, ddof=1)) if count > 1 else 0.0
        mixed = ((count - 1) * own + WEIGHT * median_variance) / (count - 1 + WEIGHT)
        spread = math.sqrt(max(mixed, median_variance) * (1 / count - 1 / self.total))
        return -float(stdtrit(count - 1 + WEIGHT, level)) * spread

    def _median_variance(self, gains: Sequence[NDArray[Any]]) -> float:
        """Of the gains at the first look, so that it stays what it is when candidates leave."""
        first = self.looks[0]
        found = [float(np.var(one[:first], ddof=1)) for one in gains if first > 1 and len(one)]
        return float(np.median(found)) if found else 0.0


def betting_half_width(gains: NDArray[Any], total: int, limit: float, alpha: float) -> float:
    """How far above the mean of these gains the upper bound by betting is.

    For each mean that all gains may have, a gambler bets at every draw that it is below what is
    left for it to be. If that is the mean, nobody is likely to become rich by this: so no mean is
    above the bound but such on which one has become ``1 / alpha`` times as rich.

    Args:
        gains: (examples,), in the order in which they were drawn.
        total: how many examples they are drawn from.
        limit: all gains are between this and its negative.
        alpha: how often the bound may be below the mean at any number of draws.
    """
    shares = gains / (2 * limit) + 0.5  # from 0 to 1
    count, rich = len(shares), -math.log(alpha)
    drawn = np.arange(count)[:, None]
    before = (np.cumsum(shares) - shares)[:, None]
    squares = (np.cumsum(shares**2) - shares**2)[:, None]
    deviations = squares - before**2 / np.maximum(drawn, 1)
    variance = (PRIOR_WEIGHT * PRIOR_VARIANCE + deviations) / (PRIOR_WEIGHT + drawn)
    means = np.linspace(shares.mean(), 1, MEANS)[None, :]
    left = (total * means - before) / (total - drawn)  # the mean of what is not drawn
    stake = np.sqrt(2 * rich / (variance * total * BET_FOR))
    stakes = np.minimum(stake, MOST_STAKED / np.maximum(1 - left, 1e-9))
    growth = np.log1p(stakes * np.maximum(left - shares[:, None], -1.0))
    wealth = np.cumsum(growth, axis=0).max(0)
    last = np.flatnonzero(wealth < rich).max(initial=0)
    possible = (shares.sum() + total - count) / total  # if all that is left is at its limit
    bound = min(possible, means[0, min(last + 1, MEANS - 1)])
    return float(2 * limit * (bound - shares.mean()))


def looks_at(sizes: Sequence[int]) -> tuple[int, ...]:
    """After how many examples candidates are compared: after 1, 2, 3, 4, 6, 8, 12, ... blocks.

    Few looks, since every one takes its part of the error; more of them early, where most
    candidates leave; and none where less than a quarter of the examples is left to be saved.

    Args:
        sizes: how many examples each block has, in the order in which they are measured.
    """
    blocks = [1]
    while blocks[-1] < len(sizes):
        blocks.append(blocks[-1] + max(1, 2 ** (blocks[-1].bit_length() - 2)))
    total = sum(sizes)
    ends = [sum(sizes[:count]) for count in blocks if count < len(sizes)]
    return (*(end for end in ends if end <= total * LATEST), total)


@lru_cache(maxsize=256)
def look_level(looks: tuple[int, ...], alpha: float) -> float:
    """The one-sided level of each look at which all together fail with probability ``alpha``.

    Args:
        looks: after how many examples, ascending; at the last all are known, and nothing fails.
        alpha: how often the bound of a mean may be below it at any look.
    """
    total = looks[-1]
    information = [1 / (1 / look - 1 / total) for look in looks[:-1]]
    if len(information) < 2:
        return alpha
    low, high = alpha / len(information), alpha
    for _ in range(40):
        middle = (low + high) / 2
        if _fails(middle, information) > alpha:
            high = middle
        else:
            low = middle
    return low


def _fails(level: float, information: Sequence[float]) -> float:
    """How often a Gaussian walk is above the quantile of this level at any look."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    quantile = -float(stdtrit(math.inf, level))
    middle, half = (quantile - FARTHEST) / 2, (quantile + FARTHEST) / 2
    points, weights = middle + half * nodes, half * weights
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    fails = level
    for before, now in pairwise(information):
        slope, spread = math.sqrt(before / now), math.sqrt(1 - before / now)
        fails += float(weights @ (density * ndtr((slope * points - quantile) / spread)))
        apart = (points[:, None] - slope * points[None, :]) / spread
        density = np.exp(-(apart**2) / 2) @ (weights * density) / (spread * math.sqrt(2 * math.pi))
    return fails
