"""A search kept by an experiment tracker: trackio, Weights & Biases or MLflow.

Each is a `Tracker`, a watcher, around a small adapter that translates `telltale.tracking.records`
for its tool. The libraries are extras, and imported where a run is started.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.support.plain import printable
from telltale.support.words import one_of
from telltale.tracking.mlflow import MLflow
from telltale.tracking.tracker import Ended, Tool, Tracker
from telltale.tracking.trackio import Trackio
from telltale.tracking.wandb import WeightsAndBiases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["TOOLS", "Ended", "Tool", "Tracker", "tracker_named"]

PROJECT = "telltale"
# By the name of their library, which is that of the extra too.
TOOLS: Mapping[str, Callable[[str], Tool]] = {
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def tracker_named(given: str, report: Path | None = None) -> Tracker:
    """What tracks a search with a tool.

    Args:
        given: ``trackio``, ``wandb`` or ``mlflow``, and where it is not to be ``telltale`` the
            tool's project: ``trackio:my-project``. Where a tool keeps its runs, and whose they are,
            is for its own settings to say.
        report: the file that the study's report is written to; see `Tracker`.

    Raises:
        InputError: there is no such tool, or its library is not installed.
    """
    name, colon, project = given.partition(":")
    if name not in TOOLS:
        raise InputError(
            f"`track` must be {one_of(TOOLS)}, or one of them with a project, such as "
            f"trackio:my-project, got '{printable(given)}'"
        )
    if colon and not project.strip():
        raise InputError(f"`track` {name}: names no project; leave out the colon, or name one")
    if not _is_installed(name):
        raise InputError(
            f"`track` {name} needs its library; install it with: pip install 'telltale-llm[{name}]'"
        )
    return Tracker(TOOLS[name](project or PROJECT), report)


def _is_installed(library: str) -> bool:
    """Whether a library can be imported.

    A mere folder of its name, such as wandb makes for its runs, has no origin.
    """
    found = importlib.util.find_spec(library)
    return found is not None and found.origin is not None
