"""Which of the models on a search's path the held-out set has shown to be worth having.

The search set proposes and fixes an order; the held-out set only says yes or no. So whatever the
search has tried, each claim here is wrong in at most as many studies as its confidence allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence import Comparison
    from telltale.paths import LayerPath
    from telltale.searches import Kept, Removal


def confirmed_best(removal: Removal, held_out: Mapping[LayerPath, Comparison]) -> Kept | None:
    """BEST where the interval of its gain is above zero; one model is asked about, once."""
    best = removal.best
    return best if held_out[best.path].gain_interval.low > 0 else None


def fastest_safe(
    kept: Sequence[Kept], held_out: Mapping[LayerPath, Comparison], max_loss: float
) -> Kept | None:
    """The shallowest model certified to lose no more than ``max_loss``; None where none is.

    Models are asked about in an order that the search set alone has fixed, until the first that
    fails. Then the chance of certifying any model that loses more is no larger than that of one
    test, however many are asked about (fixed-sequence testing; Angelopoulos et al., "Learn then
    Test", arXiv 2110.01052, section 2.3).
    """
    certified: list[Kept] = []
    for model in order_of_asking(kept):
        if held_out[model.path].loses_at_most > max_loss:
            break
        certified.append(model)
    return max(certified, key=lambda model: len(model.removed), default=None)


def order_of_asking(kept: Sequence[Kept]) -> list[Kept]:
    """The shallower models in the order in which they are asked about, the safest first.

    That is by what the search set values most, of equals the shallowest. Where some layers do harm,
    the first steps of a path may be no safer than later ones, and a bad one would end the asking
    before the good ones are reached (benchmarks, "Claims that hold").
    """
    shallower = [model for model in kept if model.removed]
    return sorted(shallower, key=lambda model: (-model.value, -len(model.removed)))
