"""The rounds of a search before it is begun: the search itself, on outcomes that are made up.

Which paths a search asks for, and what they have in common, depends on what it finds: the later the
layers that it leaves out, the more of a round is known from the round before. So it is run on
scores that are made up, as if the best candidate always lay at one place of the model, with every
model above the floor; and what it asks for is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from telltale.engine.forecast import layer_runs, states_kept
from telltale.errors import TelltaleError
from telltale.measure import Batch, Measurement, Outcome
from telltale.study.measuring import needed_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.engine.prefixes import LayerPrefix
    from telltale.paths import LayerPath
    from telltale.searches import Found, Round
    from telltale.study.settings import Settings


@dataclass(frozen=True, slots=True)
class RoundAhead:
    """What a round takes where every candidate is measured in full.

    Attributes:
        candidates: how many paths are measured, the whole model not counted.
        layers: through how many layers each token of the search set goes for all of them.
        deepest: the layers of its deepest candidate.
        text_layers: through how many layers each token of the text goes, if the search reads it.
    """

    candidates: int
    layers: int
    deepest: int
    text_layers: int = 0


@dataclass(frozen=True, slots=True)
class SearchAhead:
    """A search that ends only where it must.

    Attributes:
        rounds: its rounds.
        kept: how many models it keeps, the whole one too.
        layers: through how many layers each token goes where all of these are measured together.
    """

    rounds: tuple[RoundAhead, ...]
    kept: int
    layers: int


def search_ahead(
    settings: Settings, whole: LayerPath, *, room: float, in_a_row: bool, place: float
) -> SearchAhead:
    """A search as it is if the best of each round's candidates lies at one place of them.

    Args:
        settings: the search and what it is given.
        whole: the whole model.
        room: how many states may be kept; see `telltale.engine.forecast.states_kept`.
        in_a_row: see there.
        place: where, from 0 for the one that lacks the first layer to 1.

    Raises:
        TelltaleError: it is a search of one's own that cannot be run on made-up outcomes.
    """
    # Layers by how far they are from that place, for searches that go by scores of layers.
    distances = [abs(layer - place * (whole.depth - 1)) for layer in whole.kept]
    search = replace(settings, tolerance=1.0, speed="full").bound(
        lambda outcome: outcome.score,
        layer_scores={one.name: distances for one in needed_scores(settings).values()},
    )
    measure = _Imagined(room, in_a_row, place)
    search = replace(search, perplexity=measure.perplexity)
    try:
        found: Found = search(measure, [Batch((0,))], whole, measure.begin_round)
        kept = [model.path for model in found.kept]
    except Exception as problem:
        raise TelltaleError(
            f"the search {type(search).__name__} cannot be run on made-up outcomes "
            f"({type(problem).__name__}: {problem}), so its rounds are not known before"
        ) from problem
    rounds = [
        RoundAhead(
            candidates=len(runs),
            layers=sum(runs.values()),
            deepest=max(path.depth for path in runs),
            text_layers=of_text,
        )
        for of_round, of_text in zip(measure.runs, measure.text_runs, strict=True)
        if (runs := {path: count for path, count in of_round.items() if path != whole})
    ]
    together = layer_runs(kept)
    return SearchAhead(tuple(rounds), len(kept), sum(together.values()))


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
    read: set[LayerPath] = field(default_factory=set)  # of the text
    text_runs: list[int] = field(default_factory=lambda: [0])  # by round

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

    def perplexity(self, paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        """Of each path some perplexity, the lowest at ``place`` of those asked for together."""
        unread = [path for path in paths if path not in self.read]
        self.text_runs[-1] += sum(layer_runs(unread).values())
        self.read.update(unread)
        best = self.place * (len(paths) - 1)
        return {path: 1.0 + abs(number - best) for number, path in enumerate(paths)}

    def begin_round(self, _: Round) -> None:
        self.runs.append({})
        self.text_runs.append(0)
