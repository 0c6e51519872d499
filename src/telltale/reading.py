"""Reading a study: what it has found, or how far it has come. Runs nothing and loads no model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.measure import Batch, Measurement
from telltale.objectives import values_by
from telltale.paths import LayerPath
from telltale.records import Records, open_records
from telltale.settings import admits_by, settings_from
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from telltale.searches import Round


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as its file has it; ``document`` is None while it is not finished."""

    document: dict[str, Any] | None
    held_out_looks: int | None
    asked: dict[str, Any] | None
    rounds: tuple[Round, ...]


class _NotMeasuredError(Exception):
    """The records do not hold what the search asks for next."""


def read_study(folder: Path) -> StoredStudy:
    """Read a study, finished or not.

    Raises:
        InputError: the folder is no study.
        TelltaleError: its file is damaged.
    """
    with open_records(folder, write=False) as records:
        document = records.fact("result")
        return StoredStudy(
            document=document,
            held_out_looks=records.fact("held_out_looks"),
            asked=records.fact("asked"),
            rounds=() if document else _rounds_so_far(records),
        )


def _rounds_so_far(records: Records) -> tuple[Round, ...]:
    """The rounds that the search finished: it is run again on what the records hold."""
    plan, chosen_by, asked = (records.fact(name) for name in ("plan", "search", "asked"))
    settings = None if chosen_by is None else settings_from(chosen_by)
    if plan is None or settings is None:
        return ()

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for batch in (half for whole in batches for half in records.halves(whole)):
            for path in paths:
                outcomes = records.measured(batch, path)
                if outcomes is None:
                    raise _NotMeasuredError
                yield Measurement(batch, path, outcomes)

    def batches(role: str) -> list[Batch]:
        return [Batch(tuple(examples)) for examples in plan["batches"][role]]

    start = LayerPath.whole(plan["layers"])
    guards = [
        admits_by(batches(f"guard {guard['task']} search"), guard["most_loss"], measure, start)
        for guard in asked["guards"]
    ]
    scoring = Scoring(asked["task"].get("scoring", Scoring.LOGLIK))
    right = {example.position: example.answer for example in records.examples()}
    search = settings.search(
        values_by(settings.objective, scoring, right),
        lambda path: all(admits(path) for admits in guards),
    )
    rounds: list[Round] = []
    with suppress(_NotMeasuredError):
        search(measure, batches("search"), start, rounds.append)
    return tuple(rounds)
