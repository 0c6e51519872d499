"""The rounds of a search before it is begun: the search itself, on outcomes that are made up.

Which paths a search asks for, and what they have in common, depends on what it finds: the later the
layers that it leaves out, the more of a round is known from the round before. So it is run twice on
scores that are made up, as if the best candidate always lay a quarter up the model and as if it
always lay three quarters up, with every model above the floor; and what it asks for is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from telltale.engine.forecast import layer_runs, states_kept
from telltale.engine.prefixes import prefixes
from telltale.errors import TelltaleError
from telltale.measure import Batch, Measurement, Outcome
from telltale.study.measuring import needed_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.engine.prefixes import LayerPrefix
    from telltale.paths import LayerPath
    from telltale.searches import Found, Round
    from telltale.study.settings import Settings

PLACES = (0.25, 0.75)


@dataclass(frozen=True, slots=True)
class RoundAhead:
    """What a round takes where every candidate is measured in full.

    Attributes:
        candidates: how many paths are measured, the whole model not counted.
        layers: through how many layers each token of the search set goes for all of them.
        deepest: the layers of its deepest candidate.
        kept: where all models kept are measured together on another set, through how many layers
            each of its tokens goes for those of this round.
    """

    candidates: int
    layers: int
    deepest: int
    kept: int


def rounds_ahead(
    settings: Settings, whole: LayerPath, *, room: float = math.inf, in_a_row: bool = False
) -> list[tuple[RoundAhead, RoundAhead]]:
    """Every round that a search may have at most, as the one and as the other place has it.

    Args:
        settings: the search and what it is given.
        whole: the whole model.
        room: how many states may be kept; see `telltale.engine.forecast.states_kept`.
        in_a_row: see there.

    Raises:
        TelltaleError: it is a search of one's own that cannot be run on made-up outcomes.
    """
    one, other = (_run(settings, whole, room, in_a_row, place) for place in PLACES)
    nothing = RoundAhead(0, 0, 0, 0)
    return list(zip_longest(one, other, fillvalue=nothing))


def _run(
    settings: Settings, whole: LayerPath, room: float, in_a_row: bool, place: float
) -> list[RoundAhead]:
    # Layers by how far they are from that place, for searches that go by scores of layers.
    distances = [abs(layer - place * (whole.depth - 1)) for layer in whole.kept]
    search = replace(settings, tolerance=1.0, speed="full").bound(
        lambda outcome: outcome.score,
        layer_scores={one.name: distances for one in needed_scores(settings.search).values()},
    )
    measure = _Imagined(room, in_a_row, place)
    try:
        found: Found = search(measure, [Batch((0,))], whole, measure.begin_round)
    except Exception as problem:
        raise TelltaleError(
            f"the search {type(search).__name__} cannot be run on made-up outcomes "
            f"({type(problem).__name__}: {problem}), so its rounds are not known before"
        ) from problem
    known, ahead = prefixes([whole]), []
    for runs, done in zip(measure.runs, found.rounds, strict=False):
        candidates = [path for path in runs if path != whole]
        seen = known | prefixes(done.kept)
        ahead.append(
            RoundAhead(
                candidates=len(candidates),
                layers=sum(runs[path] for path in candidates),
                deepest=max((path.depth for path in candidates), default=0),
                kept=len(seen) - len(known),
            )
        )
        known = seen
    return ahead


@dataclass
class _Imagined:
    """Measures nothing: gives each path some score, and counts the layers that it would run.

    The best of those asked for together lies at ``place`` of them.
    """

    room: float
    in_a_row: bool
    place: float
    stored: frozenset[LayerPrefix] = frozenset()
    runs: list[dict[LayerPath, int]] = field(default_factory=lambda: [{}])  # by round

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        found = layer_runs(paths, self.stored, in_a_row=self.in_a_row)
        self.stored = states_kept(paths, self.stored, room=self.room, in_a_row=self.in_a_row)
        for path, count in found.items():
            self.runs[-1][path] = self.runs[-1].get(path, 0) + count
        best = self.place * (len(paths) - 1)
        for number, path in enumerate(paths):
            score = 1 / (1 + abs(number - best))
            for batch in batches:
                outcomes = tuple(Outcome(one, (), 0, score) for one in batch.examples)
                yield Measurement(batch, path, outcomes)

    def begin_round(self, _: Round) -> None:
        self.runs.append({})
