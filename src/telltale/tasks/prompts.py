r"""Prompt templates: a row's fields in braces, ``\n`` for a line break, ``{{`` for a brace.

A template can name fields and nothing else: no attributes, indices or format specifications, so a
template or a data file can reach nothing of the program. Two names are not fields of a row:
``{options}``, the choices as lettered lines, and ``{choice}``, each choice in its turn: then what
comes after it is what is scored (partial evaluation, as WinoGrande is asked).
"""

from __future__ import annotations

import string
from dataclasses import replace
from typing import TYPE_CHECKING

from telltale.errors import DataError, InputError
from telltale.tasks.answers import LETTERS
from telltale.tasks.task import Example, Protocol, Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.tasks.rows import Row

PASSAGE = r"{passage}\n"
OPTIONS = "{options}"
CHOICE = "{choice}"
BLANK = "_"  # stands for the choice where a question is shown without one
TEMPLATES = {  # by protocol, and by whether choices are offered as lettered lines
    (Protocol.LOGLIK, False): r"Question: {question}\nAnswer:",
    (Protocol.TEXT, False): r"Question: {question}\nAnswer:",
    (Protocol.TEXT, True): r"Question: {question}\n{options}\nAnswer:",
    (Protocol.CHAT, False): "{question}",
    (Protocol.CHAT, True): r"{question}\n{options}\nAnswer with the letter of the right choice.",
}


def default_template(rows: Sequence[Row], protocol: Protocol, *, lettered: bool) -> str:
    """The default template, with the passage if the rows have one."""
    passage = PASSAGE if all(row.fields.get("passage") for row in rows) else ""
    return passage + TEMPLATES[protocol, lettered]


def fields_of(template: str) -> set[str]:
    """The names of the fields in a template.

    Raises:
        InputError: it is malformed.
    """
    return {field for _, field in _parse(template) if field}


def with_options(row: Row) -> Row:
    """The row with lettered choices in the field ``options``, and the letters as its choices.

    A field of that name that the row has already is kept.
    """
    letters = tuple(LETTERS[: len(row.choices)])
    lines = [f"{letter}. {choice}" for letter, choice in zip(letters, row.choices, strict=True)]
    fields = {"options": "\n".join(lines), **row.fields}
    return replace(row, fields=fields, choices=letters)


def examples_from_rows(
    rows: Sequence[Row], template: str, description: str = ""
) -> tuple[Example, ...]:
    """Render every row.

    Args:
        rows: the labelled questions.
        template: the prompt.
        description: another template, for what is read before everything else.

    Raises:
        InputError: a template is malformed, or the prompt names no field of the rows.
        DataError: a row lacks a field that a template names, or its prompt is empty.
    """
    pieces = _parse(template)
    if not any(field for _, field in pieces):
        available = ", ".join(f"{{{name}}}" for name in rows[0].fields)
        raise InputError(
            f"the prompt template {template!r} names no field, so every prompt would be the same; "
            f"the rows have {available}"
        )
    of_description = _parse(description)
    examples = []
    for row in rows:
        requests = _requests(pieces, row) if CHOICE in template else ()
        example = Example(
            id=row.id,
            context=_render(pieces, row),
            # By the length of such a text, and not of the name in it, a harness's acc_norm divides.
            choices=tuple(request.context for request in requests) or row.choices,
            answer=row.answer,
            passage=row.fields.get("passage", ""),
            description=_text(of_description, row),
            requests=requests,
        )
        examples.append(example)
    return tuple(examples)


def _requests(pieces: Sequence[tuple[str, str | None]], row: Row) -> tuple[Request, ...]:
    """One request a choice: the prompt up to the choice, and what comes after it."""
    place = [field for _, field in pieces].index("choice") + 1
    before, after = pieces[:place], pieces[place:]
    rest = _text(after, row)
    if not rest.strip():
        raise DataError(row.where, "nothing comes after the {choice}, so nothing can be scored")
    return tuple(Request(_text(before, row, choice), rest) for choice in row.choices)


def _parse(template: str) -> list[tuple[str, str | None]]:
    """The template as pairs of literal text and the name of the field after it."""
    pieces: list[tuple[str, str | None]] = []
    try:
        parsed = list(string.Formatter().parse(template.replace("\\n", "\n")))
    except ValueError as problem:
        raise InputError(
            f"the prompt template {template!r} is malformed ({problem}); "
            "write {field} for a field and {{ for a brace"
        ) from None
    for literal, field, specification, conversion in parsed:
        if field is not None and (not field.isidentifier() or specification or conversion):
            raise InputError(
                f"the prompt template {template!r} may hold plain field names in braces only, "
                f"such as {{question}}; write {{{{ for a brace"
            )
        pieces.append((literal, field))
    return pieces


def _render(pieces: Sequence[tuple[str, str | None]], row: Row) -> str:
    text = _text(pieces, row)
    if not text.strip():
        raise DataError(row.where, "the prompt is empty; fill the row's fields or leave it out")
    return text


def _text(pieces: Sequence[tuple[str, str | None]], row: Row, choice: str = BLANK) -> str:
    fields = {"choice": choice, **row.fields}
    return "".join(
        literal + (_field(fields, field, row) if field else "") for literal, field in pieces
    )


def _field(fields: Mapping[str, str], name: str, row: Row) -> str:
    if name not in fields:
        available = ", ".join(f"{{{field}}}" for field in row.fields)
        raise DataError(
            row.where, f"no field {name!r} for the prompt template; the row has {available}"
        )
    return fields[name]
