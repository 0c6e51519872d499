"""What a search is: a frozen value that is called with a measure, and gives the models it kept.

Whatever it decides follows from its fields and from what the measure gave: it holds no state, so
that resuming is calling it again with a measure that remembers. Knows neither models nor examples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from telltale.errors import InputError
from telltale.measure import outcomes_by_path
from telltale.searches.elimination import Elimination
from telltale.searches.found import Candidate, Round, candidate_of
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from telltale.measure import Batch, Measure, Outcome
    from telltale.paths import LayerPath
    from telltale.searches.found import Found

# Accuracies are means of up to millions of scores: a true difference is larger than this, a
# rounding of `baseline - tolerance` is smaller.
ROUNDING = 1e-9
EXACT = ("full", "exact")  # the speeds at which the same is found
SPEEDS = (*EXACT, "fast")  # how candidates are measured


def score_of(outcome: Outcome) -> float:
    """An outcome valued by its score, so that the mean value is the accuracy."""
    return outcome.score


def admit_all(_: LayerPath) -> bool:
    """No guard."""
    return True


def ignore(_: Round) -> None:
    """Nobody is told of a round."""


def no_text(_: Sequence[LayerPath]) -> Mapping[LayerPath, float]:
    """There is no text.

    Raises:
        InputError: always.
    """
    raise InputError(
        "the search goes by the perplexity of a text; give it a function as perplexity"
    )


class Shortlist(NamedTuple):
    """Of the layers of a path only so many are tried, those of the lowest ``score``."""

    score: str
    size: int

    def __str__(self) -> str:
        return f"{self.score}:{self.size}"


def shortlist_from(text: str) -> Shortlist:
    """The shortlist of ``joint:8``.

    Raises:
        InputError: it is something else; whether there is such a score is not known here.
    """
    score, _, count = text.rpartition(":")
    if not score or not count.isdecimal() or not 1 <= len(count) < 9 or int(count) < 1:
        raise InputError(
            f"`shortlist` must be a score of layers and how many are tried, such as joint:8, got "
            f"{text!r}"
        )
    return Shortlist(score, int(count))


@dataclass(frozen=True)
class Search(ABC):
    """A way to choose paths, with what every search is given.

    A study fills in these fields; a search of your own adds fields of its own, with defaults that
    are JSON values, a ``method`` to be named by in results, and `__call__`.

    Attributes:
        tolerance: how far below the start's accuracy a kept model may fall, absolute, in [0, 1].
        max_removed: the most layers removed; None for no limit.
        protected: layers that always stay.
        value: what candidates are ranked by is its mean over examples.
        highest: the most that ``value`` gives for any example; where nothing bounds it, a candidate
            is never known to be behind before it is measured in full.
        admits: whether a candidate may be kept for other reasons than its accuracy; may cost a
            measurement, so it is asked of as few as possible.
        layer_scores: for each score that `needs` names, a number for each layer of the model.
        speed: how candidates are measured: ``full``, each on all examples; ``exact``, until it is
            certain that they are not kept; ``fast``, until it is likely (`racing`), for which
            examples must come in random blocks.
        shortlist: which of the children of a path are tried; None for all.
        perplexity: where `reads_text`, each path's perplexity on a text; it may cost a measurement,
            so many paths had better be asked for at once.
    """

    tolerance: float = 0.08
    max_removed: int | None = None
    protected: frozenset[int] = frozenset()
    value: Callable[[Outcome], float] = score_of
    highest: float = math.inf
    admits: Callable[[LayerPath], bool] = admit_all
    layer_scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    speed: str = "exact"
    shortlist: Shortlist | None = None
    perplexity: Callable[[Sequence[LayerPath]], Mapping[LayerPath, float]] = no_text

    method: ClassVar[str]
    # Whether it needs blocks of examples that are drawn at random (`Batch.block`), to judge by few
    # of them; else the hardest examples come first.
    goes_by_blocks: ClassVar[bool] = False
    # Whether it goes by a text's perplexity.
    reads_text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InputError(
                f"`tolerance` must be in [0, 1], got {self.tolerance:g}; it is a share of the "
                "examples, such as 0.08 for 8 points"
            )
        if self.max_removed is not None and self.max_removed < 1:
            raise InputError(f"`max_removed` must be at least 1, got {self.max_removed}")
        if self.speed not in SPEEDS:
            raise InputError(f"`speed` must be {one_of(SPEEDS)}, got {self.speed!r}")

    @abstractmethod
    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = ignore,
    ) -> Found:
        """Search from ``start`` on the batches' examples; ``watch`` is told of every round."""

    @property
    def needs(self) -> tuple[Any, ...]:
        """The scores of layers it goes by.

        Each is a name of `telltale.engine.layer_scores.LAYER_SCORES`, or a `LayerScore` itself.
        """
        return ()

    @property
    def scores_needed(self) -> tuple[Any, ...]:
        """What `needs` says, and the score by which it is chosen who is tried."""
        return self.needs if self.shortlist is None else (*self.needs, self.shortlist.score)

    @property
    def own_settings(self) -> dict[str, Any]:
        """Its own fields, which a study keeps as JSON values."""
        shared = {one.name for one in fields(Search)}
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in shared}
        return {name: list(one) if isinstance(one, tuple) else one for name, one in own.items()}

    def origin(self, measure: Measure, batches: Sequence[Batch], start: LayerPath) -> Candidate:
        """The start, measured: what a loss is counted from."""
        return self.measured(measure, batches, {start: None})[start]

    def measured(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        parents: Mapping[LayerPath, LayerPath | None],
    ) -> dict[LayerPath, Candidate]:
        """Measure some paths together, in the order of ``parents``.

        Args:
            measure: measures them. One that ends early for a path gives a candidate on fewer
                examples; of which it gives none at all is no candidate.
            batches: the search set.
            parents: for each path, the one that it is made from.
        """
        found = outcomes_by_path(list(measure(list(parents), batches)))
        candidates = {}
        for path, parent in parents.items():
            if path not in found:
                continue
            outcomes = found[path].values()
            values = [self.value(outcome) for outcome in outcomes]
            scores = [outcome.score for outcome in outcomes]
            candidates[path] = candidate_of(path, parent, values, scores)
        return candidates

    def decided(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        parents: Mapping[LayerPath, LayerPath | None],
        origin: Candidate,
        most: int = 1,
    ) -> Round:
        """Measure some paths until it is certain which are kept, and keep these.

        They are those that `chosen` would keep of all of them, `measured` in full; where `speed` is
        fast, likely such that are about as good. Others may be candidates on fewer examples.

        Args:
            measure: see `measured`.
            batches: see `measured`; best with the hardest examples first.
            parents: for each path, the one that it is made from.
            origin: what a loss is counted from.
            most: how many are kept at most.
        """
        if self.speed == "full":
            return self.chosen(self.measured(measure, batches, parents), origin, most)
        known = {path: parent for path, parent in parents.items() if parent is not None}
        if self.speed == "fast" and len(known) == len(parents):
            from telltale.searches.raced import RacedRound  # numpy and scipy are slow to import

            return RacedRound(self, measure, batches, known, origin, most).round()
        return Elimination(self, measure, batches, parents, origin, most).round()

    def children(self, paths: Sequence[LayerPath], start: LayerPath) -> dict[LayerPath, LayerPath]:
        """The paths with one more layer left out, each with the first that it is made from."""
        found: dict[LayerPath, LayerPath] = {}
        for path in paths:
            removed = start.depth - path.depth
            is_last = self.max_removed is not None and removed >= self.max_removed
            free = [layer for layer in path.kept if layer not in self.protected]
            for layer in () if is_last or path.depth == 1 else self._likeliest(free):
                found.setdefault(path.without(layer), path)
        return found

    def _likeliest(self, layers: Sequence[int]) -> Sequence[int]:
        """Of some layers those of the lowest scores, as many as are tried; in order."""
        if self.shortlist is None:
            return layers
        scores = self.layer_scores[self.shortlist.score]
        return sorted(sorted(layers, key=lambda layer: scores[layer])[: self.shortlist.size])

    def is_above_floor(self, candidate: Candidate, origin: Candidate) -> bool:
        """Whether a candidate stands on as many examples as the start, and near enough to it."""
        floor = origin.accuracy - self.tolerance - ROUNDING
        return candidate.examples >= origin.examples and candidate.accuracy >= floor

    def chosen(
        self, tried: Mapping[LayerPath, Candidate], origin: Candidate, most: int = 1
    ) -> Round:
        """A round: of the candidates that may be kept, at most so many, those of highest value."""
        kept: list[LayerPath] = []
        refused: list[LayerPath] = []
        # Sorting keeps equals in their order: of layers, the lowest is the first of them.
        for candidate in sorted(tried.values(), key=lambda one: -one.value):
            if len(kept) == most:
                break
            if self.is_above_floor(candidate, origin):
                (kept if self.admits(candidate.path) else refused).append(candidate.path)
        return Round(dict(tried), tuple(kept), tuple(refused), origin.examples)


class Steps:
    """The rounds of a search that goes on with one path, while they are made.

    Args:
        search: whose rounds they are.
        measure: measures candidates.
        batches: the search set.
        start: where the search starts.
        watch: is told of every round.
    """

    def __init__(
        self,
        search: Search,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None],
    ) -> None:
        self._search, self._measure, self._batches = search, measure, batches
        self._watch = watch
        self.origin = search.origin(measure, batches, start)
        self.rounds: list[Round] = []

    def best_of(self, parents: Mapping[LayerPath, LayerPath]) -> LayerPath | None:
        """A round of some paths, each made from another; which is kept, None where none is."""
        done = self._search.decided(self._measure, self._batches, parents, self.origin)
        self.rounds.append(done)
        self._watch(done)
        return done.kept[0] if done.kept else None

    def is_better(self, one: LayerPath, other: LayerPath) -> bool:
        """Whether one path that was kept has a higher value than another."""
        return self._value_of(one) > self._value_of(other) + ROUNDING

    def _value_of(self, path: LayerPath) -> float:
        return next(done.tried[path].value for done in self.rounds if path in done.kept)
