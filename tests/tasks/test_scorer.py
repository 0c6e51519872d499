"""A Python function as scorer: what it is given, what it may give, and how a fault is told."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.errors import InputError, MeasurementError
from telltale.measure import ChoiceOutcome, Generated, Outcome
from telltale.tasks.scorer import LONGEST_REASON, PythonScorer, as_score, python_scorer
from telltale.tasks.task import Example

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXAMPLE = Example("e1", "What is it?", ("a cat",), 0)
WRITTEN = Outcome(3, (), "a dog", 0.0, Generated("A dog.", 3, cut_off=False))


def same(text: str, right: str) -> bool:
    return text.casefold().rstrip(".") == right


def asked(text: str, right: str, question: str) -> float:
    return (text, right, question) == ("A dog.", "a cat", "What is it?")


def file(folder: Path, source: str, name: str = "judge.py") -> Path:
    (folder / name).write_text(source, "utf-8")
    return folder / name


def test_a_function_s_score_replaces_the_task_s() -> None:
    scorer = python_scorer(same)
    assert scorer(EXAMPLE, WRITTEN) == WRITTEN
    right = Outcome(3, (), "x", 0.0, Generated("A cat.", 3, cut_off=True))
    assert scorer(EXAMPLE, right) == Outcome(3, (), "x", 1.0, right.generated)
    assert python_scorer(lambda *_: 0.25)(EXAMPLE, right).score == 0.25


def test_a_third_argument_is_the_question() -> None:
    assert python_scorer(asked)(EXAMPLE, WRITTEN).score == 1.0


def test_a_file_is_run_once_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n\n"
        "@dataclass\nclass Way:\n    worth: float\n\n"
        "def judge(text: str, right: str, *, way: Way = Way(0.5)) -> float:\n"
        "    return way.worth\n",
    )
    assert python_scorer(f"{path}:judge")(EXAMPLE, WRITTEN).score == 0.5
    assert list(tmp_path.iterdir()) == [path]


def test_a_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path, "def judge(text, right):\n    return len(text) == 6\n", "own_judge.py")
    monkeypatch.syspath_prepend(tmp_path)
    scorer = python_scorer("own_judge:judge")
    assert scorer(EXAMPLE, WRITTEN).score == 1.0
    assert scorer.identity == python_scorer(f"{path}:judge").identity
    assert list(tmp_path.iterdir()) == [path]
    del sys.modules["own_judge"]


def test_identity_is_of_the_source_and_the_name(tmp_path: Path) -> None:
    source = "def a(text, right):\n    return 1\n\ndef b(text, right):\n    return 0\n"
    (tmp_path / "elsewhere").mkdir()
    first = python_scorer(f"{file(tmp_path, source)}:a").identity
    assert first == python_scorer(f"{file(tmp_path / 'elsewhere', source, 'x.py')}:a").identity
    assert first != python_scorer(f"{file(tmp_path, source)}:b").identity
    assert first != python_scorer(f"{file(tmp_path, source + '#')}:a").identity
    assert python_scorer(same).identity != python_scorer(asked).identity


@pytest.mark.parametrize("value", [True, False, 0, 1, 0.0, 1.0, 0.5])
def test_a_number_from_0_to_1_is_a_score(value: float) -> None:
    assert as_score(value) == float(value)


def test_numpy_s_and_torch_s_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for value in (numpy.float32(0.5), numpy.array([0.5]), torch.tensor(0.5)):
        assert as_score(value) == 0.5
    assert as_score(numpy.bool_(True)) == 1.0
    assert as_score(numpy.array([0.5, 0.5])) is None
    assert as_score(torch.tensor([0.5, 0.5])) is None


@given(
    st.one_of(
        st.floats().filter(lambda x: not 0 <= x <= 1),
        st.integers().filter(lambda x: x not in (0, 1)),
        st.text(),
        st.none(),
        st.lists(st.floats()),
        st.complex_numbers(),
    )
)
def test_anything_else_is_no_score(value: Any) -> None:
    assert as_score(value) is None


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "gave nan"),
        (None, "gave None"),
        ("1.0", "gave '1.0'"),
        (2, "gave 2"),
        (-0.1, "gave -0.1"),
        ("a\nb\x1b[2J" * 99, r"gave 'a\\nb\\x1b"),
        (Unprintable(), "gave a Unprintable"),
    ],
)
def test_a_wrong_score_is_told_in_one_line(value: Any, told: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        python_scorer(lambda *_: value)(EXAMPLE, WRITTEN)
    message = str(caught.value)
    assert told.replace("\\\\", "\\") in message
    assert "the scorer test_a_wrong_score" in message
    assert "'e1'" in message
    assert message.isprintable()
    assert len(message) < 2 * LONGEST_REASON


@pytest.mark.parametrize("raised", [ValueError("bad\nthing here"), SystemExit(), KeyError("x")])
def test_a_function_that_fails_is_told_in_one_line(raised: BaseException) -> None:
    def judge(text: str, right: str) -> float:
        raise raised

    with pytest.raises(MeasurementError) as caught:
        python_scorer(judge)(EXAMPLE, WRITTEN)
    assert "judge failed on example 'e1' (" in str(caught.value)
    assert str(caught.value).isprintable()


def test_choices_have_no_text_to_judge() -> None:
    choices = (ChoiceOutcome(-1.0, 1, 1, 1), ChoiceOutcome(-2.0, 1, 1, 1))
    with pytest.raises(InputError, match="judges generated text"):
        python_scorer(same)(EXAMPLE, Outcome(0, choices, 0, 1.0))


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("def g(a, b):\n    return 1\nx = 3", "f", "no function 'f'; it has g"),
        ("f = 3", "f", "no function 'f'; it has none"),
        ("def f(a):\n    return 1", "f", "takes .*a text and the right answer"),
        ("def f(a, b, c, d):\n    return 1", "f", "takes .*a text and the right answer"),
    ],
)
def test_a_file_that_holds_no_scorer_is_refused(
    tmp_path: Path, source: str, name: str, message: str
) -> None:
    path = file(tmp_path, source)
    with pytest.raises(InputError, match=message) as caught:
        python_scorer(f"{path}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:", "fails .*mend it"),
        ("raise SystemExit(3)", "fails .*SystemExit: 3"),
        ("import nowhere_at_all", "fails .*No module named 'nowhere_at_all'"),
        ("\x00", "fails"),
    ],
)
def test_a_file_that_fails_is_refused_and_leaves_no_module(
    tmp_path: Path, source: str, message: str
) -> None:
    path = file(tmp_path, source)
    before = set(sys.modules)
    with pytest.raises(InputError, match=message) as caught:
        python_scorer(f"{path}:f")
    assert "\n" not in str(caught.value)
    assert set(sys.modules) == before


@pytest.mark.parametrize("given", ["judge", "judge.py", ":judge", "judge.py:", ""])
def test_a_scorer_needs_a_place_and_a_name(given: str) -> None:
    with pytest.raises(InputError, match="names no function"):
        python_scorer(given)


def test_what_cannot_be_found_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the scorer's file .*nowhere.py: No such"):
        python_scorer(f"{tmp_path / 'nowhere.py'}:f")
    with pytest.raises(InputError, match=r"module nowhere.at.all cannot be imported"):
        python_scorer("nowhere.at.all:f")
    with pytest.raises(InputError, match=r"module math has no source|cannot be imported"):
        python_scorer("math:sqrt")


@pytest.mark.parametrize("function", [max, eval("lambda text, right: 1.0")])
def test_a_function_without_source_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="no source to know it by"):
        python_scorer(function)


def test_a_scorer_is_one_for_tasks() -> None:
    from telltale.tasks.task import Scorer

    scorer: Scorer = python_scorer(same)
    assert isinstance(scorer, PythonScorer)
    assert scorer.identity["function"] == "same"
