"""Which of the models on a search's path the held-out set has shown to be worth having.

The search set proposes and fixes an order; the held-out set only says yes or no. So whatever the
search has tried, each claim here is wrong in at most as many studies as its level allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence.comparison import Comparison
    from telltale.paths import LayerPath
    from telltale.searches import Found, Kept

# Of the chance of error, what the model has that the search set finds safest. The others have the
# rest in equal parts, so that its failure does not end all. Chosen by simulation and eight pairs of
# a real model and task (benchmarks, "Which procedure certifies").
FIRST_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Level:
    """How sure a study's claims must be.

    ``safety`` is the chance that any model is certified wrongly. ``looks`` is how many other
    searches had looked at some of the held-out set before: who searches until it pleases has chosen
    by it. Where that is not known it is None, and taken for none.
    """

    safety: float
    looks: int | None = 0

    @classmethod
    def after(cls, looks: int | None, alpha: float) -> Level:
        """The level after so many looks, where one claim's chance of error may be ``alpha``.

        The squares' inverses sum up to 1.65, so that however many searches look at one held-out
        set, the chance that any of them claims wrongly stays below 1.65 alpha.
        """
        return cls(alpha / (1 + (looks or 0)) ** 2, looks)

    @property
    def gain(self) -> float:
        """The chance that a gain is said to be shown where there is none: one side of two."""
        return self.safety / 2


@dataclass(frozen=True, slots=True)
class Asked:
    """A model of which it was asked whether it loses too much.

    ``p_value`` is small where it is shown to lose less. ``level`` is its part of the chance of
    error in the end, with what other models have passed on.
    """

    model: Kept
    p_value: float
    level: float

    @property
    def certified(self) -> bool:
        """Whether it is certified."""
        return self.p_value <= self.level


@dataclass(frozen=True, slots=True)
class Claims:
    """What is claimed of a search's models, at what level.

    ``confirmed_best`` is BEST where it is shown to gain. ``asked`` are the shallower models, in the
    order in which they were asked about.
    """

    level: Level
    confirmed_best: Kept | None
    asked: tuple[Asked, ...]

    @property
    def fastest_safe(self) -> Kept | None:
        """The shallowest model that is certified; None where none is."""
        safe = [one.model for one in self.asked if one.certified]
        return max(safe, key=lambda model: len(model.removed), default=None)


def claims(
    found: Found,
    searched: Mapping[LayerPath, Comparison],
    held_out: Mapping[LayerPath, Comparison],
    max_loss: float,
    level: Level,
) -> Claims:
    """What the held-out set shows of the models that a search has kept.

    Of BEST alone it is asked whether it gains. Of every shallower model it is asked whether it
    loses ``max_loss`` or more: first of the one that loses least, at most, on the search set; of
    equals, of the shallowest.

    Args:
        found: the search.
        searched: each model compared with the whole one on the search set.
        held_out: the same on the held-out set.
        max_loss: what a model that is called safe may lose, in mean score.
        level: how sure the claims must be.
    """
    best = found.best
    shown = bool(best.removed) and held_out[best.path].risk(0.0) <= level.gain
    order = sorted(
        (model for model in found.kept if model.removed),
        key=lambda model: (searched[model.path].loses_at_most, -len(model.removed)),
    )
    p_values = [held_out[model.path].risk(max_loss) for model in order]
    levels = passed_on(p_values, shares(len(order)), level.safety)
    asked = tuple(Asked(*one) for one in zip(order, p_values, levels, strict=True))
    return Claims(level, best if shown else None, asked)


def shares(count: int) -> list[float]:
    """Each model's share of the chance of error before any is certified; together 1."""
    if count < 2:
        return [1.0] * count
    return [FIRST_SHARE] + [(1 - FIRST_SHARE) / (count - 1)] * (count - 1)


def passed_on(p_values: Sequence[float], shares: Sequence[float], alpha: float) -> list[float]:
    """The level at which each hypothesis is tested in the end.

    One that is rejected passes its level on to the next in the order that is not, after the last to
    the first. So the chance that any rejection is wrong is at most ``alpha``, however the p-values
    depend on each other (the fallback procedure, Wiens 2003, as a graph, Bretz et al. 2009).

    Args:
        p_values: in the order of testing.
        shares: of ``alpha``, in the same order; at most 1 together.
        alpha: the chance that any rejection is wrong.
    """
    levels = [share * alpha for share in shares]
    left = list(range(len(levels)))
    while rejected := [index for index in left if p_values[index] <= levels[index]]:
        at = left.index(rejected[0])
        after = left[at + 1 :] + left[:at]
        if after:
            levels[after[0]] += levels[rejected[0]]
        left.remove(rejected[0])
    return levels
