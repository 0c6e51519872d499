"""Reading a study: what it has found, or how far it has come. Runs nothing and loads no model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.measure import Batch, Measurement, outcomes_by_path
from telltale.objectives import values_by
from telltale.paths import LayerPath
from telltale.searches import Removal, Round
from telltale.study.records import SEARCH, Records, guard_role, is_at_work, open_records
from telltale.study.settings import admits_by, settings_from
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from telltale.measure import Outcome
    from telltale.study.records import Cost, StoredExample


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as its file has it, finished or not.

    Attributes:
        document: what ``result.json`` holds; None while the search is not finished.
        held_out_looks: how many other searches had looked at the held-out examples.
        asked: the model and the task; None where it was stopped before it began.
        settings: how it chooses.
        removal: the search as far as it has come; None where it is finished, since the document
            says it all, where not even the whole model is measured, or where its objective was a
            program of its own.
        examples: every example by its position, with its text and the set it is in.
        outcomes: of every model kept, by set and layers removed in order: each example's outcome,
            by its position. Only what was measured in full.
        versions: the libraries of every run, the first first.
        cost: what was spent so far.
        is_running: whether a process is at work on it now.
    """

    document: dict[str, Any] | None
    held_out_looks: int | None
    asked: dict[str, Any] | None
    settings: dict[str, Any] | None
    removal: Removal | None
    examples: tuple[StoredExample, ...]
    outcomes: Mapping[tuple[str, tuple[int, ...]], Mapping[int, Outcome]]
    versions: Sequence[Mapping[str, str]]
    cost: Cost
    is_running: bool = False


class _NotMeasuredError(Exception):
    """The records do not hold what is asked for."""


def read_study(folder: Path) -> StoredStudy:
    """Read a study, finished or not.

    Raises:
        InputError: the folder is no study.
        TelltaleError: its file is damaged.
    """
    with open_records(folder, write=False) as records:
        document = records.fact("result")
        removal = None if document is not None else _searched_so_far(records)
        if document is not None:
            kept = [tuple(model["removed"]) for model in document["path"]]
        else:
            kept = [model.removed for model in removal.kept] if removal else []
        return StoredStudy(
            document=document,
            held_out_looks=records.fact("held_out_looks"),
            asked=records.fact("asked"),
            settings=records.fact("search"),
            removal=removal,
            examples=tuple(records.examples()),
            outcomes=_outcomes(records, kept),
            versions=records.versions(),
            cost=records.cost(),
            is_running=is_at_work(folder),
        )


def _measured(
    records: Records, paths: Sequence[LayerPath], batches: Sequence[Batch]
) -> Iterator[Measurement]:
    """What the records hold, as a measure gives it."""
    for batch in (half for whole in batches for half in records.halves(whole)):
        for path in paths:
            outcomes = records.measured(batch, path)
            if outcomes is None:
                raise _NotMeasuredError
            yield Measurement(batch, path, outcomes)


def _batches(records: Records, role: str) -> list[Batch]:
    return [Batch(tuple(examples)) for examples in records.fact("plan")["batches"][role]]


def _searched_so_far(records: Records) -> Removal | None:
    """The search, run again on what the records hold, up to the first thing they do not."""
    plan, chosen_by, asked = (records.fact(name) for name in ("plan", "search", "asked"))
    settings = None if chosen_by is None else settings_from(chosen_by)
    if plan is None or settings is None:
        return None

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        return _measured(records, paths, batches)

    start = LayerPath.whole(plan["layers"])
    guards = [
        admits_by(_batches(records, guard_role(guard["task"])), guard["most_loss"], measure, start)
        for guard in asked["guards"]
    ]
    scoring = Scoring(asked["task"].get("scoring", Scoring.LOGLIK))
    writes = "scoring" not in asked["task"]
    right = {one.position: 0 if writes else one.answer for one in records.examples()}
    search = settings.search(
        values_by(settings.objective, scoring, right),
        lambda path: all(admits(path) for admits in guards),
    )
    batches, rounds = _batches(records, SEARCH), list[Round]()
    try:
        whole = search.worth(measure, [start], batches)[start]
    except _NotMeasuredError:
        return None
    with suppress(_NotMeasuredError):
        search(measure, batches, start, rounds.append)
    return Removal(start, whole.accuracy, whole.value, tuple(rounds))


def _outcomes(
    records: Records, kept: Sequence[tuple[int, ...]]
) -> dict[tuple[str, tuple[int, ...]], Mapping[int, Outcome]]:
    plan = records.fact("plan")
    found: dict[tuple[str, tuple[int, ...]], Mapping[int, Outcome]] = {}
    for role in plan["batches"] if plan else ():
        for removed in kept:
            path = LayerPath.from_removed(removed, plan["layers"])
            with suppress(_NotMeasuredError):
                measured = _measured(records, [path], _batches(records, role))
                found[role, removed] = outcomes_by_path(measured)[path]
    return found
