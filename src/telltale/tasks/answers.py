"""Reading exact texts and numbers from generated text, and comparing them with right answers.

Text that holds no answer gives None, which is wrong and counted. The ways to read one have names in
`telltale.tasks.extractions`. Plain text functions; knows no model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
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
        """1 for the right answer, 0 for a wrong one or none."""
        if self.same is not None:
            return float(answer is not None and self.same(answer, right))
        expected = self.find(right) or exact(right)
        return float(answer is not None and answer == expected)


def exact(text: str) -> str | None:
    """The whole text without regard to case, white space around words and a final full stop."""
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
    found = marked(text)
    return last_number(text if found is None else found[0])


def marked(text: str) -> re.Match[str] | None:
    """The number after ``####``, where the answer ends."""
    place = text.find(MARK)
    return None if place < 0 else _NUMBER.search(text, place + len(MARK))


def is_number(text: str) -> bool:
    """Whether a text is one number and nothing else, as a right answer must be."""
    return _NUMBER.fullmatch(text.strip()) is not None
