"""One made-up search told to the real library, and what is read back from it, as JSON.

    python -m tests.tracking.real_run trackio|wandb|mlflow FOLDER

A process of its own: the libraries read their settings when imported, and start threads and
services. Nothing leaves the machine.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

from telltale.tracking import tracker_named
from tests.tracking.standins import STAND_INS, Calls
from tests.tracking.told import tell, tell_search

# For `standins`: what each makes that the library has too.
SAME = {
    "trackio": ["init", "finish", "Run.log", "Run.log_artifact"],
    "wandb": ["init", "Run.define_metric", "Run.log", "Run.log_artifact", "Run.finish"],
    "mlflow": [
        *(
            f"MlflowClient.{name}"
            for name in (
                "get_experiment_by_name",
                "create_experiment",
                "create_run",
                "log_batch",
                "log_artifact",
                "set_terminated",
            )
        ),
        "entities.Metric",
        "entities.Param",
        "entities.RunTag",
    ],
}


def settings(folder: Path) -> dict[str, str]:
    """The environment in which the libraries stay in a folder and off the network."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "",
        "TRACKIO_DIR": str(folder / "trackio"),
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_DATA_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder),
        "WANDB_CONFIG_DIR": str(folder),
        "MLFLOW_TRACKING_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }


def strangers(name: str) -> list[str]:
    """The parameters of the stand-in that the library does not have."""
    library, stand_in = importlib.import_module(name), STAND_INS[name](Calls())[name]
    found = []
    for place in SAME[name]:
        real, own = library, stand_in
        for part in place.split("."):
            real, own = getattr(real, part), getattr(own, part)
        known = inspect.signature(real).parameters
        found += [
            f"{place}: {one}" for one in inspect.signature(own).parameters if one not in known
        ]
    return found


def read_trackio(folder: Path) -> list[dict[str, Any]]:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    return [
        {
            "name": run.name,
            "config": run.config,
            "log": SQLiteStorage.get_logs("made-up", run.name, run_id=run.id),
            "files": [
                file.read_text("utf-8") for file in folder.rglob("blobs/**/*") if file.is_file()
            ],
        }
        for run in trackio.Api().runs("made-up")
    ]


def read_mlflow() -> list[dict[str, Any]]:
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("made-up")
    found = []
    for run in client.search_runs([experiment.experiment_id], order_by=["start_time"]):
        history = {
            name: [
                (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        found.append(
            {
                "name": run.info.run_name,
                "status": run.info.status,
                "config": run.data.params,
                "history": history,
                "tags": run.data.tags,
                "files": files,
            }
        )
    return found


def main(name: str, folder: Path) -> None:
    os.environ.update(settings(folder))
    os.chdir(folder)
    report = folder / "report.html"
    report.write_text("<p>found", encoding="utf-8")
    with tracker_named(f"{name}:made-up", report) as tracker:
        tell(tracker)
    try:
        with tracker_named(f"{name}:made-up", report) as tracker:
            tell_search(tracker)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    # What wandb writes is whole when the process has ended.
    read = {"trackio": lambda: read_trackio(folder), "wandb": list, "mlflow": read_mlflow}
    print(json.dumps({"strangers": strangers(name), "runs": read[name]()}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
