"""What can go wrong outside of telltale: it is told in one line, and nothing measured is lost."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from telltale.cli.commands import main
from telltale.study.records import FILE, SEALED, open_records
from telltale.support.files import sha256_of_file, write_json
from tests.studies import result_of, search_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def complaint(err: str) -> str:
    """The one line of complaint; before it there may be a line a round."""
    (line,) = [line for line in err.splitlines() if line.startswith("telltale: ")]
    assert "Traceback" not in err
    return line


def search_command(model: Path, out: Path) -> list[str]:
    return search_arguments(model, out, "--max-removed", "3")


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nothing disturbed; tests do not change it."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    with pytest.raises(SystemExit) as ended:
        main(search_command(tiny_folder, folder))
    assert ended.value.code == 0
    return folder


def measurements(folder: Path) -> int:
    with open_records(folder, write=False) as records:
        count = records._db.execute("SELECT COUNT(*) FROM measurements").fetchone()[0]
    return int(count)


# A full disk

# Commands run one after another in forked processes of a program that has imported what is slow.
# Prints, for each, its status and what it wrote to standard error.
RUNNER = """
import io, json, os, resource, subprocess, sys
import torch, telltale.study.run, telltale.models.load
from telltale.cli.commands import main
from tests.test_failures import measurements
torch.set_num_threads(1)

def attempt(arguments, limit=None):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writing, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        status = 99
        try:
            main(arguments)
        except SystemExit as ended:
            status = ended.code
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        err = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, err]), flush=True)

def mount(folder, size, *options):
    what = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "none", folder]
    subprocess.run(what, check=True)
"""


def run_program(program: str, *arguments: str, own_mounts: bool = False) -> list[Any]:
    """Run a program that begins with `RUNNER`; the lines it printed."""
    command = [sys.executable, "-W", "ignore", "-c", RUNNER + program, *arguments]
    if own_mounts:
        command = ["unshare", "--user", "--map-root-user", "--mount", *command]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A folder over which a program in a mount namespace of its own may mount a small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    probe = f"mount -t tmpfs -o size=64k none {folder}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", probe]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"no disk can be mounted here: {problem}")
    return folder


@pytest.mark.slow
def test_a_full_disk_is_told_and_with_room_the_same_command_goes_on(
    finished: Path, tiny_folder: Path, tmp_path: Path, small_disk: Path
) -> None:
    size = (finished / FILE).stat().st_size
    program = """
import shutil
disk, small, copy = sys.argv[1:4]
arguments = sys.argv[4:]
mount(disk, small)
attempt(arguments)
print(measurements(__import__("pathlib").Path(disk, "study")))
attempt(["show", disk + "/study"])
attempt(arguments)
mount(disk, "64m", "remount")
attempt(arguments)
shutil.copytree(disk + "/study", copy)
"""
    arguments = search_command(tiny_folder, small_disk / "study")
    first, kept, shown, again, last = run_program(
        program,
        *(str(small_disk), str(size * 6 // 10), str(tmp_path / "copy"), *arguments),
        own_mounts=True,
    )
    for status, err in (first, again):
        assert status == 1
        line = complaint(err)
        assert "disk is full" in line or "No space left" in line
        assert str(small_disk) in line
        assert "make room" in line
    assert 0 < kept < measurements(finished)
    assert shown == [0, ""]
    assert last[0] == 0, last
    assert result_of(tmp_path / "copy") == result_of(finished)
    assert measurements(tmp_path / "copy") == measurements(finished)


def test_a_limit_on_file_sizes_is_told_and_without_it_the_same_command_goes_on(
    finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    size = (finished / FILE).stat().st_size
    result = (finished / "result.json").stat().st_size
    program = """
