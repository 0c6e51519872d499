"""A watcher that tells a tracking tool, and never costs a search. Knows no tool by name."""

from __future__ import annotations

import logging
import sys
from contextlib import redirect_stdout, suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from telltale.support.plain import printable
from telltale.tracking.records import Course, config_of, name_of, path_records, summary_of
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from telltale.evidence.result import Result
    from telltale.measure import Measurement
    from telltale.searches import Round
    from telltale.tracking.records import Record, Value

LOG = logging.getLogger(__name__)
LONGEST = 300  # characters of what a tool says has gone wrong


class Ended(Enum):
    """In which way a run has ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Tool(Protocol):
    """One run of a tracking tool. Anything may be raised; `Tracker` minds it."""

    name: str

    def start(self, name: str, config: Mapping[str, Value]) -> None:
        """Start a run; nothing else is called before."""
        ...

    def log(self, record: Record) -> None:
        """Log what is known of a model; the number of layers removed may come again, or go back."""
        ...

    def conclude(self, summary: Mapping[str, Value]) -> None:
        """Log what was found."""
        ...

    def attach(self, file: Path) -> None:
        """Keep a copy of a file with the run."""
        ...

    def close(self, ended: Ended) -> None:
        """End the run; nothing else is called after."""
        ...


class Tracker(Watcher):
    """Has a tracking tool keep one search, from where it begins to where it ends.

    Used in a ``with`` statement around the search, the run is closed whatever happens: as finished,
    interrupted or failed, where the tool knows these. A search that goes on from an earlier one is
    a new run, that has all rounds again.

    A tool that fails, because it is offline or its disk is full, costs no search: that is said in
    one warning, and the tool is told no more. What a tool prints goes to the standard error.
    """

    def __init__(self, tool: Tool, report: Path | None = None) -> None:
        """Track with a tool.

        Args:
            tool: has not been started.
            report: a file to keep with the run, where it exists when the ``with`` statement around
                a finished search is left. A report holds the text of examples.
        """
        self._tool = tool
        self._report = report
        self._course = Course()
        self._is_searching = self._is_open = self._has_failed = self._has_finished = False

    def begun(self, asked: Mapping[str, Any]) -> None:
        """Start a run, with what is asked but for paths of this machine."""
        self._is_open = True
        self._attempt(lambda: self._tool.start(name_of(asked), config_of(asked)))

    def phase(self, name: str) -> None:
        """Note whether what is measured next is measured on the search set."""
        self._is_searching = name == "search"

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:  # noqa: ARG002
        """Note the whole model's scores."""
        if self._is_searching:
            self._course.measured(measurement)

    def round_done(self, done: Round) -> None:
        """Log the round, under the number of layers removed."""
        self._log(self._course.round_done(done))

    def finished(self, result: Result) -> None:
        """Log every model that was kept, and what was found."""
        self._has_finished = True
        self._log(path_records(result))
        self._attempt(lambda: self._tool.conclude(summary_of(result)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep the report and close the run."""
        if not self._is_open:
            return
        self._is_open = False
        report = self._report
        if self._has_finished and report is not None and report.is_file():
            self._attempt(lambda: self._tool.attach(report))
        ended = self._ended(kind)
        if self._has_failed:
            # It may be half open. That it has failed is said already.
            with suppress(Exception), redirect_stdout(sys.stderr):
                self._tool.close(ended)
        else:
            self._attempt(lambda: self._tool.close(ended))

    def _ended(self, kind: type[BaseException] | None) -> Ended:
        if kind is None:
            return Ended.FINISHED if self._has_finished else Ended.INTERRUPTED
        return Ended.FAILED if issubclass(kind, Exception) else Ended.INTERRUPTED

    def _log(self, records: list[Record]) -> None:
        for record in records:
            self._attempt(partial(self._tool.log, record))

    def _attempt(self, telling: Callable[[], None]) -> None:
        """Tell the tool, unless it is not open or has failed before."""
        if self._has_failed:
            return
        try:
            with redirect_stdout(sys.stderr):
                telling()
        except Exception as problem:
            self._has_failed = True
            reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:LONGEST]
            LOG.warning(
                "%s has failed and is told no more of this search, which goes on (%s)",
                self._tool.name,
                printable(reason),
            )
