"""The extractions, which read an answer from generated text, by name. Knows no model."""

from __future__ import annotations

import re
import warnings

from telltale.errors import InputError
from telltale.tasks.answers import LETTERS, Extraction, exact, marked, number
from telltale.tasks.maths import math

REGEX = "regex:"


def _letter(choices: int) -> Extraction:
    """The first capital letter that stands alone and names one of the choices."""
    # Alone: no part of a word of any script, nor of one with an apostrophe; quotes do no harm.
    before, after = r"(?<![^\W_])(?<![^\W_]['’])", r"(?![^\W_]|['’][^\W\d_])"
    found = re.compile(rf"{before}[A-{LETTERS[choices - 1]}]{after}")

    def find(text: str) -> str | None:
        match = found.search(text)
        return match[0] if match else None

    def is_final(text: str) -> bool:
        match = found.search(text)
        rest = text[match.end() :] if match else ""
        # An apostrophe may begin the rest of a word, and half a character may become a letter.
        return bool(rest) and "\ufffd" not in rest[:2] and (rest[0] not in "'’" or len(rest) > 1)

    return Extraction("letter", find, 32, ("\n",), is_final)


def _regex(pattern: str) -> Extraction:
    """The first match of a pattern: its first group, or all of it where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        raise InputError(
            f"`extract` regex:{pattern} is not a regular expression ({problem}); mend it, or quote "
            "it for the shell"
        ) from None

    def find(text: str) -> str | None:
        match = compiled.search(text)
        found = match[1 if compiled.groups else 0] if match else None
        return exact(found) if found else None

    return Extraction(f"{REGEX}{pattern}", find, 256, ("\nQuestion:",))


def _is_marked(text: str) -> bool:
    """Whether a number after the mark is followed by what no number goes on with."""
    found = marked(text)
    return found is not None and re.match(r"\.?\s", text[found.end() :]) is not None


EXTRACTIONS = {
    "exact": Extraction("exact", exact, 32, ("\n",)),
    "number": Extraction("number", number, 256, ("\nQuestion:",), _is_marked),
}
WAYS = "exact, letter, number, math or regex:PATTERN"


def extraction(name: str, choices: int = 0) -> Extraction:
    """The extraction of that name.

    Args:
        name: ``exact``, ``letter``, ``number``, ``math`` or ``regex:PATTERN``.
        choices: how many choices have letters, for ``letter``.

    Raises:
        InputError: there is no such way, it does not fit the choices, or it needs a library that is
            not installed.
    """
    if name.startswith(REGEX) and name != REGEX:
        return _regex(name.removeprefix(REGEX))
    if name == "letter":
        if not 2 <= choices <= len(LETTERS):
            raise InputError(
                f"`extract` letter needs 2 to {len(LETTERS)} choices a question, and there are "
                f"{choices}; give {'choices, or ' if choices < 2 else ''}`extract` exact"
            )
        return _letter(choices)
    if name == "math":
        return math()
    if name not in EXTRACTIONS:
        raise InputError(f"`extract` must be {WAYS}, got {name!r}")
    return EXTRACTIONS[name]
