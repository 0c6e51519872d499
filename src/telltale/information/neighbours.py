"""Nearest neighbours among the first principal components, chosen inside the fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.information.mixing import best_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from telltale.information.mixing import Fold

COMPONENTS = (1, 2, 4, 8, 16, 32)
NEIGHBOURS = (4, 8, 16, 32, 64, 128)


def predicted(
    fold: Fold, states: NDArray[Any], source: np.random.Generator
) -> tuple[NDArray[Any], float]:
    """Shares of every answer among the neighbours of other states, (others, classes); their weight.

    How many components, how many neighbours and which weight against the prior: what says the
    most of the fold's own examples, each by its neighbours of other clusters.
    """
    del source  # nothing is drawn
    wide, total = fold.states.shape[1], len(fold.answers)
    _, sizes = np.unique(fold.clusters, return_counts=True)
    most = min(total // 2, total - int(sizes.max()))  # so many are in other clusters for certain
    best, weight, chosen = 0.0, 0.0, (0, 0)
    together = fold.clusters[:, None] == fold.clusters[None, :]
    for components in sorted({min(one, wide) for one in COMPONENTS} - {0}):
        own = fold.states[:, :components]
        apart = np.where(together, np.inf, _distances(own, own))
        near = fold.answers[_nearest(apart, NEIGHBOURS[-1])]
        agreeing = np.cumsum(near == fold.answers[:, None], axis=1)
        for count in [one for one in NEIGHBOURS if one <= most]:
            right = agreeing[:, count - 1] / count
            its_weight, mean = best_weight(right, fold.prior[fold.answers])
            if mean > best:
                best, weight, chosen = mean, its_weight, (components, count)
    if not weight:
        return np.tile(fold.prior, (len(states), 1)), 0.0
    components, count = chosen
    distances = _distances(states[:, :components], fold.states[:, :components])
    near = fold.answers[_nearest(distances, count)]
    shares = (near[:, :, None] == np.arange(len(fold.prior))).mean(axis=1)
    return shares, weight


def _distances(some: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Squared distances, (some, others)."""
    lengths = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    return np.asarray(lengths - 2 * some @ others.T)


def _nearest(distances: NDArray[Any], count: int) -> NDArray[Any]:
    """The indices of the nearest, in order, (rows, at most ``count``)."""
    count = min(count, distances.shape[1])
    if count < distances.shape[1]:
        near = np.argpartition(distances, count - 1, axis=1)[:, :count]
    else:
        near = np.tile(np.arange(count), (len(distances), 1))
    order = np.take_along_axis(distances, near, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)
