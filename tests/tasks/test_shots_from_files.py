"""No shot is searched by or held out, from the files of a folder to the two sets."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import telltale
from telltale.tasks.shots import without_shown
from telltale.tasks.split import split_examples
from tests import questions

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.tasks import Shot, Task

SPACES = [" ", "  ", "\n", " \t"]
# A task, its folder, the split that is asked, that of its shots, and how many rows each has.
TASKS = {
    "boolq": ("boolq", "validation", "train", 120, 60),  # shots from a split, with passages
    "boolean_expressions": ("bbh_boolean_expressions", "test", "", 120, 0),  # from the set itself
    "mmlu": ("mmlu", "test", "dev", 120, 20),  # as they are given
}


def made(number: random.Random, name: str, count: int) -> list[dict[str, Any]]:
    """Rows of which some recur, in the same white space or other."""

    def spaced(*words: str) -> str:
        return number.choice(SPACES).join(words)

    rows = []
    for _ in range(count):
        which = str(number.randrange(150))
        row = {
            "question": spaced("Is it", which, "or not"),
            "choices": ["no", "yes"],
            "answer": number.randrange(2),
            "subject": number.choice(questions.SUBJECTS),
        }
        if name == "boolq":
            row["passage"] = spaced("Once there was", str(number.randrange(120)), "of it.")
        rows.append(row)
    return rows


def folded(text: str) -> str:
    return " ".join(text.split())


def passage_of(rendered: str) -> str:
    """The passage of a question of boolq, which is all before the question."""
    return folded(rendered.partition("\nQuestion: ")[0])


def searched(task: Task) -> list[Any]:
    """The examples of both sets of a search."""
    asked = without_shown(task).examples
    split = split_examples(asked, limit=20, held_out=20, shares=dict(task.shares))
    return [asked[index] for index in (*split.search, *split.held_out)]


SOME = given(number=st.integers(0, 10**9), count=st.integers(1, 3), seed=st.integers(0, 3))
FEW = settings(deadline=None, max_examples=15)


def loaded(place: Path, name: str, number: int, count: int, seed: int) -> tuple[Task, set[Shot]]:
    """A task of made-up files, and all that it shows."""
    folder, asked_split, shots_split, asked_count, shots_count = TASKS[name]
    source = random.Random(number)
    questions.put(place, folder, asked_split, made(source, name, asked_count))
    if shots_split:
        questions.put(place, folder, shots_split, made(source, name, shots_count))
    task = telltale.load_task(name, data_dir=place, shots=count, seed=seed)
    return task, {shot for example in task.examples for shot in example.shots}


@pytest.mark.parametrize("name", TASKS)
@FEW
@SOME
def test_no_shot_is_in_a_set_of_a_search(
    tmp_path_factory: pytest.TempPathFactory, name: str, number: int, count: int, seed: int
) -> None:
    task, shots = loaded(tmp_path_factory.mktemp("data"), name, number, count, seed)
    assert all(len(set(example.shots)) == count for example in task.examples)
    in_sets = searched(task)
    assert len(in_sets) == 40
    shown = {folded(shot.question) for shot in shots}
    assert shown.isdisjoint(folded(example.context) for example in in_sets)


@pytest.mark.parametrize("name", ["boolq", "boolean_expressions"])
@FEW
@SOME
def test_all_questions_show_the_same_and_ask_none_of_it(
    tmp_path_factory: pytest.TempPathFactory, name: str, number: int, count: int, seed: int
) -> None:
    task, shots = loaded(tmp_path_factory.mktemp("data"), name, number, count, seed)
    shown = {folded(shot.question) for shot in shots}
    assert len(shots) == len(shown) == count
    assert shown.isdisjoint(folded(example.context) for example in task.examples)


@pytest.mark.parametrize("name", ["boolq", "mmlu"])
@FEW
@SOME
def test_shots_of_another_split_leave_every_question(
    tmp_path_factory: pytest.TempPathFactory, name: str, number: int, count: int, seed: int
) -> None:
    task, _ = loaded(tmp_path_factory.mktemp("data"), name, number, count, seed)
    assert len(task.examples) == TASKS[name][3]


@FEW
@SOME
def test_no_passage_is_shown_and_asked(
    tmp_path_factory: pytest.TempPathFactory, number: int, count: int, seed: int
) -> None:
    task, shots = loaded(tmp_path_factory.mktemp("data"), "boolq", number, count, seed)
    passages = {passage_of(shot.question) for shot in shots}
    assert len(passages) == count
    for example in task.examples:
        assert passage_of(example.context) == folded(example.passage)
        assert folded(example.passage) not in passages


def test_what_one_task_of_a_group_shows_and_another_asks_is_in_no_set(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("data")
    questions.data_dir(place)
    shown_too = questions.choices("train", 8)
    questions.put(place, "piqa", "validation", shown_too + questions.choices("other", 52))
    task = telltale.load_task("arc_easy,piqa", data_dir=place, shots=2)
    shown = {shot.question for example in task.examples for shot in example.shots}
    assert not shown.isdisjoint(example.context for example in task.examples)
    assert shown.isdisjoint(example.context for example in without_shown(task).examples)
    assert shown.isdisjoint(example.context for example in searched(task))
