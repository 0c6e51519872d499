"""Every error that telltale raises on purpose.

TelltaleError             exit status 1
├── InputError            exit status 2: what was given cannot be used
│   └── DataError         ... and the fault is in a data file, at a place that is named
├── UnsupportedModelError exit status 2: this architecture cannot be driven or written
└── MeasurementError      exit status 1: measuring failed; what was measured is kept

A message is one line: what was given, what is allowed, and what to do. It names the parameters of
the public functions in backticks, `held_out`; the command prints their options there, --held-out
(`telltale.cli.naming`). An error pickles as it is, so that it crosses from one process to another.
"""

import copyreg
from typing import Any


class TelltaleError(Exception):
    """Something went wrong that a person can read about in one line."""

    exit_status = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it is: ``__init__``, which may not take ``args``, is not called again."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class InputError(TelltaleError):
    """What was given cannot be used; nothing was written."""

    exit_status = 2


class DataError(InputError):
    """A data file holds something that cannot be used."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


class UnsupportedModelError(TelltaleError):
    """The architecture cannot be driven layer by layer, or not be written smaller."""

    exit_status = 2


class MeasurementError(TelltaleError):
    """A measurement failed; outcomes measured before it are kept."""
