"""Beam search: the best few paths of every depth are gone on with.

Knows neither models nor examples: it is called with a measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from telltale.errors import InputError
from telltale.searches.found import Found, Round
from telltale.searches.search import Search, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.measure import Batch, Measure
    from telltale.paths import LayerPath


@dataclass(frozen=True)
class BeamSearch(Search):
    """Of all paths with one more layer left out, the ``width`` best that may be kept.

    Lowerre (1976), with removal of layers for its steps. Of width 1 it is greedy removal.

    Raises:
        InputError: the width is below 1.
    """

    width: int = 4

    method: ClassVar[str] = "beam search"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise InputError(f"the width of a beam must be at least 1, got {self.width}")

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start``; ``watch`` is told of every round."""
        origin = self.origin(measure, batches, start)
        beam: tuple[LayerPath, ...] = (start,)
        rounds = list[Round]()
        while candidates := self.children(beam, start):
            done = self.decided(measure, batches, candidates, origin, most=self.width)
            rounds.append(done)
            watch(done)
            if not done.kept:
                break
            beam = done.kept
        return Found(origin, tuple(rounds))
