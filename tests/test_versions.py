"""The lists of releases that are tested say what pyproject.toml declares."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
RUNTIME = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
IN_ALL = [
    Requirement(line)
    for extra in ("explain", "gguf", "harness", "math", "report", "tasks", "tune")
    for line in EXTRAS[extra]
]
DEVELOPMENT = [Requirement(line) for line in PYPROJECT["dependency-groups"]["dev"]]

OF_ONE_MACHINE = re.compile(r"nvidia-|cuda-|triton")


def pins(name: str) -> dict[str, Version]:
    """Each package of a list and the one release that it allows."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if not line.startswith("#")]
    found = {}
    for one in wanted:
        (specifier,) = one.specifier
        assert (specifier.operator, one.marker, one.url) == ("==", None, None), str(one)
        found[one.name] = Version(specifier.version)
    assert len(found) == len(wanted)
    assert all(name == canonicalize_name(name) for name in found)
    return found


def lowest_declared(requirements: list[Requirement]) -> dict[str, Version]:
    return {
        one.name: Version(bound.version)
        for one in requirements
        for bound in one.specifier
        if bound.operator == ">="
    }


def test_the_lowest_releases_are_those_declared() -> None:
    wanted = [*RUNTIME, *(Requirement(line) for line in [*EXTRAS["explain"], *EXTRAS["tune"]])]
    declared = lowest_declared(wanted)
    assert len(declared) == len(wanted)  # each has a lowest
    del declared["torch"]  # see the list's first lines
    brought = {"tokenizers"}  # not declared, brought by transformers
    assert {
        name: pin for name, pin in pins("lowest.txt").items() if name not in brought
    } == declared


def test_the_lock_holds_a_release_that_is_declared_of_each_package() -> None:
    locked = pins("locked.txt")
    for one in [*RUNTIME, *IN_ALL, *DEVELOPMENT]:
        assert one.specifier.contains(locked[canonicalize_name(one.name)]), str(one)


def test_the_lock_holds_no_build_of_one_machine() -> None:
    """Nor what only one system, or a machine with a GPU, asks for."""
    locked = pins("locked.txt")
    assert not [name for name, pin in locked.items() if pin.local]
    assert not [name for name in locked if OF_ONE_MACHINE.match(name)]
    assert "telltale-llm" not in locked


@pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="not the environment that `make test` makes"
)
def test_what_is_tested_is_what_is_locked() -> None:
    locked = pins("locked.txt")
    here = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    tools = {"telltale-llm", "pip", "setuptools", "wheel"}
    found = {
        name: Version(version).public
        for name, version in here.items()
        if name not in tools and not OF_ONE_MACHINE.match(name)
    }
    assert found == {name: str(pin) for name, pin in locked.items() if name in found}
