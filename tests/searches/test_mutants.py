"""The properties fail when the code is wrong: shown by breaking copies of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import telltale.searches.elimination
import telltale.searches.found
import telltale.searches.greedy
import telltale.searches.search
import telltale.tasks.split
from tests.searches.properties import (
    check_elimination,
    check_search,
    check_search_by_value,
    check_split,
)

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


# In what every search has.
SEARCH = [
    ("a tie goes to the highest layer", "sorted(tried.values(), key",
     "sorted(reversed(tried.values()), key"),
    ("the floor must be passed, not met", "candidate.accuracy >= floor",
     "candidate.accuracy > floor + 2 * ROUNDING"),
    ("the worst candidate is taken", "-one.value", "one.value"),
    ("one layer too many", "removed >= self.max_removed", "removed > self.max_removed"),
]  # fmt: skip
# In greedy removal alone.
GREEDY = [
    ("the floor moves with the rounds", "candidates, origin)",
     "candidates, rounds[-1].first if rounds else origin)"),
]  # fmt: skip
BY_VALUE = [
    *SEARCH,
    ("candidates are ranked by accuracy", "-one.value", "-one.accuracy"),
    ("no guard is asked", "if self.admits(candidate.path)", "if True"),
    ("the first that may not be kept ends the search",
     "            if self.is_above_floor(candidate, origin):\n",
     "            if not self.is_above_floor(candidate, origin):\n"
     "                break\n"
     "            else:\n"),
    ("a candidate is kept on fewer examples", "candidate.examples >= origin.examples and ", ""),
]  # fmt: skip
FOUND = [
    ("BSBA is not the deepest", "return max(enough, key=lambda model: len(model.removed))",
     "return min(enough, key=lambda model: len(model.removed))"),
    ("BSBA must beat the baseline", "model.accuracy >= self.baseline",
     "model.accuracy > self.baseline or not model.removed"),
    ("BEST keeps the fewest layers of equals", "(model.accuracy, -len(model.removed))",
     "(model.accuracy, len(model.removed))"),
    ("a rejected model is kept", "for path in done.kept:\n                first",
     "for path in done.kept or (done.first.path,):\n"
     "                orders.setdefault(path, path.removed)\n                first"),
    ("layers are in ascending order, not in order of removal",
     "orders[path] = (*stay, *candidate.left_out)", "orders[path] = path.removed"),
]  # fmt: skip
ELIMINATION = [
    ("of equals, one that comes later stays", "return one.value, -self._tallies[one.path].place",
     "return one.value, self._tallies[one.path].place"),
    ("of equals, none comes back", "return one.value, -self._tallies[one.path].place",
     "return one.value, 0"),
    ("what is lacked counts for nothing", "self._search.highest)",
     "min(0.0, self._search.highest))"),
    ("one that is lacked is wrong", "[BEST_SCORE] * missing]",
     "[BEST_SCORE] * (missing - 1), *[0.0 if self.scores else 1.0] * min(1, missing)]"),
    ("one that is lacked is not at its highest", "[highest] * missing]",
     "[highest] * (missing - 1), *[highest - 1] * min(1, missing)]"),
    ("who has left does not come back", "            self._measure_open()\n",
     "            self._admitted or self._measure_open()\n"),
    ("guards are asked of all that may lead",
     "self._admitted[unasked[0]] = self._search.admits(unasked[0])",
     "self._admitted |= {one.path: self._search.admits(one.path) for one in self._finished}"),
    ("the floor is not looked at", "if self._search.is_above_floor(candidate, self._origin)",
     "if candidate.examples >= self._origin.examples"),
    ("a guard's no is not heard", "if self._admitted.get(one.path, True)", "if True"),
    ("nobody leaves", "return bar is None or self._rank(best) > self._rank(bar)", "return True"),
]  # fmt: skip
SPLIT = [
    ("passages are not looked at", ', "passage": example.passage}', "}"),
    ("contexts are not looked at", '"context": example.context, ', ""),
    ("white space makes another text", "(kind, folded(text))", "(kind, text)"),
    ("the final set starts anew", "sealed, rest = _fill(rest[::-1],",
     "sealed, rest = _fill(groups,"),
    ("the held-out set starts anew", "kept_out, rest = _fill(rest,",
     "kept_out, rest = _fill(groups,"),
    ("the training set starts anew", "trained, rest = _fill(rest,",
     "trained, rest = _fill(groups,"),
    ("the development set starts anew", "developed, _ = _fill(rest,",
     "developed, _ = _fill(groups,"),
]  # fmt: skip


def caught(check: Callable[[Any], None], broken: ModuleType) -> None:
    """A property, and no other assertion, fails on a broken module."""
    with pytest.raises(AssertionError) as failure:
        check(broken)
    assert Path(failure.traceback[-1].path).name == "properties.py"


def with_methods_of(broken: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Greedy removal, on a broken copy of what every search has."""
    for name in ("measured", "children", "is_above_floor", "chosen"):
        monkeypatch.setattr(telltale.searches.search.Search, name, vars(broken.Search)[name])
    return telltale.searches.greedy


