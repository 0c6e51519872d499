"""Weights & Biases: online or offline, as its own settings have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tracking.tracker import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.tracking.records import Record, Value

LAYERS_REMOVED = "layers_removed"
# As the tool itself has it: 255 is shown as killed, 1 as failed.
EXIT_CODES = {Ended.FINISHED: 0, Ended.INTERRUPTED: 255, Ended.FAILED: 1}


class WeightsAndBiases:
    """A run of Weights & Biases, beside any that the process has already.

    Every number is drawn against ``layers_removed``; the tool's own step only counts, since it
    never goes back. The output of the terminal, code and the state of a git repository are not
    sent. What else is noted of a machine, its command line with the paths in it too, the tool's own
    settings decide: with WANDB_X_DISABLE_META=true, nothing.
    """

    name = "wandb"

    def __init__(self, project: str) -> None:
        self._project = project
        self._run: Any = None

    def start(self, name: str, config: Mapping[str, Value]) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        import wandb

        self._run = wandb.init(
            project=self._project,
            name=name,
            config=dict(config),
            reinit="create_new",
            save_code=False,
            settings=wandb.Settings(console="off", disable_git=True),
        )
        self._run.define_metric(LAYERS_REMOVED, hidden=True)
        self._run.define_metric("*", step_metric=LAYERS_REMOVED)

    def log(self, record: Record) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._run.log({LAYERS_REMOVED: record.layers_removed, **record.numbers})

    def conclude(self, summary: Mapping[str, Value]) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._run.summary.update(dict(summary))

    def attach(self, file: Path) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._run.log_artifact(str(file), type="report")

    def close(self, ended: Ended) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        if self._run is not None:
            self._run.finish(exit_code=EXIT_CODES[ended])
