"""States in as few dimensions as hold all of a training fold, the widest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME = 1e-6  # of a dimension's size: a spread below it is float32's rounding, not a difference
NOTHING = 1e-10  # of the largest variance: a direction of less is the arithmetic's


def reduced(fitted: NDArray[Any], others: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Standardised states, turned to their principal components, of both sets.

    Standardisation and components are those of ``fitted`` alone. All components are kept, at most
    one less than it has examples, so that nothing is lost to what depends on products of states
    alone, as a linear probe with an L2 penalty does. A row's mean square length is 1.

    Args:
        fitted: (examples, width), finite.
        others: (others, width).

    Returns:
        (examples, components) and (others, components); no components where all of ``fitted`` are
        alike.
    """
    mean, spread = fitted.mean(axis=0), fitted.std(axis=0)
    kept = spread > SAME * np.maximum(np.abs(fitted).max(axis=0), np.finfo(np.float64).tiny)
    if not kept.any():
        return fitted[:, :0], others[:, :0]
    scale = spread[kept] * np.sqrt(kept.sum())
    own = (fitted[:, kept] - mean[kept]) / scale
    other = (others[:, kept] - mean[kept]) / scale
    if own.shape[0] <= own.shape[1]:
        variances, left = np.linalg.eigh(own @ own.T)
        variances, left = _largest_first(variances, left)
        lengths = np.sqrt(variances)
        return left * lengths, other @ (own.T @ (left / lengths))
    variances, right = _largest_first(*np.linalg.eigh(own.T @ own))
    return own @ right, other @ right


def _largest_first(
    variances: NDArray[Any], directions: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Eigenvalues and eigenvectors from the largest on, without those that are rounding."""
    kept = np.flatnonzero(variances > NOTHING * variances[-1])[::-1]
    return variances[kept], np.ascontiguousarray(directions[:, kept])
