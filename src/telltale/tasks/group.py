"""Several tasks as one objective: their examples together, each task with its share of them.

A share is a share of the examples in every set, so that accuracy over the examples is the weighted
mean of the tasks' accuracies, and whatever holds of a mean over examples holds of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.tasks.split import folded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.measure import Outcome
    from telltale.tasks.task import Example, Scorer, Task

SEPARATOR = "/"  # between a task's name and its example's id


@dataclass(frozen=True, slots=True)
class GroupScorer:
    """Scores each example by its own task's scorer; without one, the measured score stays."""

    scorers: Mapping[str, Scorer | None]

    @property
    def identity(self) -> dict[str, Any]:
        """The identities of the tasks' scorers."""
        return {name: one.identity if one else None for name, one in self.scorers.items()}

    def __call__(self, example: Example, outcome: Outcome) -> Outcome:
        """See `telltale.tasks.task.Scorer`."""
        scorer = self.scorers[example.part]
        own = replace(example, id=example.id.removeprefix(example.part + SEPARATOR), part="")
        return outcome if scorer is None else scorer(own, outcome)


def members(given: str) -> list[tuple[str, float]]:
    """The tasks and weights of ``arc_easy=2,boolq``; a weight is 1 where none is given.

    Raises:
        InputError: a weight is no positive number, or a task is named twice.
    """
    found: list[tuple[str, float]] = []
    for part in given.split(","):
        name, equals, weight = part.strip().rpartition("=")
        name = name if equals else weight
        try:
            value = float(weight) if equals else 1.0
        except ValueError:
            value = math.nan
        if not (name and math.isfinite(value) and value > 0):
            raise InputError(
                f"{part.strip()!r} in {given!r} is no task with a weight; give several tasks like "
                "arc_easy=2,boolq"
            )
        if name in dict(found):
            raise InputError(f"{given!r} names {name} twice; give it one weight")
        found.append((name, value))
    return found


def group(tasks: Sequence[Task], weights: Sequence[float], name: str | None = None) -> Task:
    """One task that combines several.

    Args:
        tasks: they are asked in the same way. One that is several already stays so, its weight
            divided among its own.
        weights: how much each counts; only their ratios matter.
        name: what it is called; by default ``arc_easy=2,boolq=1``.

    Raises:
        InputError: they are not asked in the same way, or two have one name.
    """
    first = tasks[0]
    names = [name for task in tasks for name, _ in _shares(task)]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(
            f"two of the tasks are named {repeated}, so their examples could not be told apart; "
            "give one of them another name"
        )
    for other in tasks[1:]:
        if _way(other) != _way(first):
            raise InputError(
                f"{first.name} and {other.name} are not asked in the same way ({_way(first)} and "
                f"{_way(other)}), so they cannot be one objective; give the same `protocol`, "
                "`scoring`, `extract`, `stop` and `max_new_tokens` for both"
            )
    scorers = {name: one for task in tasks for name, one in _scorers(task).items()}
    # What one task shows, another may ask.
    shots = {shot for task in tasks for example in task.examples for shot in example.shots}
    shown = {folded(shot.question) for shot in shots}
    total = sum(weights)
    return replace(
        first,
        name=name
        or ",".join(f"{task.name}={weight:g}" for task, weight in zip(tasks, weights, strict=True)),
        examples=tuple(
            replace(
                example if task.shares else _part_of(task.name, example),
                is_shown=example.is_shown or folded(example.context) in shown,
            )
            for task in tasks
            for example in task.examples
        ),
        template=" | ".join(dict.fromkeys(task.template for task in tasks)),
        scorer=GroupScorer(scorers) if any(scorers.values()) else None,
        shots=max(task.shots for task in tasks),
        shares=tuple(
            (part, share * weight / total)
            for task, weight in zip(tasks, weights, strict=True)
            for part, share in _shares(task)
        ),
    )


def _part_of(name: str, example: Example) -> Example:
    return replace(example, id=f"{name}{SEPARATOR}{example.id}", part=name)


def _shares(task: Task) -> tuple[tuple[str, float], ...]:
    """The share of each part of a task that may itself be several."""
    return task.shares or ((task.name, 1.0),)


def _scorers(task: Task) -> Mapping[str, Scorer | None]:
    """The scorer of each part of a task that may itself be several."""
    if isinstance(task.scorer, GroupScorer):
        return task.scorer.scorers
    return {name: task.scorer for name, _ in _shares(task)}


def _way(task: Task) -> str:
    """How a task is asked, in words; shots may differ."""
    settings = {key: value for key, value in task.settings().items() if key not in _OWN}
    return ", ".join(f"{key} {value!r}" for key, value in settings.items())


_OWN = ("shots", "scorer", "shares")
