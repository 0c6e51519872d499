"""Removal by ranking: layers are left out in an order that is fixed before, as rivals of TALE do.

What rivals do who measure layers and not models: ShortGPT ranks layers by how little they change
their input (arXiv 2403.03853). Accuracy only says where to stop. Knows neither models nor examples.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from telltale.errors import InputError
from telltale.paths import LayerPath
from telltale.searches.greedy import GreedyRemoval

if TYPE_CHECKING:
    from collections.abc import Sequence


class OrderedRemoval(GreedyRemoval):
    """Greedy removal that tries one layer a round, that of the lowest rank.

    Of equals the lowest layer goes first.
    """

    @abstractmethod
    def ranks(self, start: LayerPath) -> Sequence[float]:
        """A number for each layer of the model; the lowest goes first."""

    def children(self, paths: Sequence[LayerPath], start: LayerPath) -> dict[LayerPath, LayerPath]:
        """Of the paths with one more layer left out, the one without the lowest rank."""
        found = super().children(paths, start)
        if not found:
            return {}
        ranks = self.ranks(start)

        def rank(path: LayerPath) -> float:
            (layer,) = set(found[path].kept) - set(path.kept)
            return ranks[layer]

        return {path: found[path] for path in [min(found, key=rank)]}


@dataclass(frozen=True)
class RankedRemoval(OrderedRemoval):
    """Layers go in the order of a score.

    ``score`` names the score of layers, of which a higher one is of a layer that is needed more.
    """

    score: str = "block-influence"

    method: ClassVar[str] = "ranked removal"

    @property
    def needs(self) -> tuple[Any, ...]:
        """The score it ranks by."""
        return (self.score,)

    def ranks(self, start: LayerPath) -> Sequence[float]:  # noqa: ARG002 - the same of every start
        """See `OrderedRemoval`."""
        return self.layer_scores[self.score]


@dataclass(frozen=True)
class LastLayers(OrderedRemoval):
    """The deepest layers go first, but for the very last, which goes after all others.

    The simple heuristic of Gromov et al. (arXiv 2403.17887), section 4.4: of L layers, counted from
    1, L - n to L - 1 are left out.
    """

    method: ClassVar[str] = "removal of the last layers"

    def ranks(self, start: LayerPath) -> Sequence[float]:
        """See `OrderedRemoval`."""
        last = start.total - 1
        return [1.0 if layer == last else -float(layer) for layer in range(start.total)]


@dataclass(frozen=True)
class RandomRemoval(OrderedRemoval):
    """Layers go in a random order, which follows from ``seed``: what no choice at all gives."""

    seed: int = 0

    method: ClassVar[str] = "random removal"

    def ranks(self, start: LayerPath) -> Sequence[float]:
        """See `OrderedRemoval`."""
        source = random.Random(self.seed)
        return [source.random() for _ in range(start.total)]


@dataclass(frozen=True)
class PerplexityRemoval(OrderedRemoval):
    """Layers go in the order of a text's perplexity without each of them alone.

    The criterion PPL of Shortened LLaMA (Kim et al., arXiv 2402.02834), section 3.1: one-shot, on
    a text and not on the task.
    """

    method: ClassVar[str] = "removal by perplexity"
    reads_text: ClassVar[bool] = True

    def ranks(self, start: LayerPath) -> Sequence[float]:
        """See `OrderedRemoval`."""
        without = {layer: start.without(layer) for layer in start.kept}
        found = self.perplexity(list(without.values()))
        return [found[without[layer]] if layer in without else 0.0 for layer in range(start.total)]


@dataclass(frozen=True)
class SlebRemoval(GreedyRemoval):
    """In each round the layer goes without which a text's perplexity is the lowest.

    SLEB (Song et al., arXiv 2402.09025), section 3: greedy and iterative, on a text and not on the
    task. Of equals the lowest layer goes.
    """

    method: ClassVar[str] = "SLEB"
    reads_text: ClassVar[bool] = True

    def children(self, paths: Sequence[LayerPath], start: LayerPath) -> dict[LayerPath, LayerPath]:
        """Of the paths with one more layer left out, the one of the lowest perplexity."""
        found = super().children(paths, start)
        if not found:
            return {}
        perplexity = self.perplexity(list(found))
        return {path: found[path] for path in [min(found, key=lambda path: perplexity[path])]}


@dataclass(frozen=True)
class BlockRemoval(GreedyRemoval):
    """One block of neighbouring layers goes, in each round one that is a layer larger.

    Of a size the block over which the state turns least: Gromov et al. (arXiv 2403.17887), section
    3.2, whose angular distance is taken at the last token before the right answer. Blocks of two
    sizes need not overlap, so that each model is made from the whole one. A block with a protected
    layer is passed over; of equals the first goes.
    """

    method: ClassVar[str] = "removal of a block"

    @property
    def needs(self) -> tuple[Any, ...]:
        """The angular distance over blocks of every size.

        Raises:
            InputError: nothing says how large a block may be.
        """
        if self.max_removed is None:
            raise InputError(
                "`search` contiguous compares blocks of every size up to `max_removed`; give that "
                "too, such as 8"
            )
        return tuple(map(distance_over, range(1, self.max_removed + 1)))

    def children(self, paths: Sequence[LayerPath], start: LayerPath) -> dict[LayerPath, LayerPath]:
        """The block of the next size; none where no block may be larger."""
        size = 1 + start.depth - min(path.depth for path in paths)
        if size > min(self.max_removed or start.depth, start.depth - 1):
            return {}
        blocks = [
            start.kept[first : first + size]
            for first in range(start.depth - size + 1)
            if self.protected.isdisjoint(start.kept[first : first + size])
        ]
        if not blocks:
            return {}
        distances = self.layer_scores[distance_over(size)]
        block = min(blocks, key=lambda layers: distances[layers[0]])
        return {LayerPath.from_removed((*start.removed, *block), start.total): start}


def distance_over(size: int) -> str:
    """The name of the score that is the angular distance over so many layers from each on."""
    return "angular-distance" if size == 1 else f"angular-distance:{size}"
