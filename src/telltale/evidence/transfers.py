"""Recipes measured on other tasks than their own: `Transferred`, and ``transfer.json``.

Made of numbers alone; `telltale.study.transferring` measures them. The one place that knows the
document's form; docs/reference/transfer.md describes it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.evidence.document import comparison_document, comparison_from
from telltale.support.files import read_versioned
from telltale.support.plain import printable
from telltale.support.words import layers_named, loss, one_of, points, points_between
from telltale.tasks.loading import HARNESS, HUB
from telltale.tasks.named import NAMED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.evidence.comparison import Comparison

FILE = "transfer.json"
VERSION = 1  # rises when the meaning of a field changes
GUARDED_BY = 0.01  # the share that a command gives a guard
MANY_CELLS = (
    "each interval is for its cell alone: of {cells} cells at {sure:g}%, about {missed:.1f} miss "
    "the truth"
)


class Cell(NamedTuple):
    """A recipe on a task, beside the whole model on the same examples.

    ``searched`` says that its search was by this task, alone or among others. ``seen_by_search`` is
    how many of the examples its search has seen: 0, since such are left out.
    """

    found: Comparison
    searched: bool
    seen_by_search: int = 0

    @property
    def breaks(self) -> bool:
        """Whether the recipe is shown to be worse here than the whole model."""
        return self.found.gain_interval.high < 0


@dataclass(frozen=True, slots=True)
class MeasuredTask:
    """A task, the examples of it, and the whole model on them.

    Attributes:
        name: the task's.
        settings: how it is asked.
        given: how a command names it: a name, or the file of its data.
        held_out_of: the study whose held-out examples they are; None of a task that no study
            was searched by.
        examples_sha256: a hash of the examples.
        fingerprint: all that decides what was measured on them, as one hash.
        baseline: the whole model beside itself.
        cautions: sentences about the whole model there, without a full stop.
    """

    name: str
    settings: Mapping[str, Any]
    given: str
    held_out_of: str | None
    examples_sha256: str
    fingerprint: str
    baseline: Comparison
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A study's model: the layers it lacks, and how it does on every task.

    Attributes:
        name: the study's folder.
        task: the task that it was searched by.
        removed: the layers that it lacks, in order of removal.
        layers: how many it has.
        fingerprint: the study's.
        results: its cells by the task's name.
    """

    name: str
    task: str
    removed: tuple[int, ...]
    layers: int
    fingerprint: str
    results: Mapping[str, Cell]

    @property
    def breaks(self) -> tuple[str, ...]:
        """The tasks at which it is shown to be worse, though it was not searched by them."""
        return tuple(name for name, one in self.results.items() if one.breaks and not one.searched)


@dataclass(frozen=True, slots=True)
class Transferred:
    """Recipes of one model on several tasks.

    Attributes:
        model: the whole model's name, revision, hash, layers and precision.
        pick: which of each study's models was taken.
        confidence: that of the intervals.
        tasks: in the order in which they were given.
        recipes: in the order in which their studies were given.
        warnings: where a recipe breaks a task, and the command that searches by both; sentences.
        cautions: sentences that a reader should be told, without a full stop.
    """

    model: Mapping[str, Any]
    pick: str
    confidence: float
    tasks: tuple[MeasuredTask, ...]
    recipes: tuple[Recipe, ...]
    warnings: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def conclusion(self) -> str:
        """What follows, in one sentence."""
        broken = [one.name for one in self.recipes if one.breaks]
        if broken:
            names = one_of(broken).replace(" or ", " and ")
            if len(broken) == 1:
                return f"{names} is shown to lose on a task that it was not searched by."
            return f"{names} are shown to lose on tasks that they were not searched by."
        cells = [cell for one in self.recipes for cell in one.results.values()]
        elsewhere = [cell.found.loses_at_most for cell in cells if not cell.searched]
        if not elsewhere:
            return "No recipe was measured on a task other than its own."
        said = "No recipe is shown to lose on a task that it was not searched by"
        most = max(elsewhere)
        return f"{said}; what is lost there at most is {loss(most)}{' points' * (most > 0)}."

    @property
    def document(self) -> dict[str, Any]:
        """What ``transfer.json`` holds."""
        return {
            "version": VERSION,
            "model": dict(self.model),
            "pick": self.pick,
            "confidence": self.confidence,
            "tasks": {one.name: _task_document(one) for one in self.tasks},
            "recipes": {one.name: _recipe_document(one) for one in self.recipes},
            "warnings": list(self.warnings),
            "cautions": list(self.cautions),
        }


def _task_document(one: MeasuredTask) -> dict[str, Any]:
    return {
        "settings": dict(one.settings),
        "given": one.given,
        "held_out_of": one.held_out_of,
        "examples": one.baseline.examples,
        "examples_sha256": one.examples_sha256,
        "fingerprint": one.fingerprint,
        "baseline": comparison_document(one.baseline),
        "cautions": list(one.cautions),
    }


