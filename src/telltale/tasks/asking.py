"""From rows to a task: how the model is asked, and how its answer is read. Knows no model.

What a user says goes before what a named task says, and that before what the rows suggest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from telltale.errors import DataError, InputError
from telltale.support.words import one_of
from telltale.tasks.answers import exact, is_number
from telltale.tasks.extractions import extraction
from telltale.tasks.prompts import (
    CHOICE,
    OPTIONS,
    default_template,
    examples_from_rows,
    with_options,
)
from telltale.tasks.shots import (
    Candidate,
    Pool,
    give_own_shots,
    give_shots,
    give_shots_by_value,
)
from telltale.tasks.task import Example, Generation, Protocol, Scorer, Scoring, Shot, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.tasks.known import NamedTask
    from telltale.tasks.rows import Row

LOG = logging.getLogger(__name__)
Name = TypeVar("Name", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a task is asked, as far as the user sets it; None takes the default of task and rows.

    ``template`` is the prompt. ``scoring`` is for log-likelihoods; ``scorer`` and the rest are for
    generated text: see `telltale.tasks.task.Generation`. ``shots`` is how many examples are shown
    before each question, chosen by ``seed``.
    """

    protocol: str | None = None
    template: str | None = None
    scoring: str | None = None
    extract: str | None = None
    stop: tuple[str, ...] | None = None
    max_new_tokens: int | None = None
    shots: int | None = None
    seed: int = 0
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        """Refuse invalid settings, before any file is read."""
        self.known_protocol()
        _named(Scoring, self.scoring, "`scoring`")
        if self.extract is not None:
            extraction(self.extract, choices=2)
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise InputError(f"`max_new_tokens` must be at least 1, got {self.max_new_tokens}")
        if "" in (self.stop or ()):
            raise InputError(
                "`stop` must be some text, got ''; that would end every answer at once"
            )
        if self.shots is not None and self.shots < 0:
            raise InputError(f"`shots` must be at least 0, got {self.shots}")
        if self.extract is not None and self.scorer is not None:
            raise InputError("`extract` and `scorer` both say how an answer is read; give one")

    def known_protocol(self) -> Protocol | None:
        """The protocol given, or None."""
        return _named(Protocol, self.protocol, "`protocol`")

    def filled(self, known: NamedTask, protocol: Protocol) -> Asking:
        """The same with a named task's settings in place of None."""
        written = protocol is not Protocol.LOGLIK
        own = self.extract is not None or self.scorer is not None or not written
        return replace(
            self,
            template=known.templates.get(protocol) if self.template is None else self.template,
            scoring=self.scoring if self.scoring or written else known.scoring,
            extract=self.extract if own else known.extract,
            max_new_tokens=self.max_new_tokens or (known.max_new_tokens if written else None),
            stop=known.stop if self.stop is None and protocol is Protocol.TEXT else self.stop,
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """How rows become examples: the prompt, and what is done to a row first."""

    template: str
    prepare: Callable[[Row], Row]
    scoring: Scoring = Scoring.LOGLIK
    generation: Generation | None = None


def make_task(
    name: str,
    rows: Sequence[Row],
    asking: Asking | None = None,
    *,
    known: NamedTask | None = None,
    pool: Pool | None = None,
) -> Task:
    """A task from rows.

    Rows with choices are scored by log-likelihood unless ``asking`` names another protocol; rows
    without are asked in a chat.

    Args:
        name: what the task is called.
        rows: the labelled questions.
        asking: what a user says of how they are asked.
        known: what a named task says of it.
        pool: where shots are taken from; by default the rows themselves, and what is shown is then
            not asked.

    Raises:
        InputError: what was asked does not fit the rows.
        DataError: a row's answer cannot be read back, or its prompt cannot be made.
    """
    asking = asking or Asking()
    offers_none = all(len(row.choices) == 1 for row in rows)
    protocol = asking.known_protocol() or (Protocol.CHAT if offers_none else Protocol.LOGLIK)
    if known is not None:
        asking = asking.filled(known, protocol)
    if protocol is Protocol.LOGLIK:
        way = _by_loglik(name, rows, asking, offers_none=offers_none)
    else:
        way = _by_generation(name, rows, asking, protocol, offers_none=offers_none)
    task = Task(
        name,
        (),
        way.template,
        way.scoring,
        generation=way.generation,
        scorer=asking.scorer,
        shots=asking.shots or 0,
    )
    shot_answer = known.shot_answer if known else None

    def candidates(of: Sequence[Row]) -> list[Candidate]:
        prepared = [way.prepare(row) for row in of]
        examples = examples_from_rows(prepared, way.template, known.description if known else "")
        return [
            Candidate(
                replace(example, content=row.content),
                _as_shot(example, task.delimiter, row.fields.get(shot_answer or "")),
                row.fields.get(pool.by, "") if pool and pool.by else "",
            )
            for row, example in zip(of, examples, strict=True)
        ]

    asked = candidates(rows)
    if not asking.shots:
        examples = tuple(candidate.example for candidate in asked)
    elif pool is None:
        examples = give_own_shots(asked, asking.shots, asking.seed)
    elif pool.by is None:
        shown = candidates(pool.rows)
        examples = give_shots(asked, shown, asking.shots, asking.seed, pool.origin)
    else:
        shown = candidates(pool.rows)
        examples = give_shots_by_value(asked, shown, asking.shots, pool.origin)
    if len(examples) < len(asked):
        left = len(asked) - len(examples)
        LOG.info("%s: %d of %d examples are shown as shots, and not asked", name, left, len(asked))
    return replace(task, examples=examples)


def _as_shot(example: Example, delimiter: str, answer: str | None) -> Shot:
    """The example with its right answer, or with a longer one that leads to it."""
    if example.requests:
        context, rest = example.requests[example.answer]
        head, _, tail = rest.partition(delimiter)
        return Shot(context + head, tail)
    return Shot(example.context, answer or example.choices[example.answer])


def _by_loglik(name: str, rows: Sequence[Row], asking: Asking, *, offers_none: bool) -> _Way:
    if offers_none:
        raise InputError(
            f"{name} offers no choices, so `protocol` loglik has nothing to compare; give each row "
            "its choices, or `protocol` chat or text"
        )
    for parameter, value in (
        ("extract", asking.extract),
        ("scorer", asking.scorer),
        ("stop", asking.stop),
        ("max_new_tokens", asking.max_new_tokens),
    ):
        if value is not None:
            raise InputError(
                f"`{parameter}` is for generated text, and {name} is scored by log-likelihood; "
                "leave it out, or give `protocol` chat or text"
            )
    template = asking.template
    if template is None:
        template = default_template(rows, Protocol.LOGLIK, lettered=False)
    prepare = with_options if OPTIONS in template else _as_it_is
    return _Way(template, prepare, Scoring(asking.scoring or Scoring.LOGLIK))


def _by_generation(
    name: str, rows: Sequence[Row], asking: Asking, protocol: Protocol, *, offers_none: bool
) -> _Way:
    if asking.scoring is not None:
        raise InputError(
            f"`scoring` is for log-likelihoods, and {name} is answered by generated text; leave it "
            "out, or give `protocol` loglik"
        )
    template = asking.template
    if CHOICE in (template or ""):
        raise InputError(
            "a prompt with {choice} compares what comes after each choice; leave it out, or give "
            "`protocol` loglik"
        )
    free = offers_none or asking.scorer is not None
    extract = asking.extract or (_fitting(rows) if free else "letter")
    if asking.scorer is not None:
        extract = "exact"  # the scorer sees the whole text
    way = extraction(extract, max(len(row.choices) for row in rows))
    # A pattern may look for a letter in reasoning, where the prompt shows lettered choices.
    lettered = extract == "letter" or (not offers_none and OPTIONS in (template or ""))
    if template is None:
        template = default_template(rows, protocol, lettered=lettered)
    stop = way.stop if protocol is Protocol.TEXT else ()
    return _Way(
        template,
        with_options if lettered else lambda row: _free(row, extract),
        generation=Generation(
            chat=protocol is Protocol.CHAT,
            extract=extract,
            max_new_tokens=asking.max_new_tokens or way.max_new_tokens,
            stop=stop if asking.stop is None else asking.stop,
        ),
    )


def _as_it_is(row: Row) -> Row:
    return row


def _fitting(rows: Sequence[Row]) -> str:
    return "number" if all(is_number(row.choices[0]) for row in rows) else "exact"


def _free(row: Row, extract: str) -> Row:
    """The row with its right answer for only choice.

    Raises:
        DataError: no text could ever be read as this answer.
    """
    right = row.choices[row.answer]
    if extract == "number" and not is_number(right):
        raise DataError(row.where, f"answer {right!r} is not one number; give `extract` exact")
    if exact(right) is None:
        raise DataError(row.where, f"answer {right!r} is nothing but white space and full stops")
    return replace(row, choices=(right,), answer=0)


def _named(names: type[Name], given: str | None, parameter: str) -> Name | None:
    if given is not None and given not in list(names):
        raise InputError(f"{parameter} must be {one_of(names)}, got {given!r}")
    return None if given is None else names(given)
