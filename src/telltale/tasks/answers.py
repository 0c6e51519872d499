"""Reading an answer from generated text, and comparing it with the right one.

Five ways, by name: see `extraction`. Text that holds no answer gives None, which is wrong and
counted. Plain text functions; knows no model.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REGEX = "regex:"
MARK = "####"
# A sign counts where it does not stand between two terms: 3 in "10-3", -3 in "is -3" and "$-3".
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\].])[-\u2212])?[$€£]?(?P<sign2>(?<=[$€£])[-\u2212])?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:[eE][-+]?\d{1,2}(?!\d))?)"
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """One way to read an answer.

    ``find`` gives the answer in a text, or None. ``is_final``, where there is one, says that no
    text after this one can change it, so that generation may end. ``max_new_tokens`` and ``stop``
    serve where none are given; ``stop`` with plain prompts only, since a chat model ends its turn
    by itself. ``same``, where there is one, says of an answer and the right one, neither of them
    None, whether they mean the same; without it they must be equal.
    """

    name: str
    find: Callable[[str], str | None]
    max_new_tokens: int
    stop: tuple[str, ...]
    is_final: Callable[[str], bool] | None = None
    same: Callable[[str, str], bool] | None = None

    def score(self, answer: str | None, right: str) -> float:
        """1 for the right answer, 0 for another or none."""
        if self.same is not None:
            return float(answer is not None and self.same(answer, right))
        expected = self.find(right) or exact(right)
        return float(answer is not None and answer == expected)


def exact(text: str) -> str | None:
    """The whole text, but for case, white space around words and a full stop at its end."""
    return " ".join(text.split()).removesuffix(".").rstrip().casefold() or None


def last_number(text: str) -> str | None:
    """The last number, in one form: ``1,234``, ``$18.0`` and ``2e3`` are 1234, 18 and 2000."""
    matches = list(_NUMBER.finditer(text))
    if not matches:
        return None
    last = matches[-1]
    plain = f"{Decimal(last['digits'].replace(',', '')):f}"
    whole, _, fraction = plain.partition(".")
    value = ".".join(filter(None, [whole.lstrip("0") or "0", fraction.rstrip("0")]))
    is_negative = bool(last["sign"] or last["sign2"]) and value != "0"
    return f"-{value}" if is_negative else value


def number(text: str) -> str | None:
    """The first number after ``####``, as worked answers of GSM8K end, else the last number."""
    found = _marked(text)
    return last_number(text if found is None else found[0])


def _marked(text: str) -> re.Match[str] | None:
    """The number that four marks announce; what is written after it is no answer."""
    place = text.find(MARK)
    return None if place < 0 else _NUMBER.search(text, place + len(MARK))


def is_number(text: str) -> bool:
    """Whether a text is one number and nothing else, as a right answer must be."""
    return _NUMBER.fullmatch(text.strip()) is not None


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
            f"--extract regex:{pattern} is not a regular expression ({problem}); mend it, or quote "
            "it for the shell"
        ) from None

    def find(text: str) -> str | None:
        match = compiled.search(text)
        found = match[1 if compiled.groups else 0] if match else None
        return exact(found) if found else None

    return Extraction(f"{REGEX}{pattern}", find, 256, ("\nQuestion:",))


def _is_marked(text: str) -> bool:
    """Whether a number after the mark is followed by what no number goes on with."""
    found = _marked(text)
    return found is not None and re.match(r"\.?\s", text[found.end() :]) is not None


EXTRACTIONS = {
    "exact": Extraction("exact", exact, 32, ("\n",)),
    "number": Extraction("number", number, 256, ("\nQuestion:",), _is_marked),
}
WAYS = "exact, letter, number, math or regex:PATTERN"


def extraction(name: str, choices: int = 0) -> Extraction:
    """The way of a name.

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
                f"--extract letter needs 2 to {len(LETTERS)} choices a question, and there are "
                f"{choices}; give {'choices, or ' if choices < 2 else ''}--extract exact"
            )
        return _letter(choices)
    if name == "math":
        from telltale.tasks.maths import math  # what it needs is in an extra

        return math()
    if name not in EXTRACTIONS:
        raise InputError(f"no --extract {name!r}; give {WAYS}")
    return EXTRACTIONS[name]