def _recipe_document(one: Recipe) -> dict[str, Any]:
    return {
        "task": one.task,
        "removed": list(one.removed),
        "layers": one.layers,
        "fingerprint": one.fingerprint,
        "results": {
            name: {
                **comparison_document(cell.found),
                "loses_at_most": cell.found.loses_at_most,
                "breaks": cell.breaks,
                "searched": cell.searched,
                "seen_by_search": cell.seen_by_search,
            }
            for name, cell in one.results.items()
        },
    }


def read_transferred(folder: Path) -> Transferred:
    """The transfer that a folder holds.

    Raises:
        InputError: it holds none, or one of another version.
    """
    document = read_versioned(folder / FILE, VERSION, "transfer", "telltale transfer")
    tasks = tuple(
        MeasuredTask(
            name,
            one["settings"],
            one["given"],
            one["held_out_of"],
            one["examples_sha256"],
            one["fingerprint"],
            comparison_from(one["baseline"], 0.0, one["examples"]),
            tuple(one["cautions"]),
        )
        for name, one in document["tasks"].items()
    )
    examples = {one.name: one.baseline.examples for one in tasks}
    return Transferred(
        document["model"],
        document["pick"],
        document["confidence"],
        tasks,
        tuple(
            Recipe(
                name,
                one["task"],
                tuple(one["removed"]),
                one["layers"],
                one["fingerprint"],
                {
                    task: Cell(
                        comparison_from(cell, cell["loses_at_most"], examples[task]),
                        cell["searched"],
                        cell["seen_by_search"],
                    )
                    for task, cell in one["results"].items()
                },
            )
            for name, one in document["recipes"].items()
        ),
        tuple(document["warnings"]),
        tuple(document["cautions"]),
    )


# Warnings


def warning_of(
    recipe: Recipe, tasks: Sequence[MeasuredTask], asked: Mapping[str, Any], data_dir: str | None
) -> str | None:
    """Where a recipe breaks tasks, and the command that searches by these and its own.

    Args:
        recipe: measured on all tasks.
        tasks: these.
        asked: what its study asked: the model, and its task.
        data_dir: where named tasks are read from.

    Returns:
        A sentence; None where nothing is broken.
    """
    broken = [one for one in tasks if one.name in recipe.breaks]
    if not broken:
        return None
    lost = ", ".join(
        f"{one.name} ({points(cell.found.gain)} points, {points_between(cell.found.gain_interval)})"
        for one in broken
        for cell in [recipe.results[one.name]]
    )
    own = next((one.given for one in tasks if one.name == recipe.task), recipe.task)
    task = asked["task"]
    is_one = all(map(_has_name, [own, *(one.given for one in broken)])) and all(
        _way(one.settings) == _way(task) for one in broken
    )
    if is_one:
        how = "search by all of them as one objective"
        parts = [",".join([own, *(one.given for one in broken)])]
    else:
        how = "they cannot be one objective, so guard what is lost in the search"
        parts = [own] if _has_name(own) else ["--data", own]
    parts += _options(task, data_dir)
    if not is_one:
        parts += [word for one in broken for word in ("--guard", f"{one.given}:{GUARDED_BY:g}")]
    command = shlex.join(["telltale", "search", *_model(asked["model"]), *parts, "--out", "joint"])
    return printable(
        f"{recipe.name}, without {layers_named(recipe.removed)} for {recipe.task}, breaks {lost}; "
        f"{how}: {command}"
    )


def _has_name(task: str) -> bool:
    """Whether a task, or each of several, can be named, and is no file."""
    return all(
        name in NAMED or name.startswith((HARNESS, HUB, "mmlu_"))
        for name in (part.partition("=")[0] for part in task.split(","))
    )


def _way(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How a task is asked, as far as tasks of one objective must be asked alike."""
    names = ("protocol", "scoring", "delimiter", "extract", "max_new_tokens", "stop")
    return {name: settings.get(name) for name in names}


def _model(model: Mapping[str, Any]) -> list[str]:
    given = {"--adapter": model.get("adapter_given"), "--revision": model["revision"]}
    options = [word for name, one in given.items() if one is not None for word in (name, one)]
    return [model["given"], *options, *(["--trust-remote-code"] * model["trust_remote_code"])]


def _options(task: Mapping[str, Any], data_dir: str | None) -> list[str]:
    """How the study's task was asked, where that is said for each task of several."""
    shots = task["shots"] if not task["name"].startswith(HARNESS) else 0
    given = {
        "--shots": shots or None,
        "--data-dir": data_dir,
        "--truncate": None if task["truncate"] == "no" else task["truncate"],
    }
    return [word for name, one in given.items() if one is not None for word in (name, str(one))]
