"""The logit lens: what a model's own end makes of the state after each layer. Plain numbers.

The state after a path's first layers, through the model's final norm and head, is what the path of
those layers alone gives: so the lens is a measure of paths (`lens_paths`), which the engine runs as
one, since each begins as the next does. (The state before the first layer is not among them: at the
scored position it is the last token's embedding, whatever was asked.)

Logit lens: nostalgebraist, "interpreting GPT: the logit lens" (2020). V-information: Xu et al.
(arXiv 2002.10689).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.evidence.stats import CONFIDENCE, Interval, clustering, mean_interval, wilson
from telltale.objectives import Likelihood, values_by
from telltale.paths import LayerPath

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.measure import Outcome
    from telltale.tasks import Scoring


@dataclass(frozen=True, slots=True)
class Lens:
    """What the model's end says of the right choice after some layer.

    ``accuracy`` is a share of the examples. ``loglik`` is the mean log2-probability of the right
    choice among those offered, in bits; no example says less than `objectives.likelihood.FAINTEST`.
    ``bits`` is the V-information of the model's own head about which choice is right: the entropy
    of the right choices' indices, by their frequency, plus ``loglik``. It is negative where the
    head says less than these frequencies do. A head that were fitted to this layer would say more.
    """

    accuracy: float
    accuracy_interval: Interval
    loglik: float
    loglik_interval: Interval
    bits: float
    bits_interval: Interval


def lens_paths(path: LayerPath) -> tuple[LayerPath, ...]:
    """The paths of a path's first layer, its first two, and so on to itself."""
    return tuple(LayerPath(path.kept[:count], path.total) for count in range(1, path.depth + 1))


def lens(
    outcomes: Mapping[int, Outcome],
    right: Mapping[int, int],
    scoring: Scoring,
    clusters: Mapping[int, int] | None = None,
    confidence: float = CONFIDENCE,
) -> Lens:
    """The lens after a layer, from outcomes of the path that ends there.

    Args:
        outcomes: by example.
        right: for each example, which of its choices is right.
        scoring: how choices weigh against each other.
        clusters: a number for each example, equal for those that share a passage.
        confidence: of the intervals; the entropy's own uncertainty is in that of ``bits``.

    Raises:
        InputError: there are no outcomes, or not of choices.
    """
    order = sorted(outcomes)
    if not order or min(len(one.choices) for one in outcomes.values()) < 2:
        raise InputError(
            "the logit lens compares choices, and there are none to compare; give a task with "
            "choices, by `protocol` loglik"
        )
    together = None if clusters is None else [clusters[example] for example in order]
    value = values_by(Likelihood(), scoring, right)
    logliks = [value(outcomes[example]) / math.log(2) for example in order]
    counts = Counter(right[example] for example in order)
    # Its mean is the entropy. To first order its spread over examples is the entropy's too.
    surprises = [-math.log2(counts[right[example]] / len(order)) for example in order]
    bits = [a + b for a, b in zip(surprises, logliks, strict=True)]
    scores = [outcomes[example].score for example in order]
    shared = clustering(scores, together)
    return Lens(
        accuracy=math.fsum(scores) / len(order),
        accuracy_interval=wilson(math.fsum(scores), len(order), confidence, shared),
        loglik=math.fsum(logliks) / len(order),
        loglik_interval=mean_interval(logliks, together, confidence),
        bits=math.fsum(bits) / len(order),
        bits_interval=mean_interval(bits, together, confidence),
    )
