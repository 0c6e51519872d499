"""MLflow: on the server or in the database that its own settings name."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from telltale.tracking.tracker import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.tracking.records import Record, Value

STATES = {
    Ended.FINISHED: "FINISHED",
    Ended.INTERRUPTED: "KILLED",
    Ended.FAILED: "FAILED",
}
MOST_PARAMETERS = 100  # at once
DESCRIPTION = "mlflow.note.content"  # the tag that is shown as a run's description
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")


class MLflow:
    """A run of MLflow, its step the number of layers removed, its experiment the project.

    What was found in numbers are metrics; in words, tags, the verdict the run's description. The
    client is used and not the module's own run, so that one that is open stays as it is.
    """

    name = "mlflow"

    def __init__(self, project: str) -> None:
        self._project = project
        self._client: Any = None
        self._run_id: str | None = None

    def start(self, name: str, config: Mapping[str, Value]) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        import mlflow
        from mlflow.entities import Param

        self._client = mlflow.MlflowClient()
        known = self._client.get_experiment_by_name(self._project)
        experiment = (
            self._client.create_experiment(self._project) if known is None else known.experiment_id
        )
        self._run_id = self._client.create_run(experiment, run_name=name).info.run_id
        params = [Param(_allowed(key), str(value)) for key, value in config.items()]
        for first in range(0, len(params), MOST_PARAMETERS):
            self._client.log_batch(self._run_id, params=params[first : first + MOST_PARAMETERS])

    def log(self, record: Record) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._client.log_batch(
            self._run_id, metrics=_metrics(record.numbers, record.layers_removed)
        )

    def conclude(self, summary: Mapping[str, Value]) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        from mlflow.entities import RunTag

        words = {key: value for key, value in summary.items() if isinstance(value, str)}
        numbers = {key: value for key, value in summary.items() if not isinstance(value, str)}
        tags = [RunTag(key, value) for key, value in words.items()]
        self._client.log_batch(
            self._run_id,
            metrics=_metrics(numbers, 0),
            tags=[*tags, RunTag(DESCRIPTION, words["verdict"])],
        )

    def attach(self, file: Path) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        self._client.log_artifact(self._run_id, str(file))

    def close(self, ended: Ended) -> None:
        """See `telltale.tracking.tracker.Tool`."""
        if self._run_id is not None:
            self._client.set_terminated(self._run_id, status=STATES[ended])


def _metrics(numbers: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    return [Metric(name, float(value), now, step) for name, value in numbers.items()]


def _allowed(name: str) -> str:
    """A name with what MLflow refuses in one replaced: a task's name may hold anything."""
    return _NOT_IN_NAMES.sub("_", name)
