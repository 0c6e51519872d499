"""What a search gives: the candidates of every round, and the models it has kept.

Everything is by path, so that a search may hold several paths at a time, put a layer back, or leave
out several at once. Knows neither models nor examples.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.moved import GONE_IN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from telltale.paths import LayerPath


@dataclass(frozen=True, slots=True)
class Candidate:
    """A path that was measured on the search set.

    ``parent`` is the path that it was made from; None for the path that a search starts from.
    ``accuracy`` and ``value``, by which candidates are ranked, are means over so many ``examples``:
    fewer than the search set has where measuring the candidate ended early.
    """

    path: LayerPath
    parent: LayerPath | None
    accuracy: float
    value: float
    examples: int

    def at_most(self, examples: int, highest: float | None) -> tuple[float, float | None]:
        """The accuracy and value that it may have at most on all examples.

        Args:
            examples: how many the search set has.
            highest: the most that an example is valued; None where that is not known.
        """
        missing = examples - self.examples
        accuracy = (self.accuracy * self.examples + missing) / examples
        if highest is None:
            return accuracy, None
        return accuracy, (self.value * self.examples + highest * missing) / examples

    @property
    def left_out(self) -> tuple[int, ...]:
        """The layers that its parent has and it has not, in ascending order."""
        kept = () if self.parent is None else self.parent.kept
        return tuple(layer for layer in kept if layer not in self.path.kept)

    @property
    def put_back(self) -> tuple[int, ...]:
        """The layers that it has and its parent has not, in ascending order."""
        if self.parent is None:
            return ()
        return tuple(layer for layer in self.path.kept if layer not in self.parent.kept)


def candidate_of(
    path: LayerPath, parent: LayerPath | None, values: Sequence[float], scores: Sequence[float]
) -> Candidate:
    """The candidate that has these values and scores, one of each an example, in any order.

    Sums are exact and rounded once, so that no order changes them, and none falls where an
    addend rises.
    """
    count = len(values)
    return Candidate(path, parent, math.fsum(scores) / count, math.fsum(values) / count, count)


@dataclass(frozen=True, slots=True)
class LayerRound:
    """A round as searches made it when rounds were by layer; for a release."""

    removed: int
    accepted: bool
    candidates: Mapping[int, float]
    values: Mapping[int, float]
    guarded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Certainty:
    """What is said of a round in which candidates left before it was certain that they lose.

    With this ``probability`` no candidate that might have been kept has a mean value above that of
    the one that was kept by more than ``epsilon``, in the objective's unit. ``is_proven`` says
    whether that follows from the examples' random order alone; else it is shown by simulation
    (`telltale.searches.racing`).
    """

    epsilon: float
    probability: float
    is_proven: bool


@dataclass(frozen=True)
class Round:
    """Candidates that were compared with each other, by their path.

    ``kept`` are the paths that the search goes on with, the best first; none in a last round in
    which no candidate may be kept. ``refused`` would have been kept, had a guard not refused them.
    ``examples`` is how many the search set has; None where that is not known.
    ``certainty`` is None where it is certain that nothing else would be kept, had every candidate
    been measured in full.

    Raises:
        InputError: nothing was tried, or what was not is kept.
    """

    tried: Mapping[LayerPath, Candidate]
    kept: tuple[LayerPath, ...]
    refused: tuple[LayerPath, ...] = ()
    examples: int | None = field(default=None, compare=False)
    certainty: Certainty | None = None

    if not TYPE_CHECKING:  # a type checker is to know rounds by path alone

        def __new__(cls, *given: Any, **named: Any) -> Any:
            """A round; what was made by layer is one by layer still, for a release."""
            if "removed" in named or isinstance(next(iter(given), None), int):
                said = f"rounds by layer go in telltale {GONE_IN}: give Round(tried, kept), by path"
                warnings.warn(said, DeprecationWarning, stacklevel=2)
                return LayerRound(*given, **named)
            return super().__new__(cls)

    def __post_init__(self) -> None:
        if not self.tried:
            raise InputError(
                "a round of the search has no candidate; end the search where there is none, and "
                "measure each on one batch at least"
            )
        for path in (*self.kept, *self.refused):
            if path not in self.tried:
                raise InputError(
                    f"a round of the search keeps or refuses the path without {list(path.removed)},"
                    " which it has not tried; keep only candidates of the round"
                )

    @cached_property
    def first(self) -> Candidate:
        """The best that was kept; where none was, the best of those measured most."""
        if self.kept:
            return self.tried[self.kept[0]]
        return max(self.tried.values(), key=lambda one: (one.examples, one.value))

    @cached_property
    def left_early(self) -> tuple[LayerPath, ...]:
        """The candidates not measured on all examples: they could not be kept, or lost a race."""
        every = self.examples or max(one.examples for one in self.tried.values())
        return tuple(path for path, one in self.tried.items() if one.examples < every)

    @property
    def accepted(self) -> bool:
        """Whether any candidate was kept."""
        return bool(self.kept)

    @cached_property
    def parent(self) -> LayerPath | None:
        """The path that every candidate has but for one layer; None where there is none such."""
        parents = {one.parent for one in self.tried.values()}
        steps = all(len(one.left_out) == 1 and not one.put_back for one in self.tried.values())
        return parents.pop() if len(parents) == 1 and steps else None

    # What rounds had when they were by layer; for a release.

    @property
    def removed(self) -> int:
        """The last of the layers that the first candidate leaves out. Deprecated: `first`."""
        _deprecated("removed", "first.left_out")
        return self.first.left_out[-1]

    @property
    def candidates(self) -> dict[int, float]:
        """Accuracies by the layer left out. Deprecated: `tried`."""
        _deprecated("candidates", "tried")
        return {one.left_out[-1]: one.accuracy for one in self.tried.values()}

    @property
    def values(self) -> dict[int, float]:
        """Values by the layer left out. Deprecated: `tried`."""
        _deprecated("values", "tried")
        return {one.left_out[-1]: one.value for one in self.tried.values()}

    @property
    def guarded(self) -> tuple[int, ...]:
        """The layers that a guard did not let go. Deprecated: `refused`."""
        _deprecated("guarded", "refused")
        return tuple(self.tried[path].left_out[-1] for path in self.refused)


def _deprecated(old: str, new: str) -> None:
    said = f"Round.{old} goes in telltale {GONE_IN}; rounds are by path: use Round.{new}"
    warnings.warn(said, DeprecationWarning, stacklevel=3)


@dataclass(frozen=True, slots=True)
class Kept(Candidate):
    """A model that a search has kept. ``removed`` are the layers it lacks, in order of removal."""

    removed: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A finished search: the path it started from, and its rounds.

    Raises:
        InputError: a candidate was made from a path that was never kept.
    """

    origin: Candidate
    rounds: tuple[Round, ...]

    def __post_init__(self) -> None:
        known = {self.origin.path}
        for number, done in enumerate(self.rounds, start=1):
            for candidate in done.tried.values():
                if candidate.parent not in known:
                    raise InputError(
                        f"the search tried the path without {list(candidate.path.removed)} in "
                        f"round {number}, whose parent was not kept before; give each candidate "
                        "the path it was made from"
                    )
            known.update(done.kept)

    @property
    def start(self) -> LayerPath:
        """The path that the search started from."""
        return self.origin.path

    @property
    def baseline(self) -> float:
        """That path's accuracy on the search set."""
        return self.origin.accuracy

    @property
    def baseline_value(self) -> float:
        """What that path was ranked by."""
        return self.origin.value

    @cached_property
    def kept(self) -> tuple[Kept, ...]:
        """The models kept, the start first; of as many layers removed, the one of highest value."""
        orders = removal_orders(self.start, self.rounds)
        first: dict[LayerPath, Kept] = {self.start: _kept(self.origin, ())}
        for done in self.rounds:
            for path in done.kept:
                first.setdefault(path, _kept(done.tried[path], orders[path]))
        best: dict[int, Kept] = {}
        for model in first.values():
            there = best.setdefault(len(model.removed), model)
            if model.value > there.value:
                best[len(model.removed)] = model
        return tuple(best[count] for count in sorted(best))

    @property
    def best(self) -> Kept:
        """BEST: of `kept`, the most accurate; of equals, that with the fewest layers removed."""
        return max(self.kept, key=lambda model: (model.accuracy, -len(model.removed)))

    @property
    def bsba(self) -> Kept:
        """BSBA, best speedup with at least baseline accuracy: the shallowest such of `kept`."""
        enough = [model for model in self.kept if model.accuracy >= self.baseline]
        return max(enough, key=lambda model: len(model.removed))


