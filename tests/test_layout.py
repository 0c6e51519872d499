"""The layout: few files at the root, no import circle, and a true tree in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/telltale"
LINE = re.compile(r"(?P<indent> *)(?P<names>\S+(?: \S+)*)(?:  +\S.*)?")


def test_the_root_holds_at_most_ten_files_beside_its_folders() -> None:
    files = [one.name for one in PACKAGE.iterdir() if one.is_file()]
    assert "api.py" in files
    assert len(files) <= 10


# Import circles


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All of a module that can run, functions included: all but ``if TYPE_CHECKING`` blocks."""
    yield node
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in node.orelse if is_for_types else ast.iter_child_nodes(node):  # type: ignore[attr-defined]
        yield from run_time_nodes(child)


def imports_of(text: str, modules: Mapping[str, Path]) -> set[str]:
    """The modules that a module's text imports; a submodule's package is not among them."""
    named: list[tuple[str, str]] = []
    for node in run_time_nodes(ast.parse(text)):
        if isinstance(node, ast.Import):
            named += [(one.name, "") for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "telltale has no relative imports; this test reads none"
            named += [(str(node.module), one.name) for one in node.names]
    either = {
        f"{module}.{name}" if f"{module}.{name}" in modules else module for module, name in named
    }
    return either & modules.keys()


def circle_in(package: Path) -> list[str]:
    """Modules each of which imports the next, and the last the first; empty without a circle.

    Modules that are imported by a text, as `importlib.import_module` does, are not seen.
    """
    modules = modules_of(package)
    imports = {
        name: sorted(imports_of(file.read_text(encoding="utf-8"), modules))
        for name, file in modules.items()
    }
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return []
        for other in imports[name]:
            if circle := walk(other, [*way, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in imports if (circle := walk(name, []))), [])


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = modules_of(PACKAGE)
    assert "telltale.study" in modules
    assert "telltale.api" in imports_of((PACKAGE / "cli/commands.py").read_text("utf-8"), modules)
    assert circle_in(PACKAGE) == []


MADE = {
    "one.py": "from made.two import two",
    "two.py": "def two():\n    import made.part.three as three\n    return three",
    "part/__init__.py": "from made.part.three import THREE",
    "part/three.py": "from made import one\nTHREE = 3",
}
WITHOUT = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made import one"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A package with a circle of three, one of whose imports is inside a function."""
    for name, text in MADE.items():
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text(text)
    return tmp_path / "made"


def test_a_circle_through_a_function_is_found(made: Path) -> None:
    assert circle_in(made) == ["made.one", "made.two", "made.part.three"]


def test_an_import_for_types_closes_no_circle_but_its_else_does(made: Path) -> None:
    (made / "part/three.py").write_text(f"{WITHOUT}\nTHREE = 3")
    assert circle_in(made) == []
    (made / "part/three.py").write_text(f"{WITHOUT}\nelse:\n    from made import one\nTHREE = 3")
    assert circle_in(made) == ["made.one", "made.two", "made.part.three"]


def test_a_submodule_does_not_import_its_package_but_by_naming_it(made: Path) -> None:
    (made / "part/three.py").write_text("from made.part import four\nTHREE = 3")
    (made / "part/four.py").write_text("")
    assert circle_in(made) == []
    (made / "part/four.py").write_text("from made.part import THREE")
    assert circle_in(made) == ["made.part.three", "made.part.four", "made.part"]


# The tree


def tree_of(text: str) -> list[str]:
    """The files that the tree in ARCHITECTURE.md names, as paths in the package.

    A line is a folder, ``name/``, or files, one or several; two spaces end the names. What is in a
    folder is two spaces further in.
    """
    block = text.partition("## The tree\n")[2].partition("```\n")[2].partition("```")[0]
    root, *lines = block.splitlines()
    assert root == "src/telltale/"
    folders: list[str] = []
    files = []
    for line in lines:
        found = LINE.fullmatch(line)
        assert found is not None, line
        depth = len(found["indent"]) // 2 - 1
        assert 0 <= depth <= len(folders), line
        del folders[depth:]
        if found["names"].endswith("/"):
            folders.append(found["names"])
        else:
            files += ["".join(folders) + name for name in found["names"].split()]
    return files


def faults_of(named: list[str], package: Path) -> list[str]:
    """What is wrong with a tree: files named twice, in vain, or not at all."""
    present = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if file.name != "__init__.py"
    }
    return [
        *(f"{name} is named twice" for name in sorted({n for n in named if named.count(n) > 1})),
        *(f"{name} is not there" for name in named if not (package / name).is_file()),
        *(f"{name} is not named" for name in sorted(present - set(named))),
    ]


def test_the_tree_in_the_architecture_is_the_one_there_is() -> None:
    tree = tree_of((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert "study/run.py" in tree
    assert faults_of(tree, PACKAGE) == []


def test_a_tree_that_is_wrong_is_found_out(made: Path) -> None:
    lines = ["src/telltale/", "  part/", "    three.py  a number", "  one.py two.py    all"]
    tree = "\n".join(["## The tree", "", "```", *lines, "```", ""])
    assert tree_of(tree) == ["part/three.py", "one.py", "two.py"]
    assert faults_of(tree_of(tree), made) == []
    assert faults_of(["one.py", "one.py", "three.py", "two.py"], made) == [
        "one.py is named twice",
        "three.py is not there",
        "part/three.py is not named",
    ]
