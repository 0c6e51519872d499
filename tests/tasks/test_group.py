"""Several tasks as one objective: shares of examples are weights of accuracies."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import telltale
from telltale.errors import InputError
from telltale.measure import Generated, Outcome
from telltale.tasks import Example, Generation, Shot, Task
from telltale.tasks.group import GroupScorer, group, members
from telltale.tasks.scorer import python_scorer
from telltale.tasks.shots import without_shown
from telltale.tasks.split import counts_of, first_examples, most_of, split_examples, texts_of

if TYPE_CHECKING:
    from pathlib import Path


def task(name: str, count: int, *, same: str = "", **changes: object) -> Task:
    examples = tuple(
        Example(str(n), f"{same or name} {n}", ("yes", "no"), n % 2) for n in range(count)
    )
    return Task(name, examples, "{question}", **changes)  # type: ignore[arg-type]


@given(
    st.lists(st.integers(60, 300), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.5, 1, 2, 3]), min_size=4, max_size=4),
    st.integers(0, 3),
)
def test_every_set_has_each_task_by_its_share(
    sizes: list[int], weights: list[float], seed: int
) -> None:
    tasks = [task(f"t{n}", size) for n, size in enumerate(sizes)]
    both = group(tasks, weights[: len(tasks)])
    shares = dict(both.shares)
    assert sum(shares.values()) == pytest.approx(1)
    try:
        split = split_examples(both.examples, seed=seed, shares=shares)
    except InputError:
        assert most_of(both.examples, shares) < 80
        return
    assert not set(split.search) & set(split.held_out)
    for indices in (split.search, split.held_out):
        found = Counter(both.examples[index].part for index in indices)
        for name, share in shares.items():
            assert abs(found[name] - share * len(indices)) < 1


def test_one_that_is_several_already_divides_its_weight() -> None:
    judge = python_scorer(lambda text, right: float(text == right))
    two = group([task("a", 30), task("b", 30, scorer=judge)], [1, 3])
    three = group([two, task("c", 30)], [1, 1])
    assert dict(three.shares) == {"a": 0.125, "b": 0.375, "c": 0.5}
    assert three.examples[0].id == "a/0"
    assert Counter(one.part for one in three.examples) == {"a": 30, "b": 30, "c": 30}
    assert isinstance(three.scorer, GroupScorer)
    assert three.scorer.scorers == {"a": None, "b": judge, "c": None}
    with pytest.raises(InputError, match="two of the tasks are named b"):
        group([two, task("b", 30)], [1, 1])


@given(st.integers(0, 500), st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_counts_add_up_and_are_within_one_of_their_share(size: int, parts: list[float]) -> None:
    shares = {str(n): part / sum(parts) for n, part in enumerate(parts)}
    counts = counts_of(size, shares)
    assert sum(counts.values()) == size
    assert all(abs(counts[part] - size * share) < 1 + 1e-6 for part, share in shares.items())


def test_what_two_tasks_share_is_on_one_side() -> None:
    both = group([task("a", 120, same="x"), task("b", 120, same="x")], [1, 1])
    split = split_examples(both.examples, limit=60, held_out=60, shares=dict(both.shares))
    searched = {text for i in split.search for text in texts_of(both.examples[i])}
    assert all(searched.isdisjoint(texts_of(both.examples[i])) for i in split.held_out)


def test_an_evaluation_takes_the_first_of_each_task_by_its_share() -> None:
    both = group([task("a", 100), task("b", 30)], [3, 1])
    found = first_examples(both, 8)
    assert [example.id for example in found] == [*(f"a/{n}" for n in range(6)), "b/0", "b/1"]
    assert Counter(example.part for example in first_examples(both, None)) == {"a": 90, "b": 30}


def test_weights_are_read() -> None:
    assert members("arc_easy=2, boolq") == [("arc_easy", 2.0), ("boolq", 1.0)]
    assert members("harness:some/file.yaml=0.5,x") == [("harness:some/file.yaml", 0.5), ("x", 1)]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("a=0,b", "'a=0' in 'a=0,b' is no task with a weight"),
        ("a=nan,b", "is no task with a weight"),
        ("a,,b", "'' in 'a,,b' is no task"),
        ("a=,b", "'a=' in"),
        ("a=2,a", "names a twice"),
    ],
)
def test_bad_weights_are_refused(given_: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        members(given_)


def test_tasks_asked_in_different_ways_are_no_group() -> None:
    written = task("b", 50, generation=Generation(False, "exact", 5, ()))
    with pytest.raises(InputError, match=r"a and b are not asked in the same way.*'text'"):
        group([task("a", 50), written], [1, 1])


def test_two_tasks_of_one_name_are_no_group() -> None:
    with pytest.raises(InputError, match=r"two of the tasks are named a, .*another name"):
        group([task("a", 50), task("b", 50), task("a", 60)], [1, 1, 1])


def test_what_one_task_shows_another_asks_in_no_set_of_a_search() -> None:
    shot = Shot("x  7", "no")
    shows = task("a", 50)
    shows = replace(shows, examples=tuple(replace(one, shots=(shot,)) for one in shows.examples))
    both = group([shows, task("b", 50, same="x")], [1, 1])
    assert [example.id for example in both.examples if example.is_shown] == ["b/7"]
    assert len(without_shown(both).examples) == 99


def test_each_example_is_judged_by_its_own_task() -> None:
    text = Generation(False, "exact", 5, ())
    long = python_scorer(lambda text, right: text > right)
    both = group(
        [task("a", 9, generation=text, scorer=long), task("b", 9, generation=text)], [1, 1]
    )
    assert both.scorer is not None
    outcome = Outcome(0, (), "yes", 0.25, Generated("zebra", 1, cut_off=False))
    of_a, of_b = both.examples[0], both.examples[9]
    assert both.scorer(of_a, outcome).score == 1.0
    assert both.scorer(of_b, outcome).score == 0.25
    assert both.scorer.identity == {"a": long.identity, "b": None}


def test_a_group_is_searched_and_told(tiny_folder: Path, tmp_path: Path) -> None:
    for name, count in (("arc_easy", 60), ("piqa", 60)):
        (tmp_path / name).mkdir()
        for split in ("train", "validation", "test"):
            lines = [
                {"question": f"{name} {split} {n}?", "choices": ["yes", "no"], "answer": n % 2}
                for n in range(count)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / name / f"{split}.jsonl").write_text(text)
    both = telltale.load_task("arc_easy,piqa=2", data_dir=tmp_path, shots=1)
    found = telltale.search(str(tiny_folder), both, out=tmp_path / "s", limit=30, max_removed=1)
    document = found.document["task"]
    assert document["name"] == "arc_easy=1,piqa=2"
    assert document["shares"] == {"arc_easy": pytest.approx(1 / 3), "piqa": pytest.approx(2 / 3)}
    assert (document["search_examples"], document["shots"]) == (30, 1)
