"""Shots: the labelled examples that a model is shown before each question.

All questions are shown the same ones, so that what stands before every question is read once; or,
where shots go by a field such as a subject, all questions with its value. No shot is ever one
of the questions that a search uses, nor shares a passage with one, wherever it came from: what
counts is the text, without regard to white space.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from telltale.errors import InputError
from telltale.support.files import sha256_of
from telltale.tasks.split import texts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from telltale.tasks.rows import Row
    from telltale.tasks.task import Example, Shot, Task

LOG = logging.getLogger(__name__)


class Pool(NamedTuple):
    """Rows to take shots from; ``origin`` names them in messages.

    ``by`` is a field in which a shot must be like the question. Such sets are made to be shown, so
    shots are then taken in their order.
    """

    rows: Sequence[Row]
    origin: str
    by: str | None = None


class Candidate(NamedTuple):
    """An example, its shot, and the value of the field by which shots are matched."""

    example: Example
    shot: Shot
    value: str = ""


def give_shots(
    asked: Sequence[Candidate], pool: Sequence[Candidate], count: int, seed: int, origin: str
) -> tuple[Example, ...]:
    """The examples with shots, none of which shares a text with any of them.

    Raises:
        InputError: there are not so many to show.
    """
    shown = _chosen(_shuffled(pool, seed), count, _texts(asked), origin)
    shots = tuple(candidate.shot for candidate in shown)
    return tuple(replace(candidate.example, shots=shots) for candidate in asked)


def give_shots_by_value(
    asked: Sequence[Candidate], pool: Sequence[Candidate], count: int, origin: str
) -> tuple[Example, ...]:
    """The examples, each with the first shots of the same field value.

    A set that was made to be shown has none to spare, so that what has a text in common with any of
    these shots is marked instead.

    Raises:
        InputError: there are not so many to show.
    """
    shown: dict[str, list[Candidate]] = {}
    for value in dict.fromkeys(candidate.value for candidate in asked):
        alike = [candidate for candidate in pool if candidate.value == value]
        shown[value] = _chosen(alike, count, set(), f"{origin} ({value})")
    taken = {text for of_value in shown.values() for text in _texts(of_value)}
    return tuple(
        replace(
            example,
            shots=tuple(candidate.shot for candidate in shown[value]),
            is_shown=not taken.isdisjoint(texts_of(example)),
        )
        for example, _, value in asked
    )


def without_shown(task: Task) -> Task:
    """The task without the examples that are shown as shots."""
    asked = tuple(example for example in task.examples if not example.is_shown)
    if len(asked) < len(task.examples):
        LOG.info(
            "%s: %d of %d examples are also shown as shots, and are in no set",
            task.name,
            len(task.examples) - len(asked),
            len(task.examples),
        )
    return replace(task, examples=asked)


def give_own_shots(asked: Sequence[Candidate], count: int, seed: int) -> tuple[Example, ...]:
    """The examples with some of them as shots, and without those that share a text with a shot.

    Raises:
        InputError: there are not so many to show.
    """
    shown = _chosen(_shuffled(asked, seed), count, set(), "the set itself")
    taken = _texts(shown)
    shots = tuple(candidate.shot for candidate in shown)
    return tuple(
        replace(candidate.example, shots=shots)
        for candidate in asked
        if taken.isdisjoint(texts_of(candidate.example))
    )


def _chosen(
    candidates: Iterable[Candidate], count: int, taken: set[tuple[str, str]], origin: str
) -> list[Candidate]:
    """The first so many that share no text with those taken, nor with each other."""
    taken = set(taken)
    chosen: list[Candidate] = []
    for candidate in candidates:
        texts = texts_of(candidate.example)
        if len(chosen) < count and taken.isdisjoint(texts):
            taken.update(texts)
            chosen.append(candidate)
    if len(chosen) < count:
        raise InputError(
            f"`shots` {count} needs {count} examples to show that are not among those asked, and "
            f"{origin} has {len(chosen)}; give fewer"
        )
    return chosen


def _texts(candidates: Iterable[Candidate]) -> set[tuple[str, str]]:
    return {text for candidate in candidates for text in texts_of(candidate.example)}


def _shuffled(candidates: Iterable[Candidate], seed: int) -> list[Candidate]:
    # By content, so that neither the file's order nor a random-number library decides.
    return sorted(candidates, key=lambda one: sha256_of("shots", str(seed), one.example.digest))
