"""A study's file: what was asked, every outcome, what it cost. Reads and writes; runs nothing.

One SQLite database, ``study.sqlite``, in the study's folder. Each measurement is one row, committed
as it comes, so a process that dies loses the one it was at. Only one process may write.

Every row bears a seal, a checksum of its values, and all of them are checked when a file is opened:
SQLite notices a damaged structure, but not a changed number.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
import zlib
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from telltale.errors import InputError, TelltaleError
from telltale.measure import Batch, Measurement, pack_outcomes, unpack_outcomes
from telltale.support.files import is_full_disk
from telltale.tasks.sets import role_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from telltale.measure import Outcome
    from telltale.paths import LayerPath
    from telltale.tasks.sets import Role

FILE = "study.sqlite"
LOCK = ".lock"
FORMAT = 5
OLDER = (4,)  # formats that are read, but not gone on with: their sets were drawn otherwise
WRITER_PATIENCE_S = 0.3  # while a reader tries whether someone writes
PATIENCE_S = 60  # while another process checks the file or keeps a measurement
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE examples (
    position INTEGER PRIMARY KEY, role TEXT NOT NULL, id TEXT NOT NULL, context TEXT NOT NULL,
    choices TEXT NOT NULL, answer INTEGER NOT NULL, cluster INTEGER NOT NULL, seal INTEGER NOT NULL
);
CREATE TABLE measurements (
    batch TEXT NOT NULL, removed TEXT NOT NULL, outcomes BLOB NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (batch, removed)
);
CREATE TABLE splits (batch TEXT PRIMARY KEY, halves TEXT NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE speeds (
    removed TEXT PRIMARY KEY, tokens_per_second REAL NOT NULL, seal INTEGER NOT NULL
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, versions TEXT NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0, layer_tokens INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0, seal INTEGER NOT NULL DEFAULT 0
);
"""
SEALED = {
    "facts": "name, value",
    "examples": "position, role, id, context, choices, answer, cluster",
    "measurements": "batch, removed, outcomes",
    "splits": "batch, halves",
    "speeds": "removed, tokens_per_second",
    "runs": "id, versions, begun, layer_tokens, seconds",
}
SEAL_RUN = f"UPDATE runs SET seal = seal_of({SEALED['runs']}) WHERE id = ?"
ALONE = "layer_tokens_alone"  # a fact; see `Cost`
KEPT = "what was measured is kept, and the same command goes on"
# What SQLite says, and what to do about it.
REMEDIES = {
    sqlite3.SQLITE_FULL: f"the disk is full; make room: {KEPT}",
    sqlite3.SQLITE_IOERR: "the disk is full or failing, or files may not become so large (see "
    f"ulimit -f); make room: {KEPT}",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened or none be made beside it; check the "
    f"permissions of its folder and the room on its disk: {KEPT}",
    sqlite3.SQLITE_READONLY: f"the file may not be written; change its permissions: {KEPT}",
    sqlite3.SQLITE_BUSY: f"another program holds the file; wait for it: {KEPT}",
}
DAMAGED = (
    "the file is damaged; it was left as it is: put back a copy of it, or move the folder away and "
    "start anew"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What all runs of a study have spent on its search set.

    That includes the guards'. ``batches_begun`` counts batch and path together, also one that a
    killed run did not finish. ``layer_tokens_alone`` is what the same measurements would have taken
    if they had shared nothing; None of a study that was begun before this was counted.
    """

    batches_begun: int
    layer_tokens: int
    seconds: float
    layer_tokens_alone: int | None = None


class StoredExample(NamedTuple):
    """An example as the file has it, for whoever reads the study without its data.

    ``role`` is the set it is in. Examples of one set that share a context or a passage have the
    same ``cluster``.
    """

    position: int
    role: Role
    id: str
    context: str
    choices: tuple[str, ...]
    answer: int
    cluster: int


class Records:
    """An open study file. Use `open_records` to get one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._run: int | None = None
        self._clock = 0.0

    # What was asked, and what was frozen

    def fact(self, name: str) -> Any:
        """A value that was set with `set_facts`, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Set named JSON values, all or none."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?1, ?2, seal_of(?1, ?2))",
                [(name, json.dumps(value)) for name, value in facts.items()],
            )

    def set_examples(self, examples: Iterable[StoredExample]) -> None:
        """Keep the text of every example."""
        rows = [
            (one.position, str(one.role), *one[2:4], json.dumps(one.choices), *one[5:])
            for one in examples
        ]
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO examples VALUES (?, ?, ?, ?, ?, ?, ?, 0)", rows
            )
            self._db.execute(f"UPDATE examples SET seal = seal_of({SEALED['examples']})")

    def examples(self) -> list[StoredExample]:
        """Every example that was kept, by its position."""
        rows = self._db.execute(f"SELECT {SEALED['examples']} FROM examples ORDER BY position")
        return [
            StoredExample(
                position, role_from(role), name, context, tuple(json.loads(choices)), *rest
            )
            for position, role, name, context, choices, *rest in rows
        ]

    # Measurements

    def measured(
        self, batch: Batch, path: LayerPath, variant: str = ""
    ) -> tuple[Outcome, ...] | None:
        """The outcomes of a batch on a path of a variant of the model, if they were measured."""
        row = self._db.execute(
            "SELECT outcomes FROM measurements WHERE batch = ? AND removed = ?",
            (batch.id, key_of(path, variant)),
        ).fetchone()
        return None if row is None else unpack_outcomes(row[0])

    def begin(self) -> None:
        """Note that a measurement of the search set begins."""
        self._clock = time.monotonic()
        with self._db:
            self._begin_one(1)

    def keep(
        self, measurement: Measurement, variant: str = "", *, counted: bool, alone: int = 0
    ) -> None:
        """Keep a measurement of a variant; if it is counted as cost, the next one begins.

        ``alone`` are the layer tokens that it would have taken by itself.
        """
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO measurements VALUES (?1, ?2, ?3, seal_of(?1, ?2, ?3))",
                (
                    measurement.batch.id,
                    key_of(measurement.path, variant),
                    pack_outcomes(measurement.outcomes),
                ),
            )
            if counted:
                now = time.monotonic()
                self._db.execute(
                    "UPDATE runs SET layer_tokens = layer_tokens + ?, seconds = seconds + ? "
                    "WHERE id = ?",
                    (measurement.layer_tokens, now - self._clock, self._run),
                )
                self._db.execute(
                    "UPDATE facts SET value = CAST(CAST(value AS INTEGER) + ? AS TEXT) "
                    "WHERE name = ?",
                    (alone, ALONE),
                )
                self._db.execute(
                    f"UPDATE facts SET seal = seal_of({SEALED['facts']}) WHERE name = ?", (ALONE,)
                )
                self._clock = now
                self._begin_one(1)

    def end(self) -> None:
        """Note that no further measurement begins; once the file is closed, nothing is noted."""
        with suppress(sqlite3.ProgrammingError), self._db:
            self._begin_one(-1)

    def _begin_one(self, by: int) -> None:
        self._db.execute("UPDATE runs SET begun = begun + ? WHERE id = ?", (by, self._run))
        self._db.execute(SEAL_RUN, (self._run,))

    def halves(self, batch: Batch) -> tuple[Batch, ...]:
        """The batches that stand for this one: itself, or what it was split into."""
        row = self._db.execute("SELECT halves FROM splits WHERE batch = ?", (batch.id,)).fetchone()
        if row is None:
            return (batch,)
        return tuple(
            final for half in json.loads(row[0]) for final in self.halves(Batch(tuple(half)))
        )

    def is_measured(self, batch: Batch) -> bool:
        """Whether the outcomes of a batch are known on any path."""
        found = self._db.execute(
            "SELECT 1 FROM measurements WHERE batch = ? LIMIT 1", (batch.id,)
        ).fetchone()
        return found is not None

    def split(self, batch: Batch) -> None:
        """Let two halves stand for a batch from now on."""
        with self._db:
            halves = json.dumps([half.examples for half in batch.halves()])
            self._db.execute(
                "INSERT OR REPLACE INTO splits VALUES (?1, ?2, seal_of(?1, ?2))", (batch.id, halves)
            )

    # Speeds and cost

    def speed(self, path: LayerPath) -> float | None:
        """Tokens read per second on a path, if it was timed."""
        row = self._db.execute(
            "SELECT tokens_per_second FROM speeds WHERE removed = ?", (key_of(path),)
        ).fetchone()
        return None if row is None else float(row[0])

    def set_speeds(self, speeds: Mapping[LayerPath, float]) -> None:
        """Keep speeds that were timed together, in place of those before."""
        with self._db:
            self._db.execute("DELETE FROM speeds")
            self._db.executemany(
                "INSERT INTO speeds VALUES (?1, ?2, seal_of(?1, ?2))",
                [(key_of(path), float(speed)) for path, speed in speeds.items()],
            )

    def start_run(self, versions: Mapping[str, str]) -> None:
        """Note that a run with these library versions starts."""
        with self._db:
            self._run = self._db.execute(
                "INSERT INTO runs (versions) VALUES (?)", (json.dumps(dict(versions)),)
            ).lastrowid
            self._db.execute(SEAL_RUN, (self._run,))

    def versions(self) -> list[dict[str, str]]:
        """The library versions of every run so far, oldest first."""
        rows = self._db.execute("SELECT versions FROM runs ORDER BY id")
        return [json.loads(row[0]) for row in rows]

    def cost(self) -> Cost:
        """What all runs have spent."""
        row = self._db.execute("SELECT SUM(begun), SUM(layer_tokens), SUM(seconds) FROM runs")
        begun, layer_tokens, seconds = row.fetchone()
        return Cost(begun or 0, layer_tokens or 0, seconds or 0.0, self.fact(ALONE))


def key_of(path: LayerPath, variant: str = "") -> str:
    """A model's name in the file: its variant and the layers removed, such as ``tuned-1:3,17``.

    Args:
        path: the layers it has.
        variant: which weights they have; "" for the model's own, which are not named.
    """
    removed = ",".join(map(str, path.removed))
    return f"{variant}:{removed}" if variant else removed


@contextmanager
def open_records(folder: Path, *, write: bool, is_taken: bool = False) -> Iterator[Records]:
    """Open a study's file.

    Args:
        folder: the study's folder.
        write: make the folder and the file where they are not there, and keep other writers away.
        is_taken: the folder is taken already, by `only_writer`.

    Raises:
        InputError: the folder is no study's, may not be read or written, or another process
            writes to it.
        TelltaleError: the file is damaged, or cannot be read or written.
    """
    guards = ExitStack()
    if write:
        if not is_taken:
            guards.enter_context(only_writer(folder))
        guards.enter_context(_discarded_unless_begun(folder))
    elif not _exists(folder / FILE):
        if is_at_work(folder):
            raise InputError(f"a run is at work in {folder} and has measured nothing yet; wait")
        raise InputError(f"{folder} is not a study: it holds no {FILE}; give a search's `out`")
    else:
        _check_permissions(folder, write=False)
    with guards, _told_in_one_line(folder / FILE):
        connection = sqlite3.connect(folder / FILE, timeout=PATIENCE_S)
        try:
            connection.create_function("seal_of", -1, _seal_of, deterministic=True)
            _prepare(connection, folder, write=write)
            yield Records(connection)
        finally:
            connection.close()


@contextmanager
def _told_in_one_line(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as problem:
        code = getattr(problem, "sqlite_errorcode", None) or 0
        remedy = REMEDIES.get(code & 0xFF, DAMAGED)  # the low byte is the kind
        raise TelltaleError(f"{file}: {problem}: {remedy}") from problem


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other writers out of a study's folder, which is made where it is not there.

    Raises:
        InputError: the folder is no study's or of an older telltale, may not be written, or another
            process writes to it.
    """
    is_new = not _exists(folder)
    check_study_folder(folder)
    _make_folder(folder)
    _check_permissions(folder, write=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=WRITER_PATIENCE_S)
    except Timeout:
        raise _at_work(folder) from None
    try:
        _check_format_of(folder)
        yield
    finally:
        lock.release()
        # A folder made for a study that never began goes with it.
        if not (folder / FILE).exists():
            (folder / LOCK).unlink(missing_ok=True)
            if is_new:
                folder.rmdir()


def check_writable(folder: Path) -> None:
    """Refuse what `only_writer` refuses, and make nothing.

    Raises:
        InputError: see there.
    """
    check_study_folder(folder)
    if not _exists(folder):
        above = next(one for one in folder.absolute().parents if one.exists())
        if not above.is_dir():
            raise _unmade(folder, os.strerror(errno.ENOTDIR))
        if not os.access(above, os.W_OK | os.X_OK):
            raise _unmade(folder, os.strerror(errno.EACCES))
        return
    _check_permissions(folder, write=True)
    if is_at_work(folder):
        raise _at_work(folder)
    _check_format_of(folder)


def is_at_work(folder: Path) -> bool:
    """Whether a process writes to a study; False where its lock may not be tried."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def check_study_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than a study.

    Raises:
        InputError: it is a file, holds other files, or may not be read.
    """
    if _exists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the study")
    if not _exists(folder / FILE) and folder.is_dir():
        try:
            others = [entry.name for entry in folder.iterdir() if entry.name != LOCK]
        except OSError as problem:
            raise _unusable(folder, problem) from None
        if others:
            raise InputError(f"{folder} is not empty and not a study; give another folder")


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as problem:
        raise _unusable(path, problem) from None
    return True


def _check_permissions(folder: Path, *, write: bool) -> None:
    needed = os.R_OK | (os.W_OK if write else 0)
    for path in (folder, folder / FILE):
        if path.exists() and not os.access(path, needed):
            problem = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            raise _unusable(path, problem)


def _at_work(folder: Path) -> InputError:
    return InputError(f"another run is at work in {folder}; wait for it or stop it")


def _unmade(folder: Path, reason: str | None) -> InputError:
    return InputError(f"cannot make the folder {folder}: {reason}; give another folder")


def _unusable(path: Path, problem: OSError) -> InputError:
    return InputError(
        f"cannot use {path} for a study: {problem.strerror}; change its permissions or give "
        "another folder"
    )


@contextmanager
def _discarded_unless_begun(folder: Path) -> Iterator[None]:
    """Leave no file behind where a study ends in an error before its ``plan`` is set.

    Only within the writer's lock: another run's file, however new, is never removed.
    """
    had_file = (folder / FILE).exists()
    try:
        yield
    except TelltaleError:
        if not had_file and not has_begun(folder):
            (folder / FILE).unlink(missing_ok=True)
        raise


def has_begun(folder: Path) -> bool:
    """Whether a study's ``plan`` is set; also where its file cannot be read, which is told then."""
    if not (folder / FILE).is_file():
        return False
    try:
        with closing(sqlite3.connect(folder / FILE)) as db:
            return db.execute("SELECT 1 FROM facts WHERE name = 'plan'").fetchone() is not None
    except sqlite3.Error:
        return True  # what cannot be read is not ours to remove


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        if is_full_disk(problem):
            raise
        raise _unmade(folder, problem.strerror) from None


def _prepare(connection: sqlite3.Connection, folder: Path, *, write: bool) -> None:
    """Make the tables of a new file, or check those of an old one."""
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if not tables and not write:
        raise TelltaleError(
            f"{folder / FILE} is empty: the search was stopped before it began, or the file was "
            "cut off; give the search's command again"
        )
    if not tables:
        connection.executescript(
            f"BEGIN; {SCHEMA} INSERT INTO facts VALUES "
            f"('format', '{FORMAT}', seal_of('format', '{FORMAT}')); COMMIT;"
        )
    _check_format(connection, folder, write=write)
    _check_undamaged(connection, folder / FILE)


def _check_format(connection: sqlite3.Connection, folder: Path, *, write: bool) -> None:
    found = connection.execute("SELECT value FROM facts WHERE name = 'format'").fetchone()
    known = found and found[0]
    if write and known in map(str, OLDER):
        raise InputError(
            f"{folder} is a study of an older telltale (format {known}), whose sets were drawn "
            "otherwise, so it is only read now, by show, report and export; give another `out`"
        )
    if known not in map(str, (FORMAT, *OLDER)):
        raise InputError(
            f"{folder} is a study of another telltale (format {known}, this one "
            f"reads {FORMAT}); use that version, or another folder"
        )


def _check_format_of(folder: Path) -> None:
    """Check the format of a folder's study, if it holds one."""
    if (folder / FILE).exists():
        # What is damaged, or was made a moment before a crash, is told of when it is read.
        with suppress(sqlite3.Error), closing(sqlite3.connect(folder / FILE)) as db:
            _check_format(db, folder, write=True)


def _check_undamaged(connection: sqlite3.Connection, file: Path) -> None:
    """Read the whole file: its size, SQLite's structure, then every row's seal."""
    pages, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    # SQLite reads zeros where a page is cut off, and says nothing.
    is_cut = file.stat().st_size < pages * size
    structure = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if is_cut or structure != "ok":
        raise TelltaleError(f"{file}: {DAMAGED}")
    for table, columns in SEALED.items():
        wrong = f"SELECT COUNT(*) FROM {table} WHERE seal IS NOT seal_of({columns})"
        if connection.execute(wrong).fetchone()[0]:
            raise TelltaleError(f"{file}: {DAMAGED}")


def _seal_of(*values: object) -> int:
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))
