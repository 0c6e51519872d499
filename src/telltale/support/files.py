"""Writing files atomically, and hashing them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from telltale.errors import DataError, InputError
from telltale.support.plain import is_harmless

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, none left to this user, a limit
_NOT_ASCII = re.compile(r"[^\n -~]")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically.

    Raises:
        OSError: it cannot be written; names ``path``.
    """
    fresh: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".telltale-")
        fresh = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        make_readable(fresh)
        fresh.replace(path)
    except OSError as problem:
        # A full disk names no file, and the file that was half written is not what a person knows.
        raise OSError(problem.errno, problem.strerror, str(path)) from problem
    finally:
        if fresh is not None:
            fresh.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """A file's text, which must be UTF-8, with or without a byte-order mark.

    Raises:
        InputError: the file cannot be read.
        DataError: a byte is not UTF-8; names its line.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise InputError(f"cannot read {path}: {problem.strerror or problem}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise DataError(
            f"{path.name}, line {line}",
            f"byte 0x{data[problem.start]:02x} is not UTF-8; convert the file to UTF-8",
        ) from None


def read_versioned(path: Path, version: int, what: str, command: str) -> dict[str, Any]:
    """A JSON document of our own that has a version.

    Args:
        path: the file.
        version: the only one that can be read.
        what: what it holds, in a word.
        command: what writes it.

    Raises:
        InputError: the file cannot be read, holds something else, or is of another version.
        DataError: a byte is not UTF-8.
    """
    again = f"give the command of {command} again"
    try:
        document: dict[str, Any] = json.loads(read_text(path))
        found = document["version"]
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path} is no {what}, or is damaged; {again}") from None
    if found != version:
        raise InputError(
            f"{path} is of version {found}, and this telltale reads version {version}; {again}"
        )
    return document


def is_full_disk(problem: OSError) -> bool:
    """Whether an error means that the disk, a quota or a size limit is reached."""
    return problem.errno in FULL_DISK


def full_disk(problem: Exception, path: Path) -> OSError | None:
    """The error of a full disk while writing ``path``, or None if it is another error.

    safetensors tells it in words only, with the system's number at the end.
    """
    number = re.search(r"\(os error (\d+)\)", str(problem))
    if isinstance(problem, OSError):
        found = problem
    elif number is not None:
        found = OSError(int(number[1]), os.strerror(int(number[1])), str(path))
    else:
        return None
    return found if is_full_disk(found) else None


def make_readable(path: Path) -> None:
    """Give a private file the user's default permissions."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as `json_text`, atomically."""
    write_text(path, json_text(value) + "\n")


def json_text(value: Any) -> str:
    """Readable JSON: letters of all scripts unescaped, control characters escaped.

    Raises:
        ValueError: a number is not finite, which JSON cannot say.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # Outside of strings JSON is ASCII, so what is replaced here stands in a string.
    return _NOT_ASCII.sub(_as_json_escape, text)


def _as_json_escape(match: re.Match[str]) -> str:
    return match[0] if is_harmless(match[0]) else json.dumps(match[0])[1:-1]


def sha256_of(*parts: str | bytes) -> str:
    """The SHA-256 of ``parts``, each hashed with its length, so that boundaries matter."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys."""
    return sha256_of(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
