"""The ledger: which searches have looked at which examples, on this machine.

Every look at a held-out set wears it out a little: who searches again and again until it pleases
has chosen by it. Examples are known by their content and the model that was asked, so that
renaming or reshuffling a file, or asking with another prompt, hides nothing, and what another model
was asked does not count. It knows only this machine and user.

A search has a place in the order of looks, which it keeps: run again, it is told what it was told
the first time, whoever has looked since. Rows of a ledger that kept no places and no models count
as looks before all others, of any model.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from telltale.support.files import sha256_of
from telltale.support.home import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

LOG = logging.getLogger(__name__)
Found = TypeVar("Found")
FILE = "ledger.sqlite"
# Looks at held-out and final sets; examples that were searched by; each search's place.
TABLES = (
    "looks (example TEXT, search TEXT, PRIMARY KEY (example, search)) WITHOUT ROWID",
    "searched (example TEXT, search TEXT, PRIMARY KEY (example, search)) WITHOUT ROWID",
    "places (search TEXT, examples TEXT, before INTEGER NOT NULL, "
    "PRIMARY KEY (search, examples)) WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True)
class Looks:
    """``before`` is how many other searches had looked at a set when this one first did."""

    before: int


@dataclass(frozen=True, slots=True)
class Seen:
    """How many of some examples were searched or held out, and by how many searches."""

    examples: int
    searches: int


def note_look(
    search: str,
    examples: Sequence[str],
    before: int | None = None,
    once_known_as: Sequence[str] = (),
) -> Looks | None:
    """Note that a search looks at held-out examples.

    Args:
        search: the search's identity; looking again with the same one is no other look.
        examples: every name that one of the examples is known by.
        before: what the search was told when it first looked, where a study remembers it.
        once_known_as: names that ledgers of old had for them, which are looked for only.

    Returns:
        How many other searches had looked at any of these examples when this one first did; None
        where the ledger cannot be kept, which is logged, and ``before`` is not given.
    """

    def noted(db: sqlite3.Connection) -> Looks:
        key = search, sha256_of(*sorted(set(examples)))
        place = db.execute("SELECT before FROM places WHERE search = ? AND examples = ?", key)
        known = place.fetchone()
        if before is not None:
            count = before
        elif known is not None:
            count = known[0]
        else:
            count = len(_searches(db, "looks", [*examples, *once_known_as]) - {search})
        db.execute("INSERT OR IGNORE INTO places VALUES (?, ?, ?)", (*key, count))
        _insert(db, "looks", search, examples)
        return Looks(count)

    found = _in_ledger(noted)
    return Looks(before) if found is None and before is not None else found


def note_searched(search: str, examples: Sequence[str]) -> None:
    """Note that a search chooses by examples, known by these names."""
    _in_ledger(lambda db: _insert(db, "searched", search, examples))


def seen_before(search: str, examples: Sequence[Collection[str]]) -> Seen | None:
    """How many examples other searches have searched by or held out.

    Args:
        search: the identity of the search that asks, which does not count.
        examples: for each, the names that it is known by.

    Returns:
        None where the ledger cannot be kept, which is logged.
    """

    def counted(db: sqlite3.Connection) -> Seen:
        by = [
            {one for table in ("looks", "searched") for one in _searches(db, table, names)}
            - {search}
            for names in examples
        ]
        return Seen(sum(map(bool, by)), len(set().union(*by)))

    return _in_ledger(counted) if _is_there() else Seen(0, 0)


def _searches(db: sqlite3.Connection, table: str, examples: Iterable[str]) -> set[str]:
    found = f"SELECT search FROM {table} WHERE example = ?"
    return {row[0] for example in examples for row in db.execute(found, (example,))}


def _insert(db: sqlite3.Connection, table: str, search: str, examples: Iterable[str]) -> None:
    db.executemany(
        f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", [(example, search) for example in examples]
    )


def _is_there() -> bool:
    """Whether there is a ledger, or something in its place: whoever only asks makes none."""
    try:
        return (data_dir() / FILE).exists()
    except OSError:
        return True


def _in_ledger(work: Callable[[sqlite3.Connection], Found]) -> Found | None:
    """What work finds in the ledger, in one transaction that no other process is beside."""
    try:
        folder = data_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / FILE)) as db, db:
            db.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            return work(db)
    except (OSError, sqlite3.Error) as problem:
        LOG.warning("The ledger of looks at held-out sets cannot be kept: %s", problem)
        return None