arguments = sys.argv[3:]
attempt(arguments, int(sys.argv[1]))
print(measurements(__import__("pathlib").Path(arguments[4])))
attempt(arguments)
attempt(["eval", arguments[1], "capitals", "--out", sys.argv[2]], 3000)
"""
    arguments = search_command(tiny_folder, tmp_path / "study")
    first, kept, last, evaluated = run_program(
        program, str(size * 6 // 10), str(tmp_path / "e.json"), *arguments
    )
    assert result < size * 6 // 10  # so it is the study's file that cannot grow
    assert first[0] == 1
    assert "ulimit -f" in complaint(first[1])
    assert str(tmp_path / "study" / FILE) in complaint(first[1])
    assert 0 < kept < measurements(finished)
    assert last[0] == 0, last
    assert result_of(tmp_path / "study") == result_of(finished)
    assert evaluated[0] == 1
    assert complaint(evaluated[1]).startswith(f"telltale: {tmp_path / 'e.json'}: File too large")
    assert not (tmp_path / "e.json").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_result_that_cannot_be_written_is_told_and_written_the_next_time(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    finished: Path,
    tiny_folder: Path,
    tmp_path: Path,
    code: int,
) -> None:
    folder = shutil.copytree(finished, tmp_path / "study")
    (folder / "result.json").write_text("old")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr("telltale.support.files.os.fsync", full)
        status, _, err = run(capsys, *search_command(tiny_folder, folder))
    assert status == 1
    assert complaint(err).startswith(f"telltale: {folder / 'result.json'}: {os.strerror(code)}; ")
    assert "make room" in err
    assert (folder / "result.json").read_text() == "old"
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock",
        "report.html",
        "result.json",
        FILE,
    ]
    assert run(capsys, *search_command(tiny_folder, folder))[0] == 0
    assert result_of(folder) == result_of(finished)


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), "a.bin: No space.*make room"),
        (OSError(errno.EFBIG, "File too large", "a"), "ulimit -f"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "change its permissions"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "change its permissions"),
        (OSError(errno.EIO, "Input/output error", "a\nb"), "check the file and its disk"),
        (OSError("said without a number"), "said without a number; check"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_its_remedy(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    problem: Exception,
    remedy: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr("telltale.api.evaluate", fail)
    status, out, err = run(capsys, "eval", "m", "capitals")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert re.search(remedy, complaint(err))
    assert "report" not in err
    monkeypatch.setenv("TELLTALE_DEBUG", "1")
    with pytest.raises(type(problem)):
        main(["eval", "m", "capitals"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_takes_nothing_is_one_line() -> None:
    command = f"{sys.executable} -m telltale tasks > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert complaint(done.stderr).startswith("telltale: No space left on device; make room")


# A damaged study


def refused(
    capsys: pytest.CaptureFixture[str], model: Path, folder: Path, *, search: bool = True
) -> list[str]:
    """The lines with which all commands refuse a study, leaving its file as it was."""
    before = sha256_of_file(folder / FILE)
    commands = [["show", str(folder)], ["export", str(folder), "--to", str(folder.parent / "x")]]
    if search:
        commands.append(search_command(model, folder))
    lines = []
    for command in commands:
        status, out, err = run(capsys, *command)
        assert (status, out) == (1, ""), (command, err)
        assert len(err.splitlines()) == 1
        lines.append(complaint(err))
        assert sha256_of_file(folder / FILE) == before
    assert not (folder.parent / "x").exists()
    return lines


def test_a_study_cut_anywhere_is_refused_and_left_as_it_is(
    capsys: pytest.CaptureFixture[str], finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "study")
    assert run(capsys, "show", str(folder))[0] == 0
    whole = (folder / FILE).read_bytes()
    for length in (50, 4096, len(whole) // 2 // 4096 * 4096, len(whole) // 2 + 7, len(whole) - 1):
        (folder / FILE).write_bytes(whole[:length])
        for line in refused(capsys, tiny_folder, folder):
            assert "move the folder away" in line
            assert str(folder / FILE) in line


def test_an_emptied_study_is_told_to_those_who_read_and_begun_anew_by_a_search(
    capsys: pytest.CaptureFixture[str], finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "study")
    (folder / FILE).write_bytes(b"")
    for line in refused(capsys, tiny_folder, folder, search=False):
        assert "is empty" in line
    assert run(capsys, *search_command(tiny_folder, folder))[0] == 0
    assert result_of(folder) == result_of(finished)


def test_bytes_overwritten_in_the_middle_are_noticed_wherever_they_are(
    capsys: pytest.CaptureFixture[str], finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "study")
    status, shown, _ = run(capsys, "show", str(folder))
    assert status == 0
    whole = (folder / FILE).read_bytes()
    source = random.Random(3)
    noticed = 0
    for place in [len(whole) // 2, *(source.randrange(len(whole) - 64) for _ in range(40))]:
        damaged = bytearray(whole)
        damaged[place : place + 64] = source.randbytes(64)
        (folder / FILE).write_bytes(damaged)
        status, out, err = run(capsys, "show", str(folder))
        # What SQLite has left free may hold anything.
        assert (status, out, err) == (0, shown, "") or status in (1, 2), (place, err)
        if status:
            noticed += 1
            assert len(err.splitlines()) == 1
            complaint(err)
            assert (folder / FILE).read_bytes() == damaged
    assert noticed >= 20


def test_a_single_changed_number_is_noticed(
    capsys: pytest.CaptureFixture[str], finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    changes = {
        "measurements": "outcomes = zeroblob(length(outcomes))",
        "facts": "value = replace(value, '0', '1')",
        "runs": "layer_tokens = layer_tokens + 1",
        "speeds": "tokens_per_second = tokens_per_second * 2",
        "examples": "context = context || ' '",
    }
    assert set(changes) | {"splits"} == set(SEALED)
    for table, change in changes.items():
        folder = shutil.copytree(finished, tmp_path / table)
        where = (
            "rowid = 1"
            if table != "measurements"
            else "batch = (SELECT MIN(batch) FROM measurements)"
        )
        if table == "facts":
            where = "name = 'result'"
        db = sqlite3.connect(folder / FILE)
        with db:
            assert db.execute(f"UPDATE {table} SET {change} WHERE {where}").rowcount
        db.close()
        for line in refused(capsys, tiny_folder, folder, search=table == "measurements"):
            assert "the file is damaged; it was left as it is" in line


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / FILE).write_text("my thesis, in a file of an unlucky name " * 100)
    refused(capsys, tiny_folder, folder)


# Killed inside a write

# Forks, at each line read, a process that keeps measurements until it is killed, and says by its
# lines who it is and what it has kept. Imports no torch.
KEEPER = """
import os, sys
from pathlib import Path
from telltale.measure import Batch, ChoiceOutcome, Measurement, Outcome
from telltale.paths import LayerPath
import telltale.study.records
from telltale.study.records import open_records
assert "torch" not in sys.modules
folder, path = Path(sys.argv[1]), LayerPath.whole(3)
choices = tuple(ChoiceOutcome(-1.5, 3, 4, 5) for _ in range(4))
outcomes = tuple(Outcome(i, choices, 0, 1.0) for i in range(1000))
packed = telltale.study.records.pack_outcomes(outcomes)
# so that most of the time goes into writing
telltale.study.records.pack_outcomes = lambda _: packed

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

