"""Whether a measure of layers predicts what leaving each of them out costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from telltale.errors import InputError
from telltale.evidence.stats import holm
from telltale.information.joint import standard_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PERMUTATIONS = 9_999
TIE = 1e-9  # correlations closer than this are equal


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well one measure ranks the layers as the truth does.

    ``rank_correlation`` is Spearman's, 0 where the measure or the truth is the same for all layers.
    ``p_value`` is two-sided, by permutations of the layers; ``corrected_p_value`` is for as many
    measures as were tried together.
    """

    rank_correlation: float
    p_value: float
    corrected_p_value: float


def predictions(
    measures: Mapping[str, Sequence[float | None]],
    truth: Sequence[float | None],
    *,
    seed: int = 0,
) -> dict[str, Prediction]:
    """Compare measures of layers with what it costs to leave each of them out.

    Corrected p-values are Holm's (1979). A layer for which a measure or the truth is None or NaN is
    left out of that measure's comparison.

    Args:
        measures: by name, one number a layer, the higher the more the layer is said to be needed.
        truth: the loss without each layer alone, one a layer, the higher the more it is needed.
        seed: of the permutations.

    Raises:
        InputError: a measure is not of as many layers as the truth.
    """
    alone = {name: _compared(name, of, truth, seed) for name, of in measures.items()}
    corrected = holm([p_value for _, p_value in alone.values()])
    return {
        name: Prediction(*found, p_value)
        for (name, found), p_value in zip(alone.items(), corrected, strict=True)
    }


def _compared(
    name: str, measure: Sequence[float | None], truth: Sequence[float | None], seed: int
) -> tuple[float, float]:
    """The rank correlation, and its p-value."""
    if len(measure) != len(truth):
        raise InputError(
            f"the measure {name} is of {len(measure)} layers and the truth of {len(truth)}; "
            "give both of all layers, None for what was not measured"
        )
    known = [
        (one, true)
        for one, true in zip(measure, truth, strict=True)
        if one is not None and true is not None and not math.isnan(one) and not math.isnan(true)
    ]
    said = standard_ranks([one for one, _ in known])
    needed = standard_ranks([true for _, true in known])
    if not said.any() or not needed.any():
        return 0.0, 1.0
    seen = float(said @ needed) / len(known)
    orders = np.random.default_rng(seed).permuted(np.tile(said, (PERMUTATIONS, 1)), axis=1)
    as_far = np.count_nonzero(np.abs(orders @ needed) / len(known) >= abs(seen) - TIE)
    return seen, (1 + as_far) / (1 + PERMUTATIONS)
