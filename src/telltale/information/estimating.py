"""The information that a state has of the right answer: estimated out of fold, in bits.

I(state; answer) = E log2 p(answer | state) / p(answer). A predictor in the place of p(answer |
state) gives at most as much in expectation on examples that it has not seen (Barber and Agakov
2003), so the mean over examples that were left out of the fit is a lower bound, whatever the
predictor. One that is fitted and scored on the same examples bounds nothing. What a family of
predictors cannot see is not in its estimate (V-information; Xu et al. 2020): hence two families.

The frequencies p(answer) are estimated too, from the same fold, so that noise gives 0. Their error
adds (classes - 1) / (2 n ln 2) bits in expectation, which is far below the interval's width.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.errors import InputError
from telltale.evidence.stats import CONFIDENCE
from telltale.information import neighbours, probe
from telltale.information.folds import FOLDS, dealt, shuffled
from telltale.information.means import mean_of
from telltale.information.mixing import Fold, bits, prior_of
from telltale.information.reduction import reduced
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    # From a fold, other states and a source of chance: probabilities of every answer for those
    # states, (others, classes), and their weight against the prior.
    Predictor = Callable[[Fold, NDArray[Any], np.random.Generator], tuple[NDArray[Any], float]]

ESTIMATORS: Mapping[str, Predictor] = {
    "probe": probe.predicted,
    "neighbours": neighbours.predicted,
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one layer's state says of the right answer.

    ``bits`` is a lower bound in expectation, at most the answers' entropy, and may be a little
    below 0. ``interval`` is 95%, over clusters. ``null`` is what the same way finds where the
    answers are dealt to other clusters. ``pointwise``, (examples,) in the order given, is how much
    likelier each right answer is by a predictor that has not seen it than by its frequency, as
    log2; its mean is ``bits``, unless that is above the entropy.
    """

    bits: float
    interval: tuple[float, float]
    null: float
    pointwise: NDArray[np.float64]


def estimate(
    states: NDArray[Any],
    answers: NDArray[Any],
    clusters: NDArray[Any],
    *,
    seed: int = 0,
    estimator: str = "probe",
) -> Estimate:
    """Estimate the information that states have of the right answers.

    Args:
        states: (examples, width), of any precision.
        answers: (examples,), the class of each right answer, as any whole number.
        clusters: (examples,), equal whole numbers for examples that share a passage, which are
            never on both sides of a fold.
        seed: of the folds, which depend on it, the answers and the clusters alone: those of several
            layers are the same, so that `change` may pair them.
        estimator: ``probe`` is linear; ``neighbours`` sees what is not linear too, where few
            principal components hold it.

    Raises:
        InputError: the states hold NaN or infinity; there is one class; a class has examples in
            fewer clusters than there are folds; scikit-learn is missing.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"an estimator must be {one_of(ESTIMATORS)}, got {estimator!r}")
    check_installed()
    check_examples(answers, clusters)
    scaled = _checked(states)
    # Sorted by cluster, so that nothing depends on the order given; numbered as they come, so that
    # nothing depends on what the answers are called.
    order = np.argsort(clusters, kind="stable")
    right, together = _numbered(np.asarray(answers)[order]), np.asarray(clusters)[order]
    source = np.random.default_rng(seed)
    folds = dealt(right, together, FOLDS, source)
    elsewhere = shuffled(right, together, source)
    found, null = np.empty(len(order)), np.empty(len(order))
    for fold in range(FOLDS):
        out = folds == fold
        inside, outside = reduced(scaled[order[~out]], scaled[order[out]])
        for labels, into in ((right, found), (elsewhere, null)):
            prior = prior_of(labels[~out], right.max() + 1)
            part = Fold(inside, labels[~out], together[~out], prior)
            shares, weight = ESTIMATORS[estimator](
                part, outside, np.random.default_rng([seed, fold])
            )
            of_right = shares[np.arange(len(outside)), labels[out]]
            into[out] = bits(of_right, prior[labels[out]], weight)[:, 0]
    mean = mean_of(found.tolist(), together.tolist())
    pointwise = np.empty(len(order))
    pointwise[order] = found
    pointwise.flags.writeable = False
    low, high = mean.interval(CONFIDENCE)
    return Estimate(
        min(mean.bits, entropy(right)),
        (low, max(high, 0.0)),  # an estimate may be below 0, information is not
        float(null.mean()),
        pointwise,
    )


def entropy(answers: NDArray[Any]) -> float:
    """The entropy of the answers' frequencies, in bits: the most that a state can say of them."""
    _, counts = np.unique(answers, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def check_installed() -> None:
    """Check that scikit-learn is there.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise InputError(
            "estimating information needs scikit-learn; install it with: "
            "pip install 'telltale-llm[explain]'"
        )


def check_examples(answers: NDArray[Any], clusters: NDArray[Any]) -> None:
    """Check that information can be estimated from so many examples, whatever their states.

    Args:
        answers: (examples,), the class of each right answer.
        clusters: (examples,), equal for examples that share a passage.

    Raises:
        InputError: it cannot; what is lacking is said.
    """
    classes = np.unique(answers)
    groups = len(np.unique(clusters))
    if len(classes) == 1:
        raise InputError(
            f"all {len(answers)} right answers are {classes[0]}, so that there is nothing to know "
            "of them; give examples with at least two different answers"
        )
    if groups < FOLDS:
        raise InputError(
            f"{len(answers)} examples in {groups} clusters are too few to estimate information: "
            f"there must be {FOLDS} clusters, one a fold; give more examples"
        )
    in_clusters = {one: len(np.unique(clusters[answers == one])) for one in classes}
    rare = min(classes, key=lambda one: in_clusters[one])
    if in_clusters[rare] < FOLDS:
        raise InputError(
            f"the right answer {rare} has {(answers == rare).sum()} examples, in "
            f"{in_clusters[rare]} clusters, and each of the {len(classes)} answers must be in "
            f"{FOLDS}, one a fold; give more examples, or leave out those with a rare answer"
        )


def _checked(states: NDArray[Any]) -> NDArray[np.float64]:
    """The states in double precision, none above 1, so that no square of them overflows."""
    found = np.array(states, dtype=np.float64)
    bad = ~np.isfinite(found)
    if bad.any():
        rows = np.flatnonzero(bad.any(axis=1))
        raise InputError(
            f"the states of {len(rows)} of {len(found)} examples hold NaN or infinity, the first "
            f"that of example {rows[0]}; the model overflows: load it in float32, or leave these "
            "examples out"
        )
    largest = np.abs(found).max(initial=0.0)
    if largest:
        found /= largest
    return found


def _numbered(answers: NDArray[Any]) -> NDArray[np.int64]:
    """Answers as numbers from 0 in the order in which they come."""
    names, first, members = np.unique(answers, return_index=True, return_inverse=True)
    rank = np.empty(len(names), dtype=np.int64)
    rank[first.argsort()] = np.arange(len(names))
    return rank[members]