for line in sys.stdin:
    number = int(line)
    child = os.fork()
    if not child:
        with open_records(folder, write=True) as records:
            records.start_run({})
            records.begin()
            say("open", os.getpid())
            while True:
                batch = Batch((number,))
                records.keep(Measurement(batch, path, outcomes, 1), counted=True)
                say("kept", number)
                number += 1
    os.waitpid(child, 0)
    say("dead", 0)
"""


def test_a_kill_inside_a_write_loses_at_most_the_measurement_in_flight(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        _kill_often(keeper, folder)
        keeper.communicate(timeout=10)  # which closes its input, and it ends
        assert keeper.returncode == 0
    finally:
        keeper.kill()
        keeper.wait()


def _kill_often(keeper: subprocess.Popen[str], folder: Path) -> None:
    from telltale.measure import Batch
    from telltale.paths import LayerPath

    journal = folder / f"{FILE}-journal"
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    source = random.Random(11)
    following, inside, rolled_back, kept = 0, 0, 0, set[int]()
    path = LayerPath.whole(3)
    deadline = time.monotonic() + 60
    rounds = 0
    while (rolled_back < 5 or inside < 10 or rounds < 20) and time.monotonic() < deadline:
        rounds += 1
        keeper.stdin.write(f"{following}\n")
        word, pid = keeper.stdout.readline().split()
        assert word == "open"
        time.sleep(source.uniform(0.001, 0.02))
        os.kill(int(pid), signal.SIGKILL)
        while (said := keeper.stdout.readline().split())[0] == "kept":
            kept.add(int(said[1]))
        inside += journal.exists()
        # Only a journal that is complete is one to roll back; before, nothing else was written.
        complete = journal.exists() and journal.read_bytes()[:1] not in (b"", b"\0")
        rolled_back += complete
        with open_records(folder, write=False) as records:
            assert not (complete and journal.exists())
            assert records._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = records._db.execute("SELECT COUNT(*) FROM measurements").fetchone()[0]
            newest = max(kept, default=-1)
            assert kept == set(range(newest + 1))
            assert rows in (len(kept), len(kept) + 1)  # one may be kept and not yet told
            for number in {0, newest} & kept:
                assert len(records.measured(Batch((number,)), path) or ()) == 1000
        kept |= set(range(rows))
        following = rows
    told = f"of {rounds} kills {inside} were inside a write, {rolled_back} to be rolled back"
    assert inside >= 10 and rolled_back >= 5, told  # noqa: PT018 - one statement of both


def test_a_journal_left_over_is_rolled_back(
    capsys: pytest.CaptureFixture[str], finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """A copy of a study taken inside a write is the study before that write."""
    folder = shutil.copytree(finished, tmp_path / "study")
    db = sqlite3.connect(folder / FILE, isolation_level=None)
    db.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the commit
    db.execute("BEGIN")
    db.execute("UPDATE measurements SET outcomes = zeroblob(length(outcomes) * 3)")
    db.execute("DELETE FROM facts")
    torn = shutil.copytree(folder, tmp_path / "torn")
    db.execute("ROLLBACK")
    db.close()
    journal = torn / f"{FILE}-journal"
    assert journal.stat().st_size > 0
    without = shutil.copytree(torn, tmp_path / "without")
    (without / journal.name).unlink()
    assert run(capsys, "show", str(without))[0] == 1  # it is the journal that saves it
    status, shown, _ = run(capsys, "show", str(torn))
    assert status == 0
    assert shown.replace(str(torn), str(finished)) == run(capsys, "show", str(finished))[1]
    assert not journal.exists()
    assert measurements(torn) == measurements(finished)
    assert run(capsys, *search_command(tiny_folder, torn))[0] == 0
    assert result_of(torn) == result_of(finished)


# Not allowed


def as_nobody(work: Callable[[], None]) -> tuple[int, str]:
    """Run ``work`` in a process that permissions bind, as root they do not; its status, stderr."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 99
        try:
            os.close(reading)
            sys.stderr = os.fdopen(writing, "w")
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, NOBODY)
            work()
        except SystemExit as ended:
            status = int(ended.code or 0)
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        err = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), err


