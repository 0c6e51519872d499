"""Rows from a user's own data: JSON lines, or CSV and TSV with a header.

A record has a question, its choices and its answer. What files usually call them is in three
tables: `NAMES`, `STEMS` and `SPOKEN`. Choices are a list (in CSV a JSON list), a list of texts
beside a list of labels, as ARC's are, or columns, such as ``choice_1`` to ``choice_n`` or ``A`` to
``D``. An answer is a 0-based index, a number counted from 1, a letter, a label or the text of a
choice, the same in the whole file. Where a file has no choices and few different answers, it is a
classification, and the choices of every row are the answers that occur; where it has many, they
are free text, which a model is to generate.

The same rules make rows of a data set of the hub.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
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
LETTERS = "abcdefghijklmnopqrstuvwxyz"

LOG = logging.getLogger(__name__)

# What a part is called where its own name and the second are absent, without regard to case,
# spaces and underscores; of the others there must be one alone.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "question": (("question", "text"), ("ctx", "goal", "query", "sentence", "startphrase", "stem")),
    "choices": (("choices",), ("endings", "options")),
    "answer": (
        ("answer", "label"),
        ("answerkey", "cop", "correct", "correctanswer", "correctoption", "gold", "target"),
    ),
}
# What columns of choices are called before their number or letter: choice_1, option_a, opa
# (MedMCQA), ending0 (SWAG), sol1 (PIQA). A letter may stand alone, a number may not.
STEMS = ("choice", "option", "op", "ending", "sol")
CHOICE_COLUMN = re.compile(rf"({'|'.join(STEMS)})([a-z]|[0-9]{{1,3}})|()([a-z])")


class AnswerForm(StrEnum):
    """How a file writes its answers; ``auto`` takes the form that fits most rows.

    An ``index`` is counted from 0, a ``number`` from 1. A ``label`` is one of those that stand
    beside the choices. ``free`` text is no choice and no label, whatever the file looks like.
    """

    AUTO = "auto"
    INDEX = "index"
    NUMBER = "number"
    LETTER = "letter"
    LABEL = "label"
    TEXT = "text"
    FREE = "free"


# What an answer may be of a choice's; of forms that fit as many rows, the first is meant.
SPOKEN: dict[AnswerForm, str] = {
    AnswerForm.LABEL: "label",
    AnswerForm.INDEX: "index (counted from 0)",
    AnswerForm.NUMBER: "number (counted from 1)",
    AnswerForm.LETTER: "letter",
    AnswerForm.TEXT: "text",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """The names that a file uses; those of `NAMES` serve where the first names are absent."""

    question: str = "question"
    choices: str = "choices"
    answer: str = "answer"
    passage: str = "passage"
    answer_form: AnswerForm = AnswerForm.AUTO


DEFAULT_FIELDS = Fields()


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file's rows, the problems of skipped rows, and the columns not used.

    A prompt may still use the columns in ``unused``.
    """

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Record:
    """A record as read, before its answer is understood."""

    where: str
    values: Mapping[str, Any]
    choices: tuple[str, ...] | None
    labels: tuple[str, ...]
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
    remedy: str = "mend the row or use `skip_bad_rows`",
) -> DataFile:
    """Rows from records.

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
    names = _Names.found_in(_present(raw), fields, source)
    if fields.answer_form is AnswerForm.FREE:
        names = replace(names, choices=None, columns=_NO_COLUMNS)
    problems: list[str] | None = [] if skip_bad_rows else None
    records = _good(raw, lambda place: _record(*place, names), problems)
    labels = tuple(sorted({record.answer for record in records}))
    are_labels = len(labels) <= min(MOST_LABELS, len(records) // ROWS_PER_LABEL)
    is_free = fields.answer_form is AnswerForm.FREE or not (names.has_choices or are_labels)
    form = None
    if names.has_choices and not is_free:
        form = _answer_form(records, fields.answer_form, names, source)

    def row(numbered: tuple[int, _Record]) -> Row:
        made = _row(*numbered, names, None if is_free else labels, form, remedy)
        if not allow_equal_choices:
            _check_one_is_right(made)
        return made

    rows = _good(list(enumerate(records)), row, problems)
    skipped = tuple(problems or ())
    if not rows:
        raise InputError(f"{source} holds no usable row; the first problem: {skipped[0]}")
    unused = tuple(name for name in _present(raw) if name not in names.used)
    return DataFile(rows=tuple(rows), skipped=skipped, unused=unused)


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


def _present(raw: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Every name that occurs, in the order of the file."""
    return list(dict.fromkeys(name for _, values in raw for name in values))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of choices. ``may_count_from_1`` says that an answer's number may be a column's."""

    names: tuple[str, ...] = ()
    may_count_from_1: bool = False


_NO_COLUMNS = _Columns()


@dataclass(frozen=True, slots=True)
class _Names:
    """The names under which this file has its parts."""

    question: str
    answer: str
    passage: str
    choices: str | None
    columns: _Columns

    @property
    def has_choices(self) -> bool:
        return self.choices is not None or bool(self.columns.names)

    @property
    def may_count_from_1(self) -> bool:
        return self.choices is None and self.columns.may_count_from_1

    @property
    def used(self) -> frozenset[str | None]:
        parts = (self.question, self.answer, self.passage, self.choices, "id")
        return frozenset((*parts, *self.columns.names))

    @classmethod
    def found_in(cls, present: Sequence[str], fields: Fields, file: str) -> _Names:
        question = _find("question", fields.question, present, file)
        answer = _find("answer", fields.answer, present, file)
        choices = _find("choices", fields.choices, present, file, may_lack=True)
        taken = {question, answer, fields.passage, choices}
        return cls(
            question=question or "",
            answer=answer or "",
            passage=fields.passage,
            choices=choices,
            columns=_columns([name for name in present if name not in taken], file),
        )


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _find(
    part: str, wanted: str, present: Sequence[str], file: str, *, may_lack: bool = False
) -> str | None:
    """What a file calls a part.

    Raises:
        InputError: it has no such part, or several names may be meant.
    """
    if wanted in present:
        return wanted
    listed = ", ".join(map(repr, present))
    if wanted == getattr(DEFAULT_FIELDS, part):
        known, others = NAMES[part]
        for names in (*((name,) for name in known), others):
            found = [name for name in present if _folded(name) in names]
            if len(found) > 1:
                raise InputError(
                    f"{file}: {' and '.join(map(repr, found))} may each be the {part}; say which "
                    f"with `fields.{part}`"
                )
            if found:
                return found[0]
        if may_lack:
            return None
    semicolons = any(";" in name for name in present)
    hint = "; its header has semicolons: separate by commas, or save as .tsv" if semicolons else ""
    raise InputError(
        f"{file} has no field {wanted!r}, only {listed}; name it with `fields.{part}`{hint}"
    )


def _columns(present: Sequence[str], file: str) -> _Columns:
    """The columns that hold choices, in order; letters alone only where no other columns do.

    Raises:
        InputError: two sets of columns may be the choices.
    """
    layouts: defaultdict[tuple[str, bool], dict[int, str]] = defaultdict(dict)
    for name in present:
        match = CHOICE_COLUMN.fullmatch(_folded(name))
        if match is None:
            continue
        stem, place = match[1] or "", match[2] or match[4]
        columns = layouts[stem, place.isdecimal()]
        number = int(place) if place.isdecimal() else LETTERS.index(place)
        if number in columns:
            raise InputError(f"{file}: {columns[number]!r} and {name!r} are the same; rename one")
        columns[number] = name
    found = []
    for (stem, is_numbered), columns in layouts.items():
        numbers = sorted(columns)
        in_turn = [number for place, number in enumerate(numbers) if number == numbers[0] + place]
        # By letters an answer is named, so that none before it may lack; numbers give an order.
        kept = numbers if is_numbered else in_turn
        if len(kept) > 1 and numbers[0] <= is_numbered:
            from_1 = kept == in_turn and numbers[0] == is_numbered
            found.append((stem, _Columns(tuple(columns[number] for number in kept), from_1)))
    found = [one for one in found if one[0]] or found
    if len(found) > 1:
        sets = " or ".join(", ".join(columns.names) for _, columns in found)
        raise InputError(f"{file}: the choices may be {sets}; take out or rename one of them")
    return found[0][1] if found else _NO_COLUMNS


def _record(where: str, values: Mapping[str, Any], names: _Names) -> _Record:
    question = values.get(names.question)
    if not isinstance(question, str) or not question.strip():
        raise DataError(where, f"{names.question!r} is empty or not text; fill it in")
    answer = values.get(names.answer)
    if answer is None or _as_text(answer) is None or not str(answer).strip():
        raise DataError(where, f"no answer; fill in {names.answer!r}")
    choices, labels = _choices(where, values, names) if names.has_choices else (None, ())
    return _Record(
        where=where,
        values=values,
        choices=choices,
        labels=labels,
        answer=(_as_text(answer) or "").strip(),
        answer_is_number=isinstance(answer, int) and not isinstance(answer, bool),
    )


def _choices(
    where: str, values: Mapping[str, Any], names: _Names
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A record's choices, and their labels where it has some."""
    labels: list[Any] = []
    if names.choices is not None and values.get(names.choices) not in (None, ""):
        given, labels = _listed(where, values[names.choices], names.choices)
    else:
        given = _cells(where, values, names.columns.names)
    choices = tuple(_as_text(choice) or "" for choice in given)
    if len(choices) < 2:
        raise DataError(where, f"{len(choices)} choices; a question needs at least two")
    if not all(choice.strip() for choice in choices):
        raise DataError(where, "an empty choice, or one that is not text; fill it in")
    if labels and len(labels) != len(choices):
        raise DataError(where, f"{len(choices)} choices with {len(labels)} labels; mend the row")
    return choices, tuple((_as_text(label) or "").strip() for label in labels)


