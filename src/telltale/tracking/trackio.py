"""trackio: runs in a folder of one's own, or in a Space of the hub where trackio is told so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.tracking.records import Record, Value
    from telltale.tracking.tracker import Ended


class Trackio:
    """A run of trackio, its step the number of layers removed.

    What was found is a page of text. trackio knows no way of ending: a run that has no such page
    was interrupted. It has one run at a time in a process, and ends an open one for a new one.
    """

    name = "trackio"

    def __init__(self, project: str) -> None:
        self._project = project
        self._run: Any = None
        self._step = 0

    def start(self, name: str, config: Mapping[str, Value]) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        import trackio

        self._run = trackio.init(project=self._project, name=name, config=dict(config), embed=False)

    def log(self, record: Record) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._step = record.layers_removed
        self._run.log(dict(record.numbers), step=self._step)

    def conclude(self, summary: Mapping[str, Value]) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        import trackio

        lines = [f"- **{name}**: {value}" for name, value in summary.items()]
        self._run.log({"summary": trackio.Markdown("\n".join(lines))}, step=self._step)

    def attach(self, file: Path) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._run.log_artifact(str(file), type="report")

    def close(self, ended: Ended) -> None:  # noqa: ARG002 - it knows only one way
        """See `telltale.tracking.tracker.Tool`."""
        import trackio

        if self._run is not None:
            trackio.finish()  # and not the run's own, which trackio would end again at exit
