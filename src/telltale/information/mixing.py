"""What a training fold's answers say without any state, and predictions drawn towards that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Fold:
    """The examples that an estimator is fitted to.

    ``states`` are reduced, (examples, components), the widest component first; ``answers``
    (examples,) are numbered from 0; ``clusters`` (examples,) are equal for what stays together.
    """

    states: NDArray[Any]
    answers: NDArray[Any]
    clusters: NDArray[Any]
    prior: NDArray[Any]


def prior_of(answers: NDArray[Any], classes: int) -> NDArray[Any]:
    """How frequent each answer is, (classes,).

    Half an example is added to each (Krichevsky and Trofimov 1981), so that none is impossible.
    """
    counts = np.bincount(answers, minlength=classes) + 0.5
    return np.asarray(counts / counts.sum())


def weights(examples: int) -> NDArray[Any]:
    """Weights of a prediction against the prior that are tried, from 0 on.

    The largest lacks 1 by one in ``examples``: so many cannot show that nothing else happens. It
    bounds what a single wrong prediction can cost.
    """
    near_one = 1 - np.geomspace(min(1 / examples, 0.1), 0.1, 8)
    return np.union1d(np.linspace(0, 0.9, 10), near_one)


def bits(right: NDArray[Any], prior: NDArray[Any], weight: NDArray[Any] | float) -> NDArray[Any]:
    """log2 of the mixed probability of the right answer over its prior, (examples, weights).

    Args:
        right: the predicted probability of each example's right answer, (examples,).
        prior: the prior one, (examples,).
        weight: of the prediction; one or several.
    """
    gain = (right / prior - 1)[:, None]
    return np.asarray(np.log2(1 + gain * np.atleast_1d(weight)))


def best_weight(right: NDArray[Any], prior: NDArray[Any]) -> tuple[float, float]:
    """The weight whose bits are the most in the mean, and those.

    It is 0 where they are not a standard error above 0: of many predictions that are tried on the
    same examples, the best says something of noise too.
    """
    examples = len(right)
    tried = weights(examples)
    found = bits(right, prior, tried)
    means = found.mean(axis=0)
    best = int(means.argmax())
    if means[best] * examples**0.5 <= found[:, best].std():
        return 0.0, 0.0
    return float(tried[best]), float(means[best])
