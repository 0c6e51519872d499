"""Old names work for one release: they give what the new ones give, and warn."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import telltale
from telltale.moved import GONE_IN, MODULES, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = sorted((ROOT / "benchmarks").glob("*.py"))
# What the documentation of before named, and where it is documented now.
DOCUMENTED = {
    "telltale.evidence.Comparison": "telltale.evidence.comparison.Comparison",
    "telltale.evidence.compare": "telltale.evidence.comparison.compare",
    "telltale.previews.Preview": "telltale.engine.previews.Preview",
    "telltale.reading.StoredStudy": "telltale.study.reading.StoredStudy",
    "telltale.reading.read_study": "telltale.study.reading.read_study",
    "telltale.result.Findings": "telltale.evidence.result.Findings",
    "telltale.result.PathModel": "telltale.evidence.result.PathModel",
    "telltale.study.Result": "telltale.study.run.Result",
    "telltale.study.run_study": "telltale.study.run.run_study",
    "telltale.workbench.Workbench": "telltale.engine.workbench.Workbench",
}


@pytest.fixture(autouse=True)
def not_yet_imported() -> Iterator[None]:
    """Old names are imported as if for the first time, and forgotten afterwards."""

    def forget() -> None:
        for old in MODULES:
            sys.modules.pop(old, None)
            vars(telltale).pop(old.removeprefix("telltale."), None)

    forget()
    yield
    forget()


def given_by(dotted: str) -> object:
    """What ``from MODULE import NAME`` gives."""
    module, _, name = dotted.rpartition(".")
    names: dict[str, object] = {}
    exec(f"from {module} import {name}", names)
    return names[name]


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_an_old_module_is_the_new_one_and_warns(old: str, new: str) -> None:
    said = re.escape(f"{old} is {new} now; the old name goes in release {GONE_IN}")
    with pytest.warns(DeprecationWarning, match=f"^{said}$") as warned:
        module = importlib.import_module(old)
    assert len(warned) == 1
    assert module is importlib.import_module(new)
    assert module.__name__ == new
    assert module.__spec__ is not None
    assert module.__spec__.name == new


@pytest.mark.parametrize("module", NAMES)
def test_an_old_name_in_a_folder_is_the_new_one_and_warns(module: str) -> None:
    for name, home in NAMES[module].items():
        said = re.escape(f"{module}.{name} is {home}.{name} now; ")
        with pytest.warns(DeprecationWarning, match=said):
            found = given_by(f"{module}.{name}")
        assert found is given_by(f"{home}.{name}")


@pytest.mark.parametrize(("old", "new"), DOCUMENTED.items())
def test_a_documented_old_name_gives_the_same_object(old: str, new: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert given_by(old) is given_by(new)
    module = old.rpartition(".")[0]
    assert bool(warned) == (module in MODULES)  # names of the folders themselves are to stay


def test_the_warning_points_at_the_line_that_has_the_old_name() -> None:
    with pytest.warns(DeprecationWarning, match="old name") as of_a_module:
        from telltale.stats import wilson  # noqa: F401
    with pytest.warns(DeprecationWarning, match="old name") as of_a_name:
        from telltale.study import open_study  # noqa: F401
    assert {one.filename for one in (*of_a_module, *of_a_name)} == {__file__}


@pytest.mark.parametrize(
    "name",
    ["telltale.statistics.wilson", "telltale.study.no_such", "telltale.evidence.no_such"],
)
def test_a_name_that_never_was_is_an_import_error(name: str) -> None:
    with pytest.raises(ImportError):
        given_by(name)


def test_an_old_module_lacks_what_it_never_had() -> None:
    with pytest.raises(ImportError), pytest.warns(DeprecationWarning, match="old name"):
        given_by("telltale.stats.no_such")


def test_the_folders_own_names_bring_no_torch_but_where_they_need_it() -> None:
    program = (
        "import sys\n"
        "import telltale.evidence, telltale.study\n"
        "telltale.evidence.compare, telltale.study.read_study, telltale.study.Result\n"
        "assert 'torch' not in sys.modules\n"
        "telltale.study.run_study\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", [*PAGES, *PROGRAMS], ids=lambda file: str(file.relative_to(ROOT)))
def test_no_page_or_benchmark_has_an_old_name(file: Path) -> None:
    old = "|".join(re.escape(one) for one in MODULES)
    assert re.findall(rf"\b(?:{old})\b", file.read_text(encoding="utf-8")) == []
