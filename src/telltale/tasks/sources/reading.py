"""A named task's rows from the records of any source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.errors import DataError, InputError
from telltale.tasks.datafile import AnswerForm, Fields, rows_from_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from telltale.tasks.known import NamedTask, Record
    from telltale.tasks.rows import Row

NEEDED = ("question", "answer")
REMEDY = "mend it, or get it again"


class UnavailableError(Exception):
    """A source does not have a split; the message says why."""


class Found(NamedTuple):
    """Records, each with its place, and their origin for messages."""

    records: list[tuple[str, Record]]
    origin: str


def records_of(
    rows: Iterable[tuple[str, Mapping[str, Any]]], make: Callable[[Mapping[str, Any]], Record]
) -> list[tuple[str, Record]]:
    """A record for each row, with its place.

    Raises:
        DataError: a row is not laid out as is known.
    """
    return [(where, _made(where, make, row)) for where, row in rows]


def rows_of(task: NamedTask, split: str, found: Found) -> list[Row]:
    """The task's rows, each checked.

    Raises:
        DataError: a record cannot be used.
        InputError: there are none.
    """
    records: list[tuple[str, Record]] = []
    for number, (where, record) in enumerate(found.records):
        for name in NEEDED:
            if name not in record:
                raise DataError(where, f"no {name!r}; {REMEDY}")
        if task.only is None or record.get(task.only[0]) == task.only[1]:
            records.append((where, {"id": f"{task.folder}-{split}-{number}"} | record))
    if not records and task.only is not None:
        raise InputError(
            f"{found.origin} holds no row whose {task.only[0]} is {task.only[1]!r}; get it again"
        )
    offers_choices = any("choices" in record for _, record in records)
    fields = Fields(answer_form=AnswerForm.INDEX if offers_choices else AnswerForm.FREE)
    # The harness too asks questions of which two choices are the right answer.
    rows = rows_from_records(
        records, found.origin, fields, allow_equal_choices=True, remedy=REMEDY
    ).rows
    return [with_fields(task, row, record) for row, (_, record) in zip(rows, records, strict=True)]


def with_fields(task: NamedTask, row: Row, record: Record) -> Row:
    """The row with the fields that the task derives from its record."""
    if task.fields is None:
        return row
    return replace(row, fields={**row.fields, **_made(row.where, task.fields, record)})


def _made(where: str, make: Callable[[Any], Any], row: Any) -> Any:
    try:
        return make(row)
    except (AttributeError, LookupError, TypeError, ValueError) as problem:
        raise DataError(
            where,
            f"not laid out as this task's rows are ({type(problem).__name__}: {problem}); {REMEDY}",
        ) from None
