"""How the sets are drawn: every group of examples alike, whatever its size and the file's order."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from statistics import fmean, stdev

import pytest

from telltale.errors import InputError
from telltale.study.question import guard_by
from telltale.support.files import sha256_of
from telltale.tasks import Example, Task
from telltale.tasks.group import group
from telltale.tasks.sets import Part, Role, role_from
from telltale.tasks.split import split_examples


def on_passages(sizes: list[int], name: str = "") -> list[Example]:
    """Examples of which so many share each passage; one alone has none."""
    return [
        Example(
            f"{passage}-{number}",
            f"{name}question {number} on {passage}",
            ("yes", "no"),
            number % 2,
            passage=f"{name}passage {passage}" if size > 1 else "",
        )
        for passage, size in enumerate(sizes)
        for number in range(size)
    ]


def task_of(name: str, sizes: list[int]) -> Task:
    return Task(name, tuple(on_passages(sizes, f"{name} ")), "{question}")


MIXED = [1] * 150 + [2] * 30 + [3] * 10 + [6] * 10


def test_every_set_has_the_share_of_shared_passages_that_all_examples_have() -> None:
    examples = on_passages(MIXED)
    share = fmean(bool(one.passage) for one in examples)
    found: dict[str, list[float]] = {"search": [], "held_out": [], "final": []}
    for seed in range(200):
        split = split_examples(examples, limit=80, held_out=80, final=60, seed=seed)
        for name, shares in found.items():
            shares.append(fmean(bool(examples[i].passage) for i in getattr(split, name)))
    for name, shares in found.items():
        # Four standard errors, and what cutting a set's last group may do.
        assert abs(fmean(shares) - share) < 4 * stdev(shares) / 200**0.5 + 0.005, name


def test_the_first_group_of_the_order_is_any_alike_however_large() -> None:
    examples = on_passages(MIXED)
    sizes = Counter(one.passage for one in examples if one.passage)
    first: Counter[int] = Counter()
    for seed in range(300):
        one = examples[split_examples(examples, limit=20, seed=seed).search[0]]
        first[sizes.get(one.passage, 1)] += 1
    for size in set(MIXED):
        chance = MIXED.count(size) / len(MIXED)
        allowed = 4 * (300 * chance * (1 - chance)) ** 0.5
        assert abs(first[size] - 300 * chance) < allowed, size


def test_sets_with_shared_passages_do_not_depend_on_the_files_order() -> None:
    examples = on_passages(MIXED)
    for seed in range(5):
        shuffled = examples[:]
        random.Random(seed).shuffle(shuffled)
        drawn = [
            [[of[i].id for i in indices] for indices in (split.search, split.held_out, split.final)]
            for of in (examples, shuffled)
            for split in [split_examples(of, limit=60, held_out=50, final=40, seed=seed)]
        ]
        assert drawn[0] == drawn[1]


def test_examples_that_share_nothing_keep_the_order_of_their_own_hashes() -> None:
    examples = on_passages([1] * 200)
    split = split_examples(examples, limit=80, held_out=60, seed=3)
    by_hash = sorted(range(200), key=lambda i: sha256_of("3", examples[i].digest))
    assert list(split.search) == by_hash[:80]
    assert list(split.held_out) == by_hash[80:140]


def test_a_final_set_is_the_end_of_the_order_which_other_searches_come_to_last() -> None:
    examples = on_passages([1] * 200)
    without = split_examples(examples, limit=60, held_out=60, seed=3)
    sealed = split_examples(examples, limit=60, held_out=60, final=40, seed=3)
    by_hash = sorted(range(200), key=lambda i: sha256_of("3", examples[i].digest))
    assert set(sealed.final) == set(by_hash[-40:])
    assert (sealed.search, sealed.held_out) == (without.search, without.held_out)


# What is refused


def test_a_share_that_rounds_to_no_example_is_refused() -> None:
    both = group([task_of("arc", [1] * 400), task_of("boolq", [1] * 400)], [1000, 1])
    shares = dict(both.shares)
    with pytest.raises(InputError, match=r"boolq has a share of 0.1%.*search set.*1001 examples"):
        split_examples(both.examples, limit=100, held_out=100, shares=shares)
    fair = group([task_of("arc", [1] * 400), task_of("boolq", [1] * 400)], [60, 1])
    with pytest.raises(
        InputError, match=r"boolq has a share of 1.6%.*in the final set.* 61 examples"
    ):
        split_examples(fair.examples, limit=100, held_out=100, final=20, shares=dict(fair.shares))
    split = split_examples(fair.examples, limit=100, held_out=100, shares=dict(fair.shares))
    assert {fair.examples[i].part for i in split.held_out} == {"arc", "boolq"}


def test_no_set_that_judges_is_of_one_passage() -> None:
    examples = on_passages([40, 40, 20, 20, 20, 60])
    refused, drawn = set(), 0
    for seed in range(60):
        try:
            split = split_examples(examples, limit=40, held_out=40, final=40, seed=seed)
        except InputError as problem:
            refused.add(str(problem).partition(",")[0])
            continue
        drawn += 1
        for indices in (split.held_out, split.final):
            assert len({examples[i].passage for i in indices}) > 1
    assert drawn
    assert {
        "all 40 examples of the held-out set share one passage",
        "all 40 examples of the final set share one passage",
    } <= refused


def test_a_guard_judged_by_one_passage_is_refused() -> None:
    searched = task_of("searched", [1] * 60)
    with pytest.raises(InputError, match=r"`guards` g: all .* share one passage"):
        guard_by(task_of("g", [60, 60]), 0.01, searched, seed=0)
    assert guard_by(task_of("g", [60, 30, 30, 20]), 0.01, searched, seed=0).split.held_out


@pytest.mark.parametrize(
    ("sizes", "asked", "message"),
    [
        # Of what was given, only what is too large is named.
        ([1] * 50, {"held_out": 31, "final": 25}, r"a final set of 25; lower `final` or give"),
        ([1] * 50, {"held_out": 31, "limit": 40}, r"a search set of 40; lower `limit` or give"),
        ([1] * 45 + [50], {"held_out": 31, "limit": 80}, r"a search set of 80; lower `limit` or"),
        (
            [90, 15, 15],
            {"held_out": 31, "limit": 110},
            "^120 examples with 3 different contexts le",
        ),
        ([1] * 30, {"held_out": 31}, "30 examples are too few: .* so give 40 or more"),
    ],
)
def test_a_refusal_names_what_is_too_large(
    sizes: list[int], asked: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        split_examples(on_passages(sizes), **asked)
    assert "`held_out`" not in str(caught.value)


def test_the_task_that_has_too_few_examples_is_named() -> None:
    both = group([task_of("many", [1] * 300), task_of("few", [1] * 22)], [1, 1])
    with pytest.raises(InputError, match=r"22 of them of few with a share of 50%.*few less weight"):
        split_examples(both.examples, limit=30, held_out=30, shares=dict(both.shares))


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("guard", ["", "arc_easy", "my films/search"])
def test_a_role_is_the_text_that_a_file_has(part: Part, guard: str) -> None:
    role = Role(part, guard)
    assert role == (f"guard {guard} {part}" if guard else str(part))
    again = role_from(json.loads(json.dumps({role: 0})).popitem()[0])
    for one in (again, pickle.loads(pickle.dumps(role))):
        assert (one, one.part, one.guard) == (role, part, guard)


def test_a_text_that_names_no_role_is_refused() -> None:
    with pytest.raises(ValueError, match="train"):
        role_from("trained")
