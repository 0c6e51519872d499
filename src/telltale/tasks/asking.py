"""From rows to a task: how the model is asked, and how its answer is read. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from telltale.errors import DataError, InputError
from telltale.tasks.answers import exact, extraction, is_number
from telltale.tasks.prompts import default_template, examples_from_rows, with_options
from telltale.tasks.task import Generation, Protocol, Scoring, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.tasks.rows import Row

Name = TypeVar("Name", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a user may say of how a task is asked; None leaves it to the rows.

    ``template`` is the prompt. ``scoring`` is for log-likelihoods, and the rest for generated text:
    see `telltale.tasks.task.Generation`.
    """

    protocol: str | None = None
    template: str | None = None
    scoring: str | None = None
    extract: str | None = None
    stop: tuple[str, ...] | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any file is read."""
        self.known_protocol()
        _named(Scoring, self.scoring, "--scoring")
        if self.extract is not None:
            extraction(self.extract, choices=2)
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise InputError(
                f"--max-new-tokens {self.max_new_tokens} leaves no room for an answer; give 1 or "
                "more"
            )
        if "" in (self.stop or ()):
            raise InputError("--stop '' would end every text before it begins; give some text")

    def known_protocol(self) -> Protocol | None:
        """The protocol, if one was named."""
        return _named(Protocol, self.protocol, "--protocol")


def make_task(name: str, rows: Sequence[Row], asking: Asking | None = None) -> Task:
    """A task from rows.

    Rows with choices are scored by log-likelihood unless ``asking`` names another protocol; rows
    without are asked in a chat.

    Raises:
        InputError: what was asked does not fit the rows.
        DataError: a row's answer cannot be read back, or its prompt cannot be made.
    """
    asking = asking or Asking()
    offers_none = all(len(row.choices) == 1 for row in rows)
    protocol = asking.known_protocol() or (Protocol.CHAT if offers_none else Protocol.LOGLIK)
    if protocol is Protocol.LOGLIK:
        return _by_loglik(name, rows, asking, offers_none=offers_none)
    return _by_generation(name, rows, asking, protocol, offers_none=offers_none)


def _by_loglik(name: str, rows: Sequence[Row], asking: Asking, *, offers_none: bool) -> Task:
    if offers_none:
        raise InputError(
            f"{name} offers no choices, so --protocol loglik has nothing to compare; give each row "
            "its choices, or --protocol chat or text"
        )
    for option, value in (
        ("--extract", asking.extract),
        ("--stop", asking.stop),
        ("--max-new-tokens", asking.max_new_tokens),
    ):
        if value is not None:
            raise InputError(
                f"{option} is for generated text, and {name} is scored by log-likelihood; leave it "
                "out, or give --protocol chat or text"
            )
    template = asking.template
    if template is None:
        template = default_template(rows, Protocol.LOGLIK, lettered=False)
    scoring = Scoring(asking.scoring or Scoring.LOGLIK)
    return Task(name, examples_from_rows(rows, template), template, scoring)


def _by_generation(
    name: str, rows: Sequence[Row], asking: Asking, protocol: Protocol, *, offers_none: bool
) -> Task:
    if asking.scoring is not None:
        raise InputError(
            f"--scoring is for log-likelihoods, and {name} is answered by generated text; leave it "
            "out, or give --protocol loglik"
        )
    extract = asking.extract or (_fitting(rows) if offers_none else "letter")
    way = extraction(extract, max(len(row.choices) for row in rows))
    # A pattern may look for a letter in reasoning, where the prompt shows lettered choices.
    lettered = extract == "letter" or (not offers_none and "{options}" in (asking.template or ""))
    asked = [with_options(row) if lettered else _free(row, extract) for row in rows]
    template = asking.template
    if template is None:
        template = default_template(rows, protocol, lettered=lettered)
    stop = way.stop if protocol is Protocol.TEXT else ()
    return Task(
        name,
        examples_from_rows(asked, template),
        template,
        generation=Generation(
            chat=protocol is Protocol.CHAT,
            extract=extract,
            max_new_tokens=asking.max_new_tokens or way.max_new_tokens,
            stop=stop if asking.stop is None else asking.stop,
        ),
    )


def _fitting(rows: Sequence[Row]) -> str:
    return "number" if all(is_number(row.choices[0]) for row in rows) else "exact"


def _free(row: Row, extract: str) -> Row:
    """The row with its right answer for only choice.

    Raises:
        DataError: no text could ever be read as this answer.
    """
    right = row.choices[row.answer]
    if extract == "number" and not is_number(right):
        raise DataError(row.where, f"answer {right!r} is not one number; give --extract exact")
    if exact(right) is None:
        raise DataError(row.where, f"answer {right!r} is nothing but white space and full stops")
    return replace(row, choices=(right,), answer=0)


def _named(names: type[Name], given: str | None, option: str) -> Name | None:
    if given is not None and given not in list(names):
        raise InputError(f"no {option.lstrip('-')} {given!r}; give {' or '.join(names)}")
    return None if given is None else names(given)
