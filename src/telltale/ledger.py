"""The ledger: which searches have looked at which held-out examples, on this machine.

Every look at a held-out set wears it out a little: who searches again and again until it pleases
has chosen by it. Looks are counted by content, so that renaming or reshuffling a file hides
nothing. It knows only this machine and user.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from telltale.home import data_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)


def note_look(search: str, examples: Sequence[str]) -> int | None:
    """Note that a search looks at held-out examples.

    Args:
        search: the search's identity; looking twice with the same one counts once.
        examples: the digests of the examples.

    Returns:
        How many other searches have looked at any of these examples before; None where the ledger
        cannot be kept, which is logged.
    """
    try:
        folder = data_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / "ledger.sqlite")) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS looks (example TEXT, search TEXT, "
                "PRIMARY KEY (example, search)) WITHOUT ROWID"
            )
            others = {
                row[0]
                for example in examples
                for row in db.execute("SELECT search FROM looks WHERE example = ?", (example,))
            }
            db.executemany(
                "INSERT OR IGNORE INTO looks VALUES (?, ?)",
                [(example, search) for example in examples],
            )
            return len(others - {search})
    except (OSError, sqlite3.Error) as problem:
        LOG.warning("The ledger of looks at held-out sets cannot be kept: %s", problem)
        return None