@pytest.mark.parametrize(("wrong", "old", "new"), SEARCH, ids=[m[0] for m in SEARCH])
def test_a_broken_search_is_caught(
    wrong: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mutant(telltale.searches.search, old, new)
    caught(check_search, with_methods_of(broken, monkeypatch))


@pytest.mark.parametrize(("wrong", "old", "new"), GREEDY, ids=[m[0] for m in GREEDY])
def test_broken_greedy_removal_is_caught(wrong: str, old: str, new: str) -> None:
    caught(check_search, mutant(telltale.searches.greedy, old, new))


@pytest.mark.parametrize(("wrong", "old", "new"), BY_VALUE, ids=[m[0] for m in BY_VALUE])
def test_a_broken_search_by_value_is_caught(
    wrong: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mutant(telltale.searches.search, old, new)
    caught(check_search_by_value, with_methods_of(broken, monkeypatch))


@pytest.mark.parametrize(("wrong", "old", "new"), ELIMINATION, ids=[m[0] for m in ELIMINATION])
def test_broken_elimination_is_caught(
    wrong: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mutant(telltale.searches.elimination, old, new)
    monkeypatch.setattr(telltale.searches.search, "Elimination", broken.Elimination)
    caught(check_elimination, telltale.searches.greedy)


@pytest.mark.parametrize(("wrong", "old", "new"), FOUND, ids=[m[0] for m in FOUND])
def test_broken_names_are_caught(
    wrong: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = mutant(telltale.searches.found, old, new)
    monkeypatch.setattr(telltale.searches.greedy, "Found", broken.Found)
    caught(check_search, telltale.searches.greedy)


@pytest.mark.parametrize(("wrong", "old", "new"), SPLIT, ids=[m[0] for m in SPLIT])
def test_a_leaking_split_is_caught(wrong: str, old: str, new: str) -> None:
    caught(check_split, mutant(telltale.tasks.split, old, new))


def test_an_unbroken_copy_has_every_property(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = mutant(telltale.searches.elimination, "from __future__", "\nfrom __future__")
    monkeypatch.setattr(telltale.searches.search, "Elimination", sound.Elimination)
    check_elimination(telltale.searches.greedy)
    check_split(mutant(telltale.tasks.split, '"""Disjoint sets', '"""Sets'))
    greedy = mutant(telltale.searches.greedy, "from __future__", "\nfrom __future__")
    check_search(greedy)
    check_search_by_value(greedy)
    search = mutant(telltale.searches.search, "from __future__", "\nfrom __future__")
    with_methods_of(search, monkeypatch)
    check_search_by_value(telltale.searches.greedy)
    found = mutant(telltale.searches.found, "from __future__", "\nfrom __future__")
    monkeypatch.setattr(greedy, "Found", found.Found)
    check_search(greedy)


def test_a_mutation_of_text_that_is_not_there_is_no_mutant() -> None:
    with pytest.raises(LookupError, match=r"'no such text' is 0 times in telltale\.tasks\.split"):
        mutant(telltale.tasks.split, "no such text", "")
    with pytest.raises(LookupError, match="changes nothing"):
        mutant(telltale.tasks.split, "from __future__", "from __future__")
