"""Reading records of text files: JSON lines, or CSV and TSV with a header.

What a record means is not known here. Reads text and nothing else: no value of a file is ever
executed.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from typing import TYPE_CHECKING, Any

from telltale.errors import DataError, InputError
from telltale.support.files import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

LOG = logging.getLogger(__name__)
LONGEST_FIELD = 2**31 - 1  # the csv module's own bound, 128 KiB, is less than a long passage


def read_records(
    path: Path, name: str, *, skip_bad_rows: bool = False
) -> tuple[list[tuple[str, Mapping[str, Any]]], list[str]]:
    """A file's records with their places, and the problems of those that cannot be read.

    Args:
        path: a file ending in .jsonl, .ndjson, .json (one object a line), .csv or .tsv.
        name: what the file is called where a place in it is named.
        skip_bad_rows: leave out what cannot be read and say so, instead of refusing the file.

    Raises:
        DataError: a record cannot be read (its file and line are named).
        InputError: the file is absent or of another format.
    """
    readers: dict[str, Callable[[str, str], list[tuple[str, dict[str, Any]] | DataError]]] = {
        ".jsonl": json_lines,
        ".ndjson": json_lines,
        ".json": json_lines,
        ".csv": lambda text, name: _separated(text, name, _comma_of(text, name)),
        ".tsv": lambda text, name: _separated(text, name, "\t"),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path.name} is of no known format; give a file ending in {', '.join(readers)}"
        )
    text = read_text(path)
    records: list[tuple[str, Mapping[str, Any]]] = []
    problems: list[str] = []
    for item in reader(text, name):
        if not isinstance(item, DataError):
            records.append(item)
        elif skip_bad_rows:
            problems.append(str(item))
        else:
            raise item
    return records, problems


def json_lines(text: str, name: str) -> list[tuple[str, dict[str, Any]] | DataError]:
    """Each line's object with its place, or the line's problem."""
    items: list[tuple[str, dict[str, Any]] | DataError] = []
    # Only "\n" ends a line: str.splitlines would also cut at characters that JSON text may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as problem:
            reason = problem.msg if isinstance(problem, json.JSONDecodeError) else str(problem)
            items.append(DataError(where, f"not a JSON object ({reason}); write one object a line"))
            continue
        if isinstance(value, dict):
            items.append((where, value))
        else:
            items.append(
                DataError(where, f"a JSON {type(value).__name__}, not an object; write one a line")
            )
    return items


def _comma_of(text: str, name: str) -> str:
    """What separates the cells of a CSV file: a comma, or semicolons where it has no comma.

    Spreadsheets write semicolons where the comma is a decimal sign. A header without a comma would
    be one column, of which nothing can be made.
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    if "," in header or ";" not in header:
        return ","
    LOG.info("%s: its header has semicolons and no comma, so semicolons separate its cells", name)
    return ";"


def _separated(
    text: str, name: str, delimiter: str
) -> list[tuple[str, dict[str, Any]] | DataError]:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    items: list[tuple[str, dict[str, Any]] | DataError] = []
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            where = f"{name}, line {line}"
            line = reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if len(set(header)) != len(header):
                    raise InputError(f"{where}: the header names a column twice; rename one")
            elif len(cells) != len(header):
                items.append(
                    DataError(where, f"{len(cells)} cells where the header has {len(header)}")
                )
            else:
                items.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as problem:
        items.append(
            DataError(f"{name}, line {line}", f"not readable ({problem}); close every quote")
        )
    return items
