"""The properties fail when the code is wrong: shown by breaking copies of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import telltale.searches.greedy
import telltale.searches.removal
import telltale.tasks.split
from tests.searches.properties import check_search, check_search_by_value, check_split

if TYPE_CHECKING:
    from collections.abc import Callable


def mutant(module: ModuleType, old: str, new: str) -> ModuleType:
    """A copy of a module with one piece of its source replaced.

    Raises:
        LookupError: the piece is not there exactly once, or is not changed. That is no
            AssertionError, which a test would take for a property that fails.
    """
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise LookupError(
            f"{old!r} is {source.count(old)} times in {module.__name__}; write the mutant anew"
        )
    if old == new:
        raise LookupError(f"putting {new!r} for itself changes nothing")
    broken = ModuleType(f"{module.__name__}_mutant")
    sys.modules[broken.__name__] = broken  # dataclasses look their module up
    exec(compile(source.replace(old, new), str(module.__file__), "exec"), broken.__dict__)
    return broken


GREEDY = [
    ("a tie goes to the highest layer", "ranked = sorted(of_layers,",
     "ranked = sorted(reversed(of_layers),"),
    ("the floor moves with the rounds", "            path = candidates[done.removed]\n",
     "            path = candidates[done.removed]\n            whole = worth[path]\n"),
    ("the floor must be passed, not met", "if of_layers[layer].accuracy < floor:",
     "if of_layers[layer].accuracy <= floor + 2 * ROUNDING:"),
    ("the worst candidate is taken", "-of_layers[layer].value", "of_layers[layer].value"),
    ("one layer too many", "removed >= self.max_removed", "removed > self.max_removed"),
]  # fmt: skip
BY_VALUE = [
    *GREEDY,
    ("candidates are ranked by accuracy", "-of_layers[layer].value", "-of_layers[layer].accuracy"),
    ("no guard is asked", "if self.admits(candidates[layer]):", "if True:"),
    ("the first that may not be kept ends the search", "                continue\n",
     "                break\n"),
]  # fmt: skip
REMOVAL = [
    ("BSBA is not the deepest", "return max(enough, key=lambda model: len(model.removed))",
     "return min(enough, key=lambda model: len(model.removed))"),
    ("BSBA must beat the baseline", "model.accuracy >= self.baseline",
     "model.accuracy > self.baseline or not model.removed"),
    ("BEST keeps the fewest layers of equals", "(model.accuracy, -len(model.removed))",
     "(model.accuracy, len(model.removed))"),
    ("a rejected model is kept", "if done.accepted:", "if True:"),
]  # fmt: skip
SPLIT = [
    ("passages are not looked at", ', "passage": example.passage}', "}"),
    ("contexts are not looked at", '"context": example.context, ', ""),
    ("white space makes another text", "(kind, folded(text))", "(kind, text)"),
    ("the final set starts anew", "sealed, rest = _fill(rest[::-1],",
     "sealed, rest = _fill(groups,"),
    ("the held-out set starts anew", "kept_out, _ = _fill(rest,", "kept_out, _ = _fill(groups,"),
]  # fmt: skip


def caught(check: Callable[[Any], None], broken: ModuleType) -> None:
    """A property, and no other assertion, fails on a broken module."""
    with pytest.raises(AssertionError) as failure:
        check(broken)
    assert Path(failure.traceback[-1].path).name == "properties.py"


@pytest.mark.parametrize(("wrong", "old", "new"), GREEDY, ids=[m[0] for m in GREEDY])
def test_a_broken_search_is_caught(wrong: str, old: str, new: str) -> None:
    caught(check_search, mutant(telltale.searches.greedy, old, new))


@pytest.mark.parametrize(("wrong", "old", "new"), BY_VALUE, ids=[m[0] for m in BY_VALUE])
def test_a_broken_search_by_value_is_caught(wrong: str, old: str, new: str) -> None:
    caught(check_search_by_value, mutant(telltale.searches.greedy, old, new))


@pytest.mark.parametrize(("wrong", "old", "new"), REMOVAL, ids=[m[0] for m in REMOVAL])
def test_broken_names_are_caught(
    wrong: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mutant(telltale.searches.removal, old, new)
    monkeypatch.setattr(telltale.searches.greedy, "Removal", broken.Removal)
    caught(check_search, telltale.searches.greedy)


@pytest.mark.parametrize(("wrong", "old", "new"), SPLIT, ids=[m[0] for m in SPLIT])
def test_a_leaking_split_is_caught(wrong: str, old: str, new: str) -> None:
    caught(check_split, mutant(telltale.tasks.split, old, new))


def test_an_unbroken_copy_has_every_property(monkeypatch: pytest.MonkeyPatch) -> None:
    check_split(mutant(telltale.tasks.split, '"""Search, held-out', '"""A search, held-out'))
    greedy = mutant(telltale.searches.greedy, "from __future__", "\nfrom __future__")
    check_search(greedy)
    check_search_by_value(greedy)
    removal = mutant(telltale.searches.removal, "from __future__", "\nfrom __future__")
    monkeypatch.setattr(greedy, "Removal", removal.Removal)
    check_search(greedy)


def test_a_mutation_of_text_that_is_not_there_is_no_mutant() -> None:
    with pytest.raises(LookupError, match=r"'no such text' is 0 times in telltale\.tasks\.split"):
        mutant(telltale.tasks.split, "no such text", "")
    with pytest.raises(LookupError, match="changes nothing"):
        mutant(telltale.tasks.split, "from __future__", "from __future__")
