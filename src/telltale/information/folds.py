"""Folds of examples, and answers that say nothing of them. Clusters are kept together in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5  # of all examples


def dealt(
    answers: NDArray[Any], clusters: NDArray[Any], folds: int, source: np.random.Generator
) -> NDArray[Any]:
    """A fold for each example, (examples,), with every answer spread over the folds.

    Clusters come in random order, the largest first, and each goes to the fold that has the
    fewest of its answers; of such, to the smallest. scikit-learn's own folds warn where an answer
    is rare, and are slow where every example is a cluster.

    Args:
        answers: (examples,), numbered from 0.
        clusters: (examples,), equal numbers for examples of one cluster.
        folds: how many.
        source: of the random order.
    """
    names, members = np.unique(clusters, return_inverse=True)
    counts = np.zeros((len(names), answers.max() + 1))
    np.add.at(counts, (members, answers), 1)
    shuffled = source.permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    weights = 1 / counts.sum(axis=0).clip(1)
    held = np.zeros((folds, counts.shape[1]))
    fold_of = np.empty(len(names), dtype=np.int64)
    for cluster in order:
        alike = held @ (counts[cluster] * weights)
        fewest = np.flatnonzero(alike <= alike.min() + 1e-9)
        fold = fewest[held[fewest].sum(axis=1).argmin()]
        held[fold] += counts[cluster]
        fold_of[cluster] = fold
    return fold_of[members]


def shuffled(
    answers: NDArray[Any], clusters: NDArray[Any], source: np.random.Generator
) -> NDArray[Any]:
    """The same answers, dealt to other clusters; those of one cluster stay next to each other.

    The clusters' answers are handed on around a random circle, so that no cluster of the common
    size keeps its own.
    """
    names = source.permutation(np.unique(clusters))
    places = np.concatenate([np.flatnonzero(clusters == name) for name in names])
    first = np.count_nonzero(clusters == names[0])
    found = np.empty_like(answers)
    found[places] = np.roll(answers[places], -first)
    return found
