"""The sets of a tuning: nothing leaks from one into another, by text and by passage."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import telltale
from telltale.errors import InputError
from telltale.tasks.split import split_examples
from telltale.tasks.task import Example, Shot, Task
from telltale.tuning.sets import TuningSets, read_train, train_split, tuning_sets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def made(context: int, passage: int | None, number: int = 0, content: str = "") -> Example:
    return Example(
        f"{context}-{passage}-{number}",
        # White space is no difference.
        f"Question  {context}?\n" if number % 2 else f"Question {context}?",
        ("a", "b"),
        context % 2,
        passage="" if passage is None else f"Passage {passage}.",
        content=content,
    )


def task_of(examples: Iterable[Example], name: str = "made", **more: Any) -> Task:
    return Task(name, tuple(examples), "{question}", **more)


def texts(examples: Iterable[Example]) -> set[tuple[str, str]]:
    """All by which an example is known: its question and its passage, without white space."""
    return {
        (kind, "".join(text.split()))
        for one in examples
        for kind, text in (("question", one.context), ("passage", one.passage))
        if text
    }


def sets_of(found: TuningSets) -> dict[str, tuple[Example, ...]]:
    return {name: getattr(found, name) for name in ("search", "held_out", "train", "development")}


def leaks(sets: dict[str, tuple[Example, ...]]) -> list[str]:
    return [
        f"{one}, {other}"
        for one, other in combinations(sets, 2)
        if texts(sets[one]) & texts(sets[other])
    ]


class Pool(NamedTuple):
    """Random examples, some of which share a question, some a passage, some both."""

    seed: int
    count: int
    questions: int
    passages: int

    def made(self, first: int = 0) -> list[Example]:
        source = random.Random(self.seed)
        return [
            made(
                first + source.randrange(self.questions),
                source.randrange(self.passages) if source.random() < 0.5 else None,
                number,
            )
            for number in range(self.count)
        ]


POOLS = st.builds(
    Pool,
    st.integers(0, 10**6),
    st.integers(150, 400),
    st.sampled_from([120, 300, 1000]),
    st.sampled_from([1, 40, 150, 1000]),
)


@settings(max_examples=40)
@given(POOLS, st.one_of(st.none(), POOLS), st.integers(0, 3))
def test_no_example_is_in_two_sets_by_question_or_passage(
    pool: Pool, train: Pool | None, seed: int
) -> None:
    task = task_of(pool.made())
    other = None if train is None else task_of(train.made(first=60), "elsewhere")
    try:
        found = tuning_sets(task, other, limit=25, held_out=30, seed=seed)
    except InputError as problem:  # a few large groups leave nothing
        assert re.search("too few|leave|share no|share one passage", str(problem))
        return
    sets = sets_of(found)
    assert leaks(sets) == []
    assert min(map(len, sets.values())) >= 20
    if other is not None:  # nor any example that a search would seal as its final set
        assert not texts(task.examples) & texts((*found.train, *found.development))


def test_the_leaks_would_be_found() -> None:
    sets = {"train": (made(1, 5),), "search": (made(2, 5),), "held_out": (made(1, None, 1),)}
    assert leaks(sets) == ["train, search", "train, held_out"]


def test_search_and_held_out_are_those_of_a_search() -> None:
    task = task_of([made(number, None) for number in range(300)])
    asked = {"limit": 40, "held_out": 60, "seed": 3}
    split = split_examples(task.examples, **asked)  # type: ignore[arg-type]
    for train in (None, task_of([made(number, None) for number in range(1000, 1100)])):
        found = tuning_sets(task, train, **asked)  # type: ignore[arg-type]
        assert found.search == tuple(task.examples[index] for index in split.search)
        assert found.held_out == tuple(task.examples[index] for index in split.held_out)


def test_by_default_half_of_the_data_is_left_to_train_on() -> None:
    found = tuning_sets(task_of([made(number, None) for number in range(400)]))
    assert [len(one) for one in sets_of(found).values()] == [100, 100, 180, 20]
    assert "no other set has" in found.origin


def test_training_examples_that_are_asked_elsewhere_are_left_out_and_counted() -> None:
    task = task_of([made(number, number // 2, content=f"asked {number}") for number in range(200)])
    train = task_of(
        [
            *(made(1000 + number, None) for number in range(100)),
            made(3, None, 1),  # a question of the task's
            made(2000, 7),  # one of its passages
            made(2001, 900),  # a passage of one that shares the passage
            replace(made(2002, 900), passage="Passage 7.", context="Question 2001?"),
            made(2003, None, content="asked 5"),  # the same in another prompt
        ],
        "elsewhere",
    )
    found = tuning_sets(task, train, limit=40, held_out=60)
    assert found.left_out == 5
    assert len(found.train) + len(found.development) == 100


def test_what_is_shown_before_questions_is_not_trained_on() -> None:
    shown = (Shot("Question 1005?", "b"),)
    task = task_of([replace(made(n, None), shots=shown) for n in range(200)], shots=1)
    train = task_of([made(1000 + number, None) for number in range(100)])
    found = tuning_sets(task, train)
    trained = (*found.train, *found.development)
    assert len(trained) == 99
    assert {one.shots for one in trained} == {shown}
    assert texts([made(1005, None)]).isdisjoint(texts(trained))


def test_too_little_to_train_on_is_refused_with_what_to_do() -> None:
    task = task_of([made(number, None) for number in range(100)])
    with pytest.raises(InputError, match=r"leave 0 to train on .* lower `limit` or `held_out`"):
        tuning_sets(task, limit=40, held_out=60)
    with pytest.raises(InputError, match=r"of 100 examples to train on 0 share no text"):
        tuning_sets(task, task)
    few = task_of([made(1000 + number, None) for number in range(30)])
    with pytest.raises(InputError, match=r"at least 40 are needed"):
        tuning_sets(task, few)


def test_training_examples_must_be_asked_alike() -> None:
    task = task_of([made(number, None) for number in range(100)])
    other = replace(task_of([made(1000 + n, None) for n in range(100)]), template="{question}!")
    with pytest.raises(
        InputError, match=r"its prompt is '{question}!', and should be '{question}'"
    ):
        tuning_sets(task, other)


def test_a_file_is_asked_as_the_task_is(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "choices": ["yes", "no"], "answer": n % 2} for n in range(120)]
    files = [tmp_path / "judge.jsonl", tmp_path / "train.jsonl"]
    for file, some in zip(files, (rows[:60], rows[60:]), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in some))
    asked: dict[str, Any] = {"prompt": r"{choice}:\n{question}", "scoring": "loglik-per-character"}
    task = telltale.load_task(data=files[0], **asked)
    train = read_train(task, files[1])
    assert train.examples == telltale.load_task(data=files[1], **asked).examples
    found = tuning_sets(task, train)
    assert len(found.train) + len(found.development) == 60
    for protocol in ("text", "chat"):
        task = telltale.load_task(data=files[0], protocol=protocol)
        train = read_train(task, files[1])
        again = telltale.load_task(data=files[1], protocol=protocol)
        assert (train.examples, train.settings()) == (again.examples, again.settings())


def test_several_tasks_take_no_file(tmp_path: Path) -> None:
    task = telltale.load_task("capitals,boolean_expressions")
    with pytest.raises(InputError, match=r"`train` train.jsonl is examples of one task"):
        read_train(task, tmp_path / "train.jsonl")


def test_which_tasks_have_a_train_split(shared_tasks: Path) -> None:
    def loads(name: str) -> Any:
        return partial(telltale.load_task, name, data_dir=shared_tasks)

    train = train_split("sst2", None, loads("sst2"))
    assert train is not None
    assert len(train.examples) == 2000
    assert train_split("sst2", "train", loads("sst2")) is None
    assert train_split("capitals", None, loads("capitals")) is None
    assert train_split("math500", None, loads("math500")) is None
    both = train_split("sst2,boolq=2", None, loads("sst2,boolq=2"))
    assert both is not None
    assert {one.part for one in both.examples} == {"sst2", "boolq"}


def test_a_train_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    with pytest.raises(
        InputError, match=r"nothing to train on: .* holds no train.jsonl .* `train`"
    ):
        train_split("sst2", None, partial(telltale.load_task, "sst2", data_dir=tmp_path))


@pytest.mark.parametrize("name", ["boolq", "winogrande"])
def test_real_splits_do_not_leak(name: str, shared_tasks: Path) -> None:
    load = partial(telltale.load_task, name, data_dir=shared_tasks)
    task, train = load(), train_split(name, None, load)
    found = tuning_sets(task, train, limit=150, held_out=300)
    assert leaks(sets_of(found)) == []
    assert found.left_out > 0 or name != "boolq"