@pytest.fixture
def place(tiny_folder: Path, finished: Path) -> Iterator[Path]:
    """A folder of what commands read and write, in a place that is open to every user."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    folder.chmod(0o755)
    shutil.copytree(tiny_folder, folder / "model")
    shutil.copytree(finished, folder / "study")
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    row = {"question": "q", "choices": ["a", "b"], "answer": 0}
    (folder / "data.jsonl").write_text(f"{json.dumps(row)}\n" * 10)
    yield folder
    for inner in ("out", "model"):
        (folder / inner).chmod(0o755)
    shutil.rmtree(folder)


def unheard(command: list[str]) -> None:
    """A command of which nobody sees what it prints."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    main(command)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("denied", "command"),
    [
        ("out", ["search", "model", "capitals", "--out", "out"]),
        ("out", ["search", "model", "capitals", "--out", "out/new"]),
        ("model", ["search", "model", "capitals", "--out", "out"]),
        ("model/config.json", ["search", "model", "capitals", "--out", "out"]),
        ("model/model.safetensors", ["search", "model", "capitals", "--out", "out"]),
        ("data.jsonl", ["search", "model", "--data", "data.jsonl", "--out", "out"]),
        ("study/study.sqlite", ["show", "study"]),
    ],
)
def test_what_may_not_be_read_or_written_is_named_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, denied: str, command: list[str]
) -> None:
    monkeypatch.chdir(place)
    (place / denied).chmod(0)
    status, err = as_nobody(lambda: unheard(command))
    assert status == 2, err
    assert len(err.splitlines()) == 1
    assert re.search("Permission denied|is not readable", complaint(err))
    assert denied in err


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_nothing_is_denied_where_all_may_be_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert as_nobody(lambda: unheard(["show", "study"])) == (0, "")


def test_a_file_that_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    (tmp_path / "b.json").mkdir()
    with pytest.raises(OSError, match=r"b\.json") as caught:
        write_json(tmp_path / "b.json", 1)
    assert caught.value.filename == str(tmp_path / "b.json")
    with pytest.raises(FileNotFoundError, match=r"no/c\.json"):
        write_json(tmp_path / "no" / "c.json", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]
