"""What a search would do and cost, as a value: what is told of it before it is begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.tasks.sets import Role

VERSION = 1


class Range(NamedTuple):
    """The least and the most that is expected."""

    low: float
    high: float

    def plus(self, other: Range) -> Range:
        """Of both together."""
        return Range(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float) -> Range:
        """The least so many times, and the most so many."""
        return Range(self.low * low, self.high * high)


class Work(NamedTuple):
    """What a part of the search is expected to take.

    ``layer_tokens`` are tokens times the layers that they go through, padding counted. ``seconds``
    is None where it cannot be said.
    """

    layer_tokens: Range
    seconds: Range | None

    def plus(self, other: Work) -> Work:
        """Of both together."""
        known = self.seconds is not None and other.seconds is not None
        return Work(
            self.layer_tokens.plus(other.layer_tokens),
            self.seconds.plus(other.seconds) if known else None,  # type: ignore[union-attr, arg-type]
        )

    def times(self, low: float, high: float) -> Work:
        """The least so many times, and the most so many."""
        seconds = None if self.seconds is None else self.seconds.times(low, high)
        return Work(self.layer_tokens.times(low, high), seconds)

    @property
    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "layer_tokens": [round(one) for one in self.layer_tokens],
            "seconds": None if self.seconds is None else [float(f"{s:.3g}") for s in self.seconds],
        }


@dataclass(frozen=True, slots=True)
class PlannedRound:
    """A round: how many candidates it tries, and its work at each speed, by name."""

    candidates: int
    work: Mapping[str, Work]


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a search would do and cost; ``document`` has all of it as JSON values.

    Attributes:
        model: name, revision, hash, layers, parameters and precision.
        device: where it would run.
        task: what is asked, and how.
        settings: how the search chooses.
        sets: the ids of every set's examples, by role.
        tokens: of an example as it is read by itself: ``mean`` and ``longest``.
        begin: the work before the first round: the whole model on the search set.
        rounds: every round that there may be, if none is the last before it must be; None where a
            search of one's own does not say.
        after: the work on each other set, by role, if every round keeps a model.
        memory: bytes by what takes them: ``weights``, ``states`` at most, and a ``batch``.
        batches: of the search set, in how many it is measured.
        advice: what can be seen with so many held-out examples.
        is_begun: whether the folder holds the study, so that it goes on.
        layer_token_seconds: what was timed; None where it could not be.
        needs: by target, how many layers must be removed for it at least, as is counted from the
            model's shape and a moment's timing; None where that is not known.
    """

    model: Mapping[str, Any]
    device: str
    task: Mapping[str, Any]
    settings: Mapping[str, Any]
    sets: Mapping[Role, tuple[str, ...]]
    tokens: Mapping[str, float]
    begin: Work
    rounds: tuple[PlannedRound, ...] | None
    after: Mapping[Role, Work]
    memory: Mapping[str, int]
    batches: int
    advice: str
    is_begun: bool
    layer_token_seconds: float | None
    needs: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def speed(self) -> str:
        """How candidates are measured."""
        return str(self.settings["speed"])

    def searched(self, speed: str, rounds: int | None = None) -> Work:
        """The work of the search at a speed: of the first rounds, or of all."""
        found = self.begin
        for one in (self.rounds or ())[:rounds]:
            found = found.plus(one.work[speed])
        return found

    @property
    def candidates(self) -> int | None:
        """How many candidates are tried at most."""
        if self.rounds is None:
            return None
        return sum(one.candidates for one in self.rounds)

    @property
    def speeds(self) -> tuple[str, ...]:
        """The speeds of which the work is known."""
        return tuple(self.rounds[0].work) if self.rounds else ()

    @property
    def document(self) -> dict[str, Any]:
        """As JSON values; see docs/reference/plan.md."""
        rounds = self.rounds
        return {
            "version": VERSION,
            "model": dict(self.model),
            "device": self.device,
            "task": dict(self.task),
            "search": dict(self.settings),
            "begun": self.is_begun,
            "sets": {role: list(ids) for role, ids in self.sets.items()},
            "tokens": dict(self.tokens),
            "batches": self.batches,
            "candidates": self.candidates,
            "begin": self.begin.document,
            "rounds": None
            if rounds is None
            else [
                {
                    "candidates": one.candidates,
                    **{speed: work.document for speed, work in one.work.items()},
                }
                for one in rounds
            ],
            "total": None
            if rounds is None
            else {speed: self.searched(speed).document for speed in self.speeds},
            "after": {role: work.document for role, work in self.after.items()},
            "memory": dict(self.memory),
            "layer_token_seconds": self.layer_token_seconds,
            "advice": self.advice,
            **({"needs": dict(self.needs)} if self.needs else {}),
        }
