"""Rows of any data set of the hub, ``hf:DATASET`` or ``hf:DATASET:CONFIG``.

The rules are those of a file of one's own (`telltale.tasks.datafile`), with one thing that the hub
has and a file has not: labels stored as numbers are their names.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.tasks.datafile import DEFAULT_FIELDS, DataFile, Fields, rows_from_records
from telltale.tasks.sources import hub
from telltale.tasks.sources.reading import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOG = logging.getLogger(__name__)
PREFERRED = ("validation", "test", "train")
_NAME = re.compile(r"(?P<dataset>\w[\w.-]*/\w[\w.-]*)(?::(?P<config>[^:/]+))?", re.ASCII)
_NO_TEXT = ("Image", "Audio", "Video", "Pdf", "Nifti", "Mesh")  # kinds of columns with no text in


def read_dataset(
    name: str,
    split: str | None = None,
    fields: Fields = DEFAULT_FIELDS,
    *,
    skip_bad_rows: bool = False,
) -> DataFile:
    """The rows of a split of a data set of the hub.

    Args:
        name: ``org/name``, or ``org/name:config``.
        split: by default validation, else test, else train, else the first.
        fields: the names the data set uses, where they differ from the defaults.
        skip_bad_rows: leave out rows that cannot be used and say so, instead of refusing the set.

    Raises:
        InputError: there is no such data set, configuration, split or field, or it cannot be had.
        DataError: a row cannot be used (its place is named).
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"hf:{name} names no data set of the hub; give hf:ORG/NAME, or hf:ORG/NAME:CONFIG"
        )

    def choose(splits: list[str]) -> str:
        if split is not None:
            return split
        return next((known for known in PREFERRED if known in splits), splits[0])

    try:
        data = hub.read(match["dataset"], match["config"], choose)
    except UnavailableError as problem:
        raise InputError(f"cannot read hf:{name}: {problem}") from None
    records = [
        (f"hf:{name} {data.split}, row {number}", record)
        for number, record in enumerate(_records(data.table, fields))
    ]
    LOG.info("hf:%s: %d rows of the split %s", name, len(records), data.split)
    return rows_from_records(
        records,
        f"hf:{name}",
        fields,
        skip_bad_rows=skip_bad_rows,
        remedy="name the right fields, or use `skip_bad_rows`",
    )


def _records(table: Any, fields: Fields) -> list[Mapping[str, Any]]:
    columns = {
        name: kind for name, kind in table.features.items() if type(kind).__name__ not in _NO_TEXT
    }
    # An index into a row's own choices stays a number; the name of a class says more otherwise.
    indices = fields.answer if fields.choices in columns else None
    names = {
        name: kind.names
        for name, kind in columns.items()
        if type(kind).__name__ == "ClassLabel" and name != indices
    }
    return [_record(row, names) for row in table.select_columns(list(columns))]


def _record(row: Mapping[str, Any], names: Mapping[str, list[str]]) -> Mapping[str, Any]:
    record = dict(row)
    for name, classes in names.items():
        # Where there is no label, it is None or -1.
        known = record[name] is not None and 0 <= record[name] < len(classes)
        record[name] = classes[record[name]] if known else None
    return record
