"""Being told how a study goes on. Knows no screen and no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telltale.measure import Measurement
    from telltale.searches import Round


class Watcher:
    """Is told how a study goes on. This one ignores it; a screen draws it, a tracker keeps it."""

    def phase(self, name: str) -> None:
        """A part of the study begins.

        That is ``search``, ``held-out``, ``guard NAME held-out``, ``text``, ``speed`` or ``final``;
        of an evaluation ``evaluation`` or ``text``.
        """

    def advised(self, advice: str) -> None:
        """Before anything is measured: what can be seen with so many examples."""

    def expect(self, measurements: int) -> None:
        """So many measurements are asked for next."""

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        """One of them is there."""

    def round_done(self, done: Round) -> None:
        """The search has finished a round."""
