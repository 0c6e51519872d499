"""What a layer adds to the information of a state, or suppresses of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from telltale.evidence.stats import CONFIDENCE, holm
from telltale.information.means import Mean, mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from telltale.information.estimating import Estimate

    Verdict = Literal["adds", "suppresses", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Change:
    """Information after a layer less that before it.

    ``bits`` is the mean over examples, each paired with itself, ``interval`` that of it over
    clusters, and ``null`` the difference of the two nulls. ``verdict`` says whether the change is
    shown to be one.
    """

    bits: float
    interval: tuple[float, float]
    null: float
    verdict: Verdict


def change(
    before: Estimate, after: Estimate, clusters: NDArray[Any], *, level: float = CONFIDENCE
) -> Change:
    """Compare the information before one layer and after it, which was chosen beforehand.

    Args:
        before: of the state that the layer is given.
        after: of the state that it gives, estimated with the same examples, clusters and seed.
        clusters: (examples,), those of the estimates.
        level: of the interval; the verdict errs in at most the rest.
    """
    found = _difference(before, after, clusters)
    return _told(found, found.p_value, before, after, level)


def changes(
    estimates: Sequence[Estimate], clusters: NDArray[Any], *, level: float = CONFIDENCE
) -> tuple[Change, ...]:
    """Compare the information before and after every layer.

    The chance that any verdict but "cannot tell" is wrong is at most ``1 - level``, by Holm's
    procedure (1979), however many layers there are and however they depend on each other. The
    interval of each is for itself, so that one may hold no zero and yet be no verdict.

    Args:
        estimates: before each layer and after the last, with the same examples, clusters and seed.
        clusters: (examples,), those of the estimates.
        level: of each interval, and of the verdicts together.
    """
    steps = list(pairwise(estimates))
    found = [_difference(before, after, clusters) for before, after in steps]
    corrected = holm([one.p_value for one in found])
    return tuple(
        _told(one, p_value, *step, level)
        for one, p_value, step in zip(found, corrected, steps, strict=True)
    )


def _difference(before: Estimate, after: Estimate, clusters: NDArray[Any]) -> Mean:
    differences = after.pointwise - before.pointwise
    return mean_of(differences.tolist(), np.asarray(clusters).tolist())


def _told(found: Mean, p_value: float, before: Estimate, after: Estimate, level: float) -> Change:
    verdict: Verdict = "cannot tell"
    if p_value <= 1 - level:
        verdict = "adds" if found.bits > 0 else "suppresses"
    return Change(found.bits, found.interval(level), after.null - before.null, verdict)
