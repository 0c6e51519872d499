"""What a search gives: the candidates of every round, and the models it has kept.

Everything is by path, so that a search may hold several paths at a time, put a layer back, or leave
out several at once. Knows neither models nor examples.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


@dataclass(frozen=True)
class Round:
    """Candidates that were compared with each other, by their path.

    ``kept`` are the paths that the search goes on with, the best first; none in a last round in
    which no candidate may be kept. ``refused`` would have been kept, had a guard not refused them.

    Raises:
        InputError: nothing was tried.
    """

    tried: Mapping[LayerPath, Candidate]
    kept: tuple[LayerPath, ...]
    refused: tuple[LayerPath, ...] = ()

    def __post_init__(self) -> None:
        if not self.tried:
            raise InputError(
                "a round of the search has no candidate; end the search where there is none, and "
                "measure each on one batch at least"
            )

    @cached_property
    def first(self) -> Candidate:
        """The best that was kept; where none was, the best of all."""
        if self.kept:
            return self.tried[self.kept[0]]
        return max(self.tried.values(), key=lambda one: (one.examples, one.value))

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
    said = f"Round.{old} goes in telltale 0.2; rounds are by path: use Round.{new}"
    warnings.warn(said, DeprecationWarning, stacklevel=3)


@dataclass(frozen=True, slots=True)
class Kept(Candidate):
    """A model that a search has kept. ``removed`` are the layers it lacks, in order of removal."""

    removed: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A finished search: the path it started from, and its rounds.

    Raises:
        InputError: a path is kept that its round has not tried, or one was made from a path that
            was never kept.
    """

    origin: Candidate
    rounds: tuple[Round, ...]

    def __post_init__(self) -> None:
        known = {self.origin.path}
        for number, done in enumerate(self.rounds, start=1):
            for path in done.kept:
                if path not in done.tried:
                    raise InputError(
                        f"the search kept the path without {list(path.removed)} in round {number}, "
                        "which that round has not tried; keep only candidates of the round"
                    )
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
        """BEST: the highest accuracy; of equals, the one with the fewest layers removed."""
        return max(self.kept, key=lambda model: (model.accuracy, -len(model.removed)))

    @property
    def bsba(self) -> Kept:
        """BSBA, best speedup with at least baseline accuracy: the fewest layers of those."""
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