def _listed(where: str, value: Any, name: str) -> tuple[list[Any], list[Any]]:
    """Choices in one field and their labels: a list, or texts and labels beside each other."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    texts, labels = value, []
    if isinstance(value, dict):
        texts, labels = value.get("text"), value.get("label", [])
    if not (isinstance(texts, list) and isinstance(labels, list)):
        raise DataError(where, f'{name!r} is not a list such as ["yes", "no"]')
    return texts, labels


def _cells(where: str, values: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    """Choices in columns, of which the last may be empty: a question may have fewer."""
    cells = [None if values.get(name) == "" else values.get(name) for name in columns]
    while cells and cells[-1] is None:
        cells.pop()
    if None in cells:
        empty, last = columns[cells.index(None)], columns[len(cells) - 1]
        raise DataError(where, f"{empty!r} is empty and {last!r} is not; fill it in")
    return cells


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
                "give choices, rows of at least two kinds, or `fields.answer_form` free",
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
            "such rows out with `skip_bad_rows`",
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
    if form in (AnswerForm.INDEX, AnswerForm.NUMBER):
        # A bound on the digits, since converting thousands of them is refused.
        if not (answer.isascii() and answer.isdecimal() and len(answer) < 9):
            return None
        index = int(answer) - (form is AnswerForm.NUMBER)
    elif form is AnswerForm.LETTER:
        index = LETTERS.find(answer.lower()) if len(answer) == 1 else -1
    else:
        of = record.labels if form is AnswerForm.LABEL else [choice.strip() for choice in choices]
        index = of.index(answer) if answer in of else -1
    return index if 0 <= index < len(choices) else None


def _answer_form(
    records: Sequence[_Record], wanted: AnswerForm, names: _Names, source: str
) -> AnswerForm:
    """The form that fits most rows.

    Labels that stand beside the choices go before what else an answer may be. A number counted
    from 1 is looked for among columns alone, which may be numbered so: a list is indexed.

    Raises:
        InputError: two forms fit equally well and name different choices.
    """
    if wanted is not AnswerForm.AUTO:
        return wanted
    forms = list(SPOKEN)
    if any(record.answer_is_number for record in records):
        forms = [AnswerForm.LABEL, AnswerForm.INDEX, AnswerForm.NUMBER]
    meanings = {form: [_interpret(record, form) for record in records] for form in forms}
    fits = {form: sum(m is not None for m in found) for form, found in meanings.items()}
    if not names.may_count_from_1:
        forms.remove(AnswerForm.NUMBER)
    best = max(forms, key=fits.__getitem__)
    if best is AnswerForm.LABEL and fits[best]:
        return best
    if fits[AnswerForm.NUMBER] > fits[best]:
        LOG.warning(
            "%s: more answers fit if they are counted from 1 than as they are read; "
            "`fields.answer_form` number counts from 1",
            source,
        )
    rivals = [form for form in forms if form is not best and fits[form] == fits[best] > 0]
    for other in rivals:
        _check_they_agree(records, {form: meanings[form] for form in (best, other)})
    if names.may_count_from_1 and best in (AnswerForm.INDEX, AnswerForm.NUMBER):
        LOG.info("%s: answers are counted from %d", source, best is AnswerForm.NUMBER)
    return best


def _check_they_agree(
    records: Sequence[_Record], meanings: Mapping[AnswerForm, Sequence[int | None]]
) -> None:
    """Refuse answers to which two forms give different meanings."""
    (one, ones), (two, twos) = meanings.items()
    for record, first, second in zip(records, ones, twos, strict=True):
        if first != second:
            raise InputError(
                f"{record.where}: answer {record.answer!r} may be a choice's {SPOKEN[one]} or its "
                f"{SPOKEN[two]}; say which with `fields.answer_form` {one} or "
                f"`fields.answer_form` {two}"
            )


def _not_an_answer(record: _Record, form: AnswerForm) -> str:
    count = len(record.choices or ())
    allowed = {
        AnswerForm.INDEX: f"an index from 0 to {count - 1} (counted from 0)",
        AnswerForm.NUMBER: f"a number from 1 to {count} (counted from 1)",
        AnswerForm.LETTER: f"a letter from A to {chr(ord('A') + count - 1)}",
        AnswerForm.LABEL: "a choice's label",
        AnswerForm.TEXT: "the text of a choice",
    }
    shown = record.answer if len(record.answer) < 40 else record.answer[:40] + "..."
    return f"answer {shown!r} is not {allowed[form]}"
