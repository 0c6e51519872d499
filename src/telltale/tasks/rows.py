"""A row: one labelled question, before a prompt is made of it.

Built-in tasks and data files both give rows; `telltale.tasks.prompts` turns them into examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled question.

    ``fields`` is what a prompt template may name. ``where`` points a person to the row, such as
    ``validation.jsonl, line 12``. ``answer`` is a 0-based index into ``choices``; a single choice
    is the right answer to a question that offers none.
    """

    id: str
    fields: Mapping[str, str]
    choices: tuple[str, ...]
    answer: int
    where: str

    @property
    def content(self) -> str:
        """A hash of the question's content, whatever its prompt and its place in a file.

        Neither white space, nor the names of fields, nor the order of choices is part of it.
        """
        fields = {" ".join(text.split()) for name, text in self.fields.items() if name != "id"}
        choices = sorted(" ".join(text.split()) for text in self.choices)
        right = " ".join(self.choices[self.answer].split())
        return sha256_of(*sorted(fields), "choices", *choices, "answer", right)
