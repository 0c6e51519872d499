"""The rounds of a search before it is begun: the search itself, on outcomes that are made up.

Which paths a search will ask for depends on what it finds. So it is run some times, each time with
other candidates as the best and every model above the floor, and what it asks for is counted. The
means are what it is expected to take where every candidate is measured in full and no round is the
last before it must be.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass, field, replace
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

# How often the search is run: less often with many layers, of which a run takes longer.
MOST_TRIES, LEAST_TRIES, LAYERS_SQUARED = 16, 2, 20_000
GOLDEN = 0.618034  # multiples of it lie far from each other, counted round a circle


@dataclass(frozen=True, slots=True)
class RoundAhead:
    """What a round is expected to take.

    Attributes:
        candidates: how many paths are measured, the whole model not counted.
        layers: through how many layers each token of the search set goes for all of them.
        deepest: the layers of its deepest candidate.
        kept: of the models that it keeps, through how many layers more each token goes where all
            models kept are measured together on another set.
    """

    candidates: int
    layers: float
    deepest: int
    kept: float


@dataclass
class _Imagined:
    """Measures nothing: gives each path some score, and counts through how many layers it would go.

    The best of those asked for together lies at ``share`` of them, in every round at another: so a
    few runs are spread evenly over what may be found.
    """

    whole: LayerPath
    room: float
    in_a_row: bool
    share: float
    stored: frozenset[LayerPrefix] = frozenset()
    runs: list[dict[LayerPath, int]] = field(default_factory=lambda: [{}])  # by round

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        found = layer_runs(paths, self.stored, in_a_row=self.in_a_row)
        self.stored = states_kept(paths, self.stored, room=self.room, in_a_row=self.in_a_row)
        for path, count in found.items():
            self.runs[-1][path] = self.runs[-1].get(path, 0) + count
        best = int((self.share + GOLDEN * len(self.runs)) % 1 * len(paths))
        for place, path in enumerate(paths):
            score = 1.0 if place == best else 0.5
            for batch in batches:
                outcomes = tuple(Outcome(one, (), 0, score) for one in batch.examples)
                yield Measurement(batch, path, outcomes)

    def begin_round(self, _: Round) -> None:
        self.runs.append({})


def rounds_ahead(
    settings: Settings, whole: LayerPath, *, room: float = math.inf, in_a_row: bool = False
) -> list[RoundAhead]:
    """Every round that a search may have at most, each as it is expected to be.

    Args:
        settings: the search and what it is given.
        whole: the whole model.
        room: how many states may be kept; see `telltale.engine.forecast.states_kept`.
        in_a_row: see there.

    Raises:
        TelltaleError: it is a search of one's own that cannot be run on made-up outcomes.
    """
    count = max(LEAST_TRIES, min(MOST_TRIES, LAYERS_SQUARED // whole.depth**2))
    tries = [_tried(settings, whole, room, in_a_row, n / count) for n in range(count)]
    found = []
    for number in range(max(map(len, tries))):  # of a search of one's own they may differ
        some = [one[number] for one in tries if number < len(one)]
        found.append(
            RoundAhead(
                candidates=round(statistics.mean(one.candidates for one in some)),
                layers=statistics.mean(one.layers for one in some),
                deepest=max(one.deepest for one in some),
                kept=statistics.mean(one.kept for one in some),
            )
        )
    return found


def _tried(
    settings: Settings, whole: LayerPath, room: float, in_a_row: bool, share: float
) -> list[RoundAhead]:
    draw = random.Random(share)
    scores = {
        score.name: [draw.random() for _ in whole.kept]
        for score in needed_scores(settings.search).values()
    }
    search = replace(settings, tolerance=1.0, speed="full").bound(
        lambda outcome: outcome.score, layer_scores=scores
    )
    measure = _Imagined(whole, room, in_a_row, share)
    try:
        found: Found = search(measure, [Batch((0,))], whole, measure.begin_round)
    except Exception as problem:
        raise TelltaleError(
            f"the search {type(search).__name__} cannot be run on made-up outcomes "
            f"({type(problem).__name__}: {problem}), so its rounds are not known before"
        ) from problem
    rounds = [one for one in measure.runs if one]
    known = prefixes([whole])
    ahead = []
    for runs, done in zip(rounds, found.rounds, strict=False):
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
