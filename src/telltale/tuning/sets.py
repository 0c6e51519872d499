"""The sets of a tuning: search, held-out, training and development; no text is in two of them.

The search set and the held-out set are those of a search with the same sizes and seed. What is
trained on has no text and no passage in common with them, nor, where it comes from elsewhere, with
any other example of the data that they were drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.tasks.datafile import DEFAULT_FIELDS
from telltale.tasks.group import members
from telltale.tasks.loading import load_task
from telltale.tasks.named import NAMED
from telltale.tasks.shots import without_shown
from telltale.tasks.split import (
    DEFAULT_HELD_OUT_SIZE,
    DEFAULT_SEARCH_SIZE,
    SMALLEST_SET,
    check_answers_differ,
    clusters_of,
    first_drawn,
    split_examples,
)
from telltale.tasks.task import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from telltale.tasks.datafile import Fields
    from telltale.tasks.task import Task

TRAIN = "train"  # the split
DEVELOPMENT_SHARE, LARGEST_DEVELOPMENT = 0.1, 200
OWN = ("shots", "scorer", "shares")  # settings in which training examples may differ


@dataclass(frozen=True, slots=True)
class TuningSets:
    """The examples of a tuning, by what they are for.

    Attributes:
        search: choose layers.
        held_out: judge, and nothing else.
        train: are trained on.
        development: a part of what was given to train on; say when training stops.
        origin: where the last two come from, in words.
        left_out: how many examples there were not trained on, since they share a text or a passage
            with what is not to be trained on.
    """

    search: tuple[Example, ...]
    held_out: tuple[Example, ...]
    train: tuple[Example, ...]
    development: tuple[Example, ...]
    origin: str
    left_out: int


def tuning_sets(
    task: Task,
    train: Task | None = None,
    *,
    limit: int | None = None,
    held_out: int | None = None,
    seed: int = 0,
) -> TuningSets:
    """Draw the sets of a tuning.

    Args:
        task: has the examples to search and to judge by.
        train: has those to train on, asked in the same way; by default what the search set and the
            held-out set leave of the task's.
        limit: the size of the search set; by default 500 but at most half of the examples, or a
            quarter of them where some are trained on.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000, or a
            third of it where some are trained on.
        seed: another seed gives other sets.

    Raises:
        InputError: a set would be too small, all answers are the same, or ``train`` is not asked as
            the task is.
    """
    task = without_shown(task)
    check_answers_differ(task.examples)
    if train is None:
        limit, held_out = _leaving_some(len(task.examples), limit, held_out)
        pool, origin = task.examples, f"examples of {task.name} that no other set has"
    else:
        pool, origin = _asked_alike(task, train).examples, train.name
    split = split_examples(
        task.examples, limit=limit, held_out=held_out, seed=seed, shares=dict(task.shares)
    )
    search, judge = (
        tuple(task.examples[index] for index in indices)
        for indices in (split.search, split.held_out)
    )
    others = [*search, *judge] if train is None else [*task.examples]
    free = apart_from([*others, *_shown(task)], pool)
    _check_enough(free, len(pool), task, is_part=train is None)
    size = max(SMALLEST_SET, min(LARGEST_DEVELOPMENT, round(DEVELOPMENT_SHARE * len(free))))
    development = first_drawn(replace(task, examples=free, shares=()), size, seed)
    trained = apart_from(development, free)
    _check_enough(trained, len(pool), task, is_part=train is None)
    used = len(trained) + len(development)
    left_out = (len(pool) if train is not None else len(pool) - len(others)) - used
    return TuningSets(search, judge, trained, development, origin, left_out)


def apart_from(others: Sequence[Example], pool: Sequence[Example]) -> tuple[Example, ...]:
    """Those of some examples that do not belong together with any of others, in their order.

    Two belong together that share a text or a passage, or each of them with a third; or that ask
    the same, whatever the prompt.
    """
    clusters = clusters_of([*others, *pool])
    taken, contents = set(clusters[: len(others)]), {one.content for one in others if one.content}
    own = clusters[len(others) :]
    return tuple(
        one
        for one, cluster in zip(pool, own, strict=True)
        if cluster not in taken and one.content not in contents
    )


def train_split(name: str, split: str | None, load: Callable[..., Task]) -> Task | None:
    """A named task's train split, or None where it has none, or where that is what is asked.

    Of several tasks as one objective it is that of all of them.

    Args:
        name: the task's name, as `telltale.load_task` takes it.
        split: the split that is asked, where it was named.
        load: loads the same task with another ``split`` and ``shots``.

    Raises:
        InputError: it cannot be had.
    """
    for one, _ in members(name):
        known = NAMED.get(one)
        if known is None or TRAIN not in known.sizes or (split or known.split) == TRAIN:
            return None
    try:
        return load(split=TRAIN, shots=None)
    except InputError as problem:
        raise InputError(f"there is nothing to train on: {problem}; or give `train` FILE") from None


def read_train(
    task: Task, file: Path, *, fields: Fields = DEFAULT_FIELDS, skip_bad_rows: bool = False
) -> Task:
    """The examples of a file, asked as a task is.

    Raises:
        InputError: the task is several, or its way of asking does not fit the file's rows.
        DataError: a row cannot be used.
    """
    if task.shares:
        raise InputError(
            f"`train` {file.name} is examples of one task, and {task.name} is several; leave it "
            "out, or tune for one"
        )
    written = task.generation
    way: dict[str, Any] = {"scoring": task.scoring.value}
    if written is not None:
        way = {
            "extract": written.extract,
            "max_new_tokens": written.max_new_tokens,
            "stop": written.stop,
        }
    return load_task(
        data=file,
        protocol=task.protocol.value,
        prompt=task.template,
        fields=fields,
        skip_bad_rows=skip_bad_rows,
        **way,
    )


def _leaving_some(count: int, limit: int | None, held_out: int | None) -> tuple[int, int]:
    """Sizes of the search set and the held-out set that leave half of the examples to train on."""
    if limit is None:
        limit = max(SMALLEST_SET, min(DEFAULT_SEARCH_SIZE, count // 4))
    if held_out is None:
        held_out = max(SMALLEST_SET, min(DEFAULT_HELD_OUT_SIZE, (count - limit) // 3))
    return limit, held_out


def _asked_alike(task: Task, train: Task) -> Task:
    """Training examples with what stands before the task's questions.

    Raises:
        InputError: they are asked in another way, or what stands there is not the same for all.
    """
    own, given = (
        {name: value for name, value in one.settings().items() if name not in OWN}
        for one in (task, train)
    )
    own["prompt"], given["prompt"] = task.template, train.template
    for name, value in own.items():
        if given.get(name) != value:
            raise InputError(
                f"`train` is not asked as {task.name} is: its {name} is {given.get(name)!r}, and "
                f"should be {value!r}; load both with the same settings"
            )
    before = {(one.description, one.shots) for one in task.examples}
    if not task.shots and len(before) > 1:
        return train  # a subject's description, say, which a train split has too
    if len(before) > 1:
        raise InputError(
            f"`shots` of {task.name} differ from question to question, so there are none to show "
            "before training examples; leave out `shots`"
        )
    ((description, shots),) = before
    dressed = (
        replace(one, description=one.description or description, shots=shots)
        for one in train.examples
    )
    return replace(train, examples=tuple(dressed))


def _shown(task: Task) -> list[Example]:
    """What is shown before questions, as examples, so that none of it is trained on."""
    shots = {shot for one in task.examples for shot in one.shots}
    return [Example("", shot.question, ("",), 0) for shot in shots]


def _check_enough(free: Sequence[Example], given: int, task: Task, *, is_part: bool) -> None:
    """Refuse to train on next to nothing.

    Raises:
        InputError: there are fewer than for a training set and a development set.
    """
    if len(free) >= SMALLEST_SET:
        return
    least = f"at least {2 * SMALLEST_SET} are needed, {SMALLEST_SET} of them for development"
    if is_part:
        raise InputError(
            f"{given} examples of {task.name} leave {len(free)} to train on beside the search set "
            f"and the held-out set, and {least}; lower `limit` or `held_out`, give `train` FILE, "
            "or give more examples"
        )
    raise InputError(
        f"of {given} examples to train on {len(free)} share no text and no passage with "
        f"{task.name}'s own, and {least}; give `train` with others"
    )