def removal_orders(start: LayerPath, rounds: Iterable[Round]) -> dict[LayerPath, tuple[int, ...]]:
    """The layers that each path lacks in order of removal, of the start and of every path kept.

    A layer that was put back and left out again comes where it was left out last.
    """
    orders: dict[LayerPath, tuple[int, ...]] = {start: ()}
    for done in rounds:
        for path in done.kept:
            candidate = done.tried[path]
            if path not in orders and candidate.parent is not None:
                before = orders[candidate.parent]
                stay = (layer for layer in before if layer not in path.kept)
                orders[path] = (*stay, *candidate.left_out)
    return orders


def _kept(candidate: Candidate, removed: tuple[int, ...]) -> Kept:
    return Kept(
        candidate.path,
        candidate.parent,
        candidate.accuracy,
        candidate.value,
        candidate.examples,
        removed,
    )


def removal(
    start: LayerPath, baseline: float, baseline_value: float, rounds: Iterable[LayerRound]
) -> Found:
    """What a search has found, from rounds by layer. Deprecated: `Found`.

    It is not known on how many examples candidates stand, so they say none.
    """
    said = f"telltale.searches.Removal goes in telltale {GONE_IN}; give Found(origin, rounds)"
    warnings.warn(said, DeprecationWarning, stacklevel=2)
    path, by_path = start, list[Round]()
    for done in rounds:
        tried = {
            path.without(layer): Candidate(path.without(layer), path, accuracy, value, 0)
            for layer, accuracy in done.candidates.items()
            for value in [done.values[layer]]
        }
        best = path.without(done.removed)
        refused = tuple(path.without(layer) for layer in done.guarded)
        by_path.append(Round(tried, (best,) if done.accepted else (), refused))
        path = best if done.accepted else path
    return Found(Candidate(start, None, baseline, baseline_value, 0), tuple(by_path))
