"""Watchers: callbacks that are told how a study goes on. Knows no screen and no torch."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from telltale.evidence.result import Result
    from telltale.measure import Measurement
    from telltale.paths import LayerPath
    from telltale.searches import Round


class Watcher:
    """Is told how a study goes on. This one ignores it; a screen draws it, a tracker keeps it.

    A watcher that raises ends the search with its exception, which is how to stop one from outside;
    what was measured is kept, as after any interruption. One that must never end a search has to
    mind its own failures, as `telltale.tracking.Tracker` does.

    It may be used in a ``with`` statement around the search, for what it has to open and close.
    """

    def begun(self, asked: Mapping[str, Any]) -> None:
        """A search knows what it asks, and measures next; told once a run, a resumed one too.

        ``asked`` has ``model``, ``task``, ``guards`` and ``search``, the settings, as JSON values.
        The model's ``given`` may be a path of this machine.
        """

    def phase(self, name: str) -> None:
        """A part of the study begins.

        That is ``self-test`` where a study has not begun yet, ``search``, ``held-out``,
        ``guard NAME held-out``, ``text``, ``speed``, ``final`` or ``target``; of an evaluation
        ``self-test``, ``evaluation`` or ``text``; of tuning also ``put-back``, ``tune`` and those
        of its searches.
        """

    def advised(self, advice: str) -> None:
        """Before anything is measured: what can be seen with so many examples, or what slows it."""

    def expect(self, measurements: int) -> None:
        """So many measurements are asked for next, in a search at most: candidates leave early."""

    def weighed(self, shares: Mapping[LayerPath, float]) -> None:
        """What share each path is likely to be of the work that is expected; together 1.

        Told after `expect`, of a search's rounds where choices are compared: a candidate that
        leaves out a late layer shares most of its work with others. A path may be measured that has
        no share.
        """

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        """One of them is there."""

    def round_done(self, done: Round) -> None:
        """The search has finished a round.

        Where a batch did not fit in memory, the search begins again with its halves, and the rounds
        before it are told again.
        """

    def finished(self, result: Result) -> None:
        """The study is finished and written; told once, with what `telltale.search` returns."""

    def stepped(
        self,
        step: int,
        steps: int,
        *,
        seconds: float,
        tokens: int,
        loss: float,
        development_loss: float | None,
    ) -> None:
        """A training has made an optimiser step, the ``step``-th, from 1, of ``steps`` at most.

        ``seconds`` and ``tokens`` are what all its steps so far have taken. ``loss`` is this step's
        on its examples, before it; ``development_loss`` is None where it was not taken after it.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The search is over, in whatever way."""


class Watchers(Watcher):
    """Tells several watchers, each in its turn.

    Where one raises, those after it are not told of that, and the exception goes on. In a ``with``
    statement all are entered in order and left in the reverse order, whichever of them raises.
    """

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = tuple(watchers)
        self._entered = ExitStack()

    def begun(self, asked: Mapping[str, Any]) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.begun(asked)

    def phase(self, name: str) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.phase(name)

    def advised(self, advice: str) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.advised(advice)

    def expect(self, measurements: int) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.expect(measurements)

    def weighed(self, shares: Mapping[LayerPath, float]) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.weighed(shares)

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.measured(measurement, remembered=remembered)

    def round_done(self, done: Round) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.round_done(done)

    def finished(self, result: Result) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.finished(result)

    def stepped(
        self,
        step: int,
        steps: int,
        *,
        seconds: float,
        tokens: int,
        loss: float,
        development_loss: float | None,
    ) -> None:
        """Tell each."""
        for watcher in self._watchers:
            watcher.stepped(
                step,
                steps,
                seconds=seconds,
                tokens=tokens,
                loss=loss,
                development_loss=development_loss,
            )

    def __enter__(self) -> Self:
        with ExitStack() as entering:
            for watcher in self._watchers:
                entering.enter_context(watcher)
            self._entered = entering.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entered.__exit__(kind, problem, trace)
