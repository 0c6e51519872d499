"""Reading a study: what it has found, or how far it has come. Runs nothing and loads no model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.measure import Batch, Measurement
from telltale.paths import LayerPath
from telltale.records import Records, open_records
from telltale.searches import GreedyRemoval, Round

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


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
    plan, settings = records.fact("plan"), records.fact("search")
    if plan is None or settings is None:
        return ()

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for batch in (half for whole in batches for half in records.halves(whole)):
            for path in paths:
                outcomes = records.measured(batch, path)
                if outcomes is None:
                    raise _NotMeasuredError
                yield Measurement(batch, path, outcomes)

    rounds: list[Round] = []
    search = GreedyRemoval(
        settings["tolerance"], settings["max_removed"], frozenset(settings["protected"])
    )
    batches = [Batch(tuple(examples)) for examples in plan["search_batches"]]
    with suppress(_NotMeasuredError):
        search(measure, batches, LayerPath.whole(plan["layers"]), rounds.append)
    return tuple(rounds)
