"""One number a layer of what it does to information and of what the loss says of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def joint_score(information_change: Sequence[float], taylor: Sequence[float]) -> tuple[float, ...]:
    """How much each layer is needed by both: the mean of two standard scores of ranks.

    Each measure is put in ranks, equal ones sharing theirs, and the ranks are scaled to mean 0 and
    standard deviation 1. By ranks, since a first or last layer often has a gradient a hundred
    times the others', which by the values themselves would leave these indistinguishable.

    Args:
        information_change: bits that each layer adds, one a layer.
        taylor: one a layer, the higher the more the loss needs the layer.

    Returns:
        One a layer, the higher the more it is needed; zeros from a measure that is constant.

    Raises:
        InputError: they are not of as many layers, or not all numbers.
    """
    if len(information_change) != len(taylor):
        raise InputError(
            f"a joint score needs both measures of every layer, got {len(information_change)} "
            f"changes of information and {len(taylor)} gradients"
        )
    if not all(map(math.isfinite, (*information_change, *taylor))):
        raise InputError("a joint score needs finite measures; leave out layers without one")
    both = (standard_ranks(information_change) + standard_ranks(taylor)) / 2
    return tuple(both.tolist())


def standard_ranks(values: Sequence[float]) -> NDArray[Any]:
    """Ranks scaled to mean 0 and standard deviation 1, equal values sharing theirs; zeros if all.

    The mean product of those of two measures is Spearman's rank correlation.
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.asarray(values, dtype=np.float64))
    centred = ranks - (len(ranks) + 1) / 2
    spread = math.sqrt(float((centred**2).mean())) if len(ranks) else 0.0
    return np.asarray(centred / spread if spread else np.zeros(len(ranks)))
