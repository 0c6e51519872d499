"""One's own data: JSON lines, or CSV and TSV with a header, as rows.

A record has a question, its choices and its answer. Choices are a list (in CSV a JSON list), or
columns ``choice_1`` to ``choice_n``. An answer is a 0-based index, a letter or the text of a
choice, the same in the whole file. Where a file has no choices and few different answers, it is a
classification, and the choices of every row are the answers that occur; where it has many, they
are free text, which a model is to generate.

The same rules make rows of a data set of the hub.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from telltale.errors import DataError, InputError
from telltale.tasks.rows import Row
from telltale.tasks.textfiles import read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Given = TypeVar("Given")
Made = TypeVar("Made")

ROWS_PER_LABEL = 5  # fewer rows a label than this, and answers are taken for free text
MOST_LABELS = 200  # ... and with more labels than this too
CHOICE_COLUMN = re.compile(r"choice_([1-9][0-9]*)")


class AnswerForm(StrEnum):
    """How a file writes its answers; ``auto`` takes the form that fits most rows.

    ``free`` text is no choice and no label, whatever the file looks like.
    """

    AUTO = "auto"
    INDEX = "index"
    LETTER = "letter"
    TEXT = "text"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Fields:
    """The names that a file uses. ``text`` and ``label`` serve where the first names are absent."""

    question: str = "question"
    choices: str = "choices"
    answer: str = "answer"
    passage: str = "passage"
    answer_form: AnswerForm = AnswerForm.AUTO


DEFAULT_FIELDS = Fields()


@dataclass(frozen=True, slots=True)
class DataFile:
    """The rows of a file, and what was wrong with those that were skipped."""

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Record:
    """A record as read, before its answer is understood."""

    where: str
    values: Mapping[str, Any]
    choices: tuple[str, ...] | None
    answer: str
    answer_is_number: bool


def read_data_file(
    path: Path, fields: Fields = DEFAULT_FIELDS, *, skip_bad_rows: bool = False
) -> DataFile:
    """Read every row of a file.

    Args:
        path: a file ending in .jsonl, .ndjson, .json (one object a line), .csv or .tsv.
        fields: the names the file uses, where they differ from the defaults.
        skip_bad_rows: leave out rows that cannot be used and say so, instead of refusing the file.

    Raises:
        DataError: a row cannot be used (its file and line are named).
        InputError: the file is absent, empty, of another format, or has no such field.
    """
    records, problems = read_records(path, path.name, skip_bad_rows=skip_bad_rows)
    found = rows_from_records(records, path.name, fields, skip_bad_rows=skip_bad_rows)
    return replace(found, skipped=(*problems, *found.skipped))


def rows_from_records(
    raw: Sequence[tuple[str, Mapping[str, Any]]],
    source: str,
    fields: Fields = DEFAULT_FIELDS,
    *,
    skip_bad_rows: bool = False,
    allow_equal_choices: bool = False,
    remedy: str = "mend the row or use --skip-bad-rows",
) -> DataFile:
    """Understand records as rows.

    Args:
        raw: each record, and where it is for a person.
        source: what the records are of, such as a file's name.
        fields: the names the records use.
        skip_bad_rows: leave out records that cannot be used and say so, instead of refusing all.
        allow_equal_choices: take a row of which two choices are the right answer.
        remedy: what a person can do where an answer is none of the choices.

    Raises:
        DataError: a record cannot be used.
        InputError: there are none, or no such field.
    """
    if not raw:
        raise InputError(f"{source} holds no rows; give one labelled example a line")
    names = _Names.found_in([values for _, values in raw], fields, source)
    if fields.answer_form is AnswerForm.FREE:
        names = replace(names, choices=None, choice_columns=())
    problems: list[str] | None = [] if skip_bad_rows else None
    records = _good(raw, lambda place: _record(*place, names), problems)
    labels = tuple(sorted({record.answer for record in records}))
    are_labels = len(labels) <= min(MOST_LABELS, len(records) // ROWS_PER_LABEL)
    is_free = fields.answer_form is AnswerForm.FREE or not (names.has_choices or are_labels)
    form = None if is_free or not names.has_choices else _answer_form(records, fields.answer_form)

    def row(numbered: tuple[int, _Record]) -> Row:
        made = _row(*numbered, names, None if is_free else labels, form, remedy)
        if not allow_equal_choices:
            _check_one_is_right(made)
        return made

    rows = _good(list(enumerate(records)), row, problems)
    skipped = tuple(problems or ())
    if not rows:
        raise InputError(f"{source} holds no usable row; the first problem: {skipped[0]}")
    return DataFile(rows=tuple(rows), skipped=skipped)


def _good(
    items: Sequence[Given], make: Callable[[Given], Made], problems: list[str] | None
) -> list[Made]:
    """What is made of the items; where ``problems`` are gathered, without those that have one."""
    made: list[Made] = []
    for item in items:
        try:
            made.append(make(item))
        except DataError as problem:
            if problems is None:
                raise
            problems.append(str(problem))
    return made


@dataclass(frozen=True, slots=True)
class _Names:
    """The names under which this file has its parts."""

    question: str
    answer: str
    passage: str
    choices: str | None
    choice_columns: tuple[str, ...]

    @property
    def has_choices(self) -> bool:
        return self.choices is not None or bool(self.choice_columns)

    @classmethod
    def found_in(cls, records: Sequence[Mapping[str, Any]], fields: Fields, file: str) -> _Names:
        present = list(dict.fromkeys(name for record in records for name in record))

        def find(wanted: str, fallback: str, default: str, option: str) -> str:
            if wanted in present:
                return wanted
            if wanted == default and fallback in present:
                return fallback
            raise InputError(
                f"{file} has no field {wanted!r}, only {', '.join(map(repr, present))}; "
                f"name it with {option}"
            )

        if fields.choices not in present and fields.choices != DEFAULT_FIELDS.choices:
            raise InputError(
                f"{file} has no field {fields.choices!r}, only {', '.join(map(repr, present))}; "
                "name it with --choices-field"
            )
        columns = sorted(
            (int(match[1]), name) for name in present if (match := CHOICE_COLUMN.fullmatch(name))
        )
        return cls(
            question=find(fields.question, "text", DEFAULT_FIELDS.question, "--question-field"),
            answer=find(fields.answer, "label", DEFAULT_FIELDS.answer, "--answer-field"),
            passage=fields.passage,
            choices=fields.choices if fields.choices in present else None,
            choice_columns=tuple(name for _, name in columns),
        )


def _record(where: str, values: Mapping[str, Any], names: _Names) -> _Record:
    question = values.get(names.question)
    if not isinstance(question, str) or not question.strip():
        raise DataError(where, f"{names.question!r} is empty or not text; fill it in")
    answer = values.get(names.answer)
    if answer is None or _as_text(answer) is None or not str(answer).strip():
        raise DataError(where, f"no answer; fill in {names.answer!r}")
    return _Record(
        where=where,
        values=values,
        choices=_choices(where, values, names) if names.has_choices else None,
        answer=(_as_text(answer) or "").strip(),
        answer_is_number=isinstance(answer, int) and not isinstance(answer, bool),
    )


def _choices(where: str, values: Mapping[str, Any], names: _Names) -> tuple[str, ...]:
    if names.choices is not None and values.get(names.choices) not in (None, ""):
        given = values[names.choices]
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except (ValueError, RecursionError):
                given = None
        if not isinstance(given, list):
            raise DataError(where, f'{names.choices!r} is not a list such as ["yes", "no"]')
    else:
        cells = [values.get(name) for name in names.choice_columns]
        given = [cell for cell in cells if cell not in (None, "")]
    choices = tuple(_as_text(choice) or "" for choice in given)
    if len(choices) < 2:
        raise DataError(where, f"{len(choices)} choices; a question needs at least two")
    if not all(choice.strip() for choice in choices):
        raise DataError(where, "an empty choice, or one that is not text; fill it in")
    return choices


def _row(
    number: int,
    record: _Record,
    names: _Names,
    labels: tuple[str, ...] | None,
    form: AnswerForm | None,
    remedy: str,
) -> Row:
    """A row; without ``labels`` its answer is free text, without ``form`` it is one of them."""
    choices: tuple[str, ...]
    if labels is None:
        choices, answer = (record.answer,), 0
    elif record.choices is None or form is None:
        if len(labels) < 2:
            raise DataError(
                record.where,
                f"every answer in the file is {labels[0]!r}, so there is nothing to choose; "
                "give choices, rows of at least two kinds, or --answer-form free",
            )
        choices, answer = labels, labels.index(record.answer)
    else:
        choices = record.choices
        found = _interpret(record, form)
        if found is None:
            raise DataError(record.where, f"{_not_an_answer(record, form)}; {remedy}")
        answer = found
    fields = {
        name: text
        for name, value in record.values.items()
        if name != names.choices and (text := _as_text(value)) is not None
    }
    fields.setdefault("question", fields[names.question])
    if fields.get(names.passage, "").strip():
        fields.setdefault("passage", fields[names.passage])
    else:
        fields.pop("passage", None)
    identity = _as_text(record.values.get("id")) or str(number)
    return Row(id=identity, fields=fields, choices=choices, answer=answer, where=record.where)


def _check_one_is_right(row: Row) -> None:
    right = row.choices[row.answer]
    if row.choices.count(right) > 1:
        raise DataError(
            row.where,
            f"two choices are {right!r} and one of them is the answer; make them differ, or leave "
            "such rows out with --skip-bad-rows",
        )


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


# What an answer means


def _interpret(record: _Record, form: AnswerForm) -> int | None:
    choices = record.choices or ()
    answer = record.answer
    if form is AnswerForm.INDEX:
        # A bound on the digits, since converting thousands of them is refused.
        good = answer.isascii() and answer.isdecimal() and len(answer) < 9
        return int(answer) if good and int(answer) < len(choices) else None
    if form is AnswerForm.LETTER:
        index = "abcdefghijklmnopqrstuvwxyz".find(answer.lower()) if len(answer) == 1 else -1
        return index if 0 <= index < len(choices) else None
    texts = [choice.strip() for choice in choices]
    return texts.index(answer) if answer in texts else None


def _answer_form(records: Sequence[_Record], wanted: AnswerForm) -> AnswerForm:
    """The form that fits most rows.

    Raises:
        InputError: two forms fit equally well and name different choices.
    """
    if wanted is not AnswerForm.AUTO:
        return wanted
    if any(record.answer_is_number for record in records):
        return AnswerForm.INDEX
    forms = (AnswerForm.INDEX, AnswerForm.LETTER, AnswerForm.TEXT)
    meanings = {form: [_interpret(record, form) for record in records] for form in forms}
    fits = {form: sum(m is not None for m in found) for form, found in meanings.items()}
    best = max(forms, key=fits.__getitem__)
    for other in forms:
        if other is best or fits[other] < fits[best] or not fits[best]:
            continue
        for record, one, two in zip(records, meanings[best], meanings[other], strict=True):
            if one != two:
                raise InputError(
                    f"{record.where}: answer {record.answer!r} may be a choice's {best} or its "
                    f"{other}; say which with --answer-form {best} or --answer-form {other}"
                )
    return best


def _not_an_answer(record: _Record, form: AnswerForm) -> str:
    count = len(record.choices or ())
    allowed = {
        AnswerForm.INDEX: f"an index from 0 to {count - 1} (counted from 0)",
        AnswerForm.LETTER: f"a letter from A to {chr(ord('A') + count - 1)}",
        AnswerForm.TEXT: "the text of a choice",
    }
    shown = record.answer if len(record.answer) < 40 else record.answer[:40] + "..."
    return f"answer {shown!r} is not {allowed[form]}"
