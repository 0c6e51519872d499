"""Removal by ranking: layers are left out in the order of a score, as rivals of TALE do.

What rivals do who measure layers and not models: ShortGPT ranks layers by how little they change
their input (arXiv 2403.03853). Accuracy only says where to stop. Knows neither models nor examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from telltale.searches.greedy import GreedyRemoval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.paths import LayerPath


@dataclass(frozen=True)
class RankedRemoval(GreedyRemoval):
    """Greedy removal that tries one layer a round, that of the lowest score.

    ``score`` names the score of layers, of which a higher one is of a layer that is needed more. Of
    equals the lowest layer goes first.
    """

    score: str = "block-influence"

    method: ClassVar[str] = "ranked removal"

    @property
    def needs(self) -> tuple[Any, ...]:
        """The score it ranks by."""
        return (self.score,)

    def children(self, paths: Sequence[LayerPath], start: LayerPath) -> dict[LayerPath, LayerPath]:
        """Of the paths with one more layer left out, the one without the lowest score."""
        found, scores = super().children(paths, start), self.layer_scores[self.score]

        def score(path: LayerPath) -> float:
            (layer,) = set(found[path].kept) - set(path.kept)
            return scores[layer]

        return {path: found[path] for path in [min(found, key=score)]} if found else {}
